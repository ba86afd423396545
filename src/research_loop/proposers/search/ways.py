"""How the code that a move edits may be spelled: in our train.py, and in karpathy/autoresearch's and its heirs."""

from __future__ import annotations

from research_loop.proposers.search.rewriting import Edit

FUSED_MLP = "return squared_mlp(_x, self.c_fc.weight, self.c_proj.weight)"
"""Ours: it has its plain code and its kernels inside, and a move goes around both. So it comes first."""

FUSED_NATS = "return capped_nats(_x, self.lm_head.weight, _t, SOFTCAP)"
PULLED = (
    "pull = 1e-4 * logits.logsumexp(-1).square()\n"
    'return F.cross_entropy(logits, {t}, reduction="none") + (pull - pull.detach())'
)


def uncapped(x: str) -> str:
    return f"self.lm_head({x}).float()"


def capped(x: str) -> str:
    """What takes FUSED_NATS apart has one of these, and the next move has to find it."""
    return f"SOFTCAP * torch.tanh({uncapped(x)} / SOFTCAP)"


def each(*ways: tuple[str, str]) -> tuple[tuple[Edit, ...], ...]:
    """Ways of one edit each."""
    return tuple((Edit(old, new),) for old, new in ways)


def instead_of_relu_squared(new: str) -> tuple[tuple[Edit, ...], ...]:
    spellings = ("F.relu(_a).square()", "F.relu(_a).pow(2)", "F.relu(_a) ** 2", "torch.square(F.relu(_a))")
    whole = f"return self.c_proj({new.replace('{a}', 'self.c_fc({x})')})"
    return each((FUSED_MLP, whole), *((old, new) for old in spellings))


def mlp_ratio(ratio: int) -> tuple[tuple[Edit, ...], ...]:
    return mlp(f"{ratio} * {{w}}", f"{ratio} * {{w}}")


def mlp(out: str, into: str, *more: Edit) -> tuple[tuple[Edit, ...], ...]:
    """The MLP's two matrices at other sizes: `out` of the first and `into` the second."""
    spellings = (("Linear", ""), ("nn.Linear", ", bias=False"))
    return tuple(
        (
            Edit(f"{kind}(_w, 4 * _w{bias})", f"{kind}({{w}}, {out}{bias})"),
            Edit(f"{kind}(4 * _w, _w{bias})", f"{kind}({into}, {{w}}{bias})"),
            *more,
        )
        for kind, bias in spellings
    )


def warm_down(shape: str) -> tuple[tuple[Edit, ...], ...]:
    """`shape` of {n} / WARMDOWN_RATIO, the linear one: 1 where it starts and 0 at the end."""
    lefts = ("max(0.0, 1 - _s)", "(1 - _s)")
    return tuple(
        (Edit(f"_l = {n} / WARMDOWN_RATIO", f"{{l}} = {shape.format(n=n.replace('_s', '{s}'))}"),) for n in lefts
    )


def mlp_and_forward(out: str, into: str, forward: str) -> tuple[tuple[Edit, ...], ...]:
    """The MLP's two matrices at other sizes, and another body of its forward(x)."""
    bodies = (FUSED_MLP, "return self.c_proj(F.relu(self.c_fc(_x)).square())")
    return tuple(way for body in bodies for way in mlp(out, into, Edit(body, forward)))
