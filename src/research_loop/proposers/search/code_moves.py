"""Moves that constants cannot make: vetted edits of a GPT training script's structure, most promising first.

Each is known from a paper or a public repository, named in its `why`; none carries anyone's tuned values. They are
written for karpathy/autoresearch's train.py and what descends from it, and are skipped where the code is another.
A removal takes along the constants that only it used, so that no dead one is tuned afterwards. None touches the
data, the seed, the clock, or what `evaluate_bpb` is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from research_loop import edits
from research_loop.checks import check_names
from research_loop.errors import ProposalError
from research_loop.proposers.search import ways
from research_loop.proposers.search.rewriting import Edit, rewritten


@dataclass(frozen=True, slots=True)
class CodeMove:
    """The whole edited file, and what an experiment says of it: `name` becomes its `what`."""

    name: str
    source: str
    why: str
    risk: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """`ways`: edits made together, by how the code may be spelled; the first that applies counts.

    `needs`: a regular expression that the file must contain for the move to have any effect.
    """

    name: str
    why: str
    risk: str
    ways: tuple[tuple[Edit, ...], ...]
    needs: str = ""


def code_moves(source: str, recipes: Sequence[Recipe] | None = None) -> Iterator[CodeMove]:
    """The moves that apply to this file, best first, each made when asked for (0.1 s); none if it does not parse."""
    before = edits.key({"train.py": source.encode()})
    for recipe in RECIPES if recipes is None else recipes:
        new = _applied(source, recipe, before)
        if new is not None:
            yield CodeMove(recipe.name, new, recipe.why, recipe.risk)


def _applied(source: str, recipe: Recipe, before: str) -> str | None:
    if not re.search(recipe.needs, source):
        return None
    results = (rewritten(source, way) for way in recipe.ways)
    return next((new for new in results if new is not None and _is_sound(new, before)), None)


def _is_sound(source: str, before: str) -> bool:
    """Whether it is another program than that of this key, and uses no name that went with what was removed."""
    files = {"train.py": source.encode()}
    try:
        check_names(files)
    except ProposalError:
        return False
    return edits.key(files) != before


_NO_GATES: Final = (
    Edit("gate = 2 * torch.sigmoid(self.ve_gates[_i](_x))", ""),
    Edit("gate.unsqueeze(-1) * _v", "{v}"),
    Edit("self.ve_gates = _g", ""),
    Edit("self.gate_channels = _c", ""),
    Edit("(_p, _q, *block.attn.ve_gates)", "({p}, {q})"),
    Edit("gates = _l", ""),
    Edit("Adam(gates, _r)", ""),
)

RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe(
        "Attention: normalised queries and keys times 1.2",
        "Normalised queries and keys bound the attention logits, and so how sharply a head can choose (arXiv "
        "2010.04245 learns a scale for that); a larger fixed one lets heads decide (nanochat has one).",
        "Too sharp an attention spreads gradients over too few positions.",
        ways.each(("_q, _k = norm(_a), norm(_b)", "{q}, {k} = 1.2 * norm({a}), 1.2 * norm({b})")),
    ),
    Recipe(
        "Windows: short layers see a quarter of the context",
        "Most of what a layer needs is near (Longformer, arXiv 2004.05150; Gemma 3, 2503.19786), and that is cheaper.",
        "What lies farther back must travel through the few long layers.",
        ways.each(
            ("config.sequence_len // 2", "config.sequence_len // 4"),
            ("_s = long_window // 2", "{s} = long_window // 4"),
        ),
        needs=r"(?m)^WINDOW_PATTERN\s*=\s*[\"'][SL]*S",
    ),
    Recipe(
        "Muon: one Polar Express step fewer",
        "Each step's coefficients are the best for what the steps before left (arXiv 2505.16932), so the first four "
        "are the best four; Muon needs no exact factor, and the fifth costs time in every update.",
        "Updates a little less orthogonal.",
        ways.each(("(2.3465413258596377, -1.7097828382687081, 0.42323551169305323)", "")),
    ),
    Recipe(
        "Value embeddings: in every layer",
        "Token tables that join the attention values add capacity at next to no arithmetic (modded-nanogpt, after "
        "arXiv 2410.17897); half of the layers have none.",
        "More memory for the tables and their optimizer state; rare tokens' rows are trained little.",
        ways.each(
            ("with_values = [_i for _j in range(DEPTH) if _c]", "with_values = list(range(DEPTH))"),
            ("return _l % 2 == (n_layer - 1) % 2", "return True"),
        ),
        needs=r"(?ms)\A(?!.*^DEPTH\s*=\s*1\b)",  # the only layer has them already
    ),
    Recipe(
        "MLP: ReLU squared -> leaky ReLU squared",
        "Keeps what squaring gave (Primer, arXiv 2109.08668), but a negative input still passes a gradient, so no "
        "unit dies (leaky ReLU: Maas et al., 2013).",
        "Activations are no longer sparse.",
        ways.instead_of_relu_squared("F.leaky_relu({a}, 0.5).square()"),
    ),
    Recipe(
        "Schedule: linear warm-down -> 1 - sqrt",
        "Falls quickly and then spends longer at small rates; better than linear in arXiv 2405.18392.",
        "Less time at high rates, which a short run may need.",
        ways.warm_down("1 - max(0.0, 1 - {n} / WARMDOWN_RATIO) ** 0.5"),
    ),
    Recipe(
        "Weight decay: constant instead of falling to zero",
        "Decay sets the size at which weights settle (arXiv 2310.04415); it already shrinks with the learning rate "
        "that multiplies it, so the second fall may be one too many.",
        "Stronger decay late in the run.",
        ways.each(("WEIGHT_DECAY * (1 - _s)", "WEIGHT_DECAY")),
    ),
    Recipe(
        "MLP: hidden width 4x -> 5x",
        "Most knowledge sits in the MLPs (arXiv 2012.14913), and wider matrices keep the GPU's units busier.",
        "Slower steps and more VRAM.",
        ways.mlp_ratio(5),
    ),
    Recipe(
        "MLP: hidden width 4x -> 3x",
        "Cheaper steps: more tokens in the same seconds, which pays where the model is larger than the budget can "
        "train (arXiv 2203.15556).",
        "Less capacity.",
        ways.mlp_ratio(3),
    ),
    Recipe(
        "Head: starts at zero",
        "The first predictions are exactly uniform, and no early step is spent on undoing random logits (modded-"
        "nanogpt; muP's read-out, arXiv 2203.03466).",
        "The blocks get no gradient in the very first step.",
        ways.each(
            ("nn.init.normal_(self.lm_head.weight, std=_s)", "nn.init.zeros_(self.lm_head.weight)"),
            ("nn.init.normal_(self.lm_head.weight, mean=0.0, std=_s)", "nn.init.zeros_(self.lm_head.weight)"),
            ("torch.nn.init.normal_(self.lm_head.weight, mean=0.0, std=_s)", "nn.init.zeros_(self.lm_head.weight)"),
        ),
    ),
    Recipe(
        "Muon: no momentum warm-up",
        "A simplification: full momentum from the first step, as Muon was published (kellerjordan.github.io/posts/"
        "muon); a warm-up of some hundred steps is a large part of a short run.",
        "The first updates turn more slowly.",
        (
            (
                Edit("MUON_DIP * max(0.0, 1 - step / _n, _e)", "MUON_DIP * max(0.0, {e})"),
                Edit("MUON_DIP_STEPS = _c", ""),
            ),
            (  # as ours had it until 2026-12-01
                Edit("momentum = MUON_MOMENTUM - _a * max(0.0, 1 - step / _n)", ""),
                Edit("muon.step(_r, momentum, _d)", "muon.step({r}, MUON_MOMENTUM, {d})"),
            ),
            (Edit("_w = min(step / _n, 1)", ""), Edit("(1 - _w) * _l + _w * _h", "{h}")),
        ),
    ),
    Recipe(
        "Logits: no soft cap",
        "A simplification: Gemma 3 dropped the cap of Gemma 2 (arXiv 2503.19786) once queries and keys were "
        "normalised; it costs memory traffic over the whole vocabulary.",
        "Over-confident logits early in training.",
        (
            (
                Edit(ways.FUSED_NATS, f'return F.cross_entropy({ways.uncapped("{x}")}, {{t}}, reduction="none")'),
                Edit("_l = SOFTCAP * torch.tanh(_l / SOFTCAP)", ""),
                Edit("SOFTCAP = _c", ""),
            ),
            (
                Edit(ways.capped("_x"), ways.uncapped("{x}")),
                Edit("_l = SOFTCAP * torch.tanh(_l / SOFTCAP)", ""),
                Edit("SOFTCAP = _c", ""),
            ),
            (Edit("_l = SOFTCAP * torch.tanh(_l / SOFTCAP)", ""), Edit("SOFTCAP = _c", "")),
            (Edit("_l = self.softcap * torch.tanh(_l / self.softcap)", ""), Edit("softcap = _c", "")),
            (Edit("_l = softcap * torch.tanh(_l / softcap)", ""), Edit("softcap = _c", "")),
        ),
    ),
    Recipe(
        "Value embeddings: no gate",
        "A simplification: the tables can learn their own size; the plain sum is what arXiv 2410.17897 has.",
        "No head can turn the tables off.",
        (
            (*_NO_GATES, Edit("GATE_CHANNELS = _k", "")),
            _NO_GATES,  # as ours had it until 2026-12-01
            (
                Edit("gate = 2 * torch.sigmoid(self.ve_gate(_x))", ""),
                Edit("gate.unsqueeze(-1) * _v", "{v}"),
                Edit("gated = has_value_embedding(_i, _n)", ""),
                Edit("self.ve_gate = _g", ""),
                Edit("gate_channels = _c", ""),
                Edit("if block.attn.ve_gate is not None:\n    nn.init.zeros_(block.attn.ve_gate.weight)", ""),
            ),
        ),
    ),
    Recipe(
        "Residual stream: no scale before each block",
        "A simplification: normalisation undoes much of a scale, and the blocks' own matrices can learn the rest; "
        "the plain residual of arXiv 1512.03385.",
        "Layers can no longer fade what came before.",
        (
            (
                Edit("self.resid_lambdas[_i] * _x", "{x}"),
                Edit("self.resid_lambdas = nn.Parameter(_p)", ""),
                Edit("Adam([model.resid_lambdas], _r)", ""),
            ),
            (
                Edit("self.resid_lambdas[_i] * _x", "{x}"),
                Edit("self.resid_lambdas = nn.Parameter(_p)", ""),
                Edit("self.resid_lambdas.fill_(_v)", ""),
                Edit('{**adam, "params": [self.resid_lambdas], "lr": _r}', ""),
            ),
        ),
    ),
    Recipe(
        "Muon: no second moment of rows",
        "A simplification: plain Muon (kellerjordan.github.io/posts/muon) makes updates of equal size in all "
        "directions by itself, without NorMuon's (arXiv 2510.05491) extra pass and state.",
        "Rows that get large updates keep them.",
        (
            (
                Edit("second_moment.lerp_(update.square().mean(-1, keepdim=True), _b)", ""),
                Edit("scaled = update * second_moment.clamp_min(_m).rsqrt()", ""),
                Edit("update = scaled * (matrix_norm(update) / matrix_norm(scaled).clamp_min(_m))", ""),
                Edit(
                    "def muon_step(params, grads, momentum_buffer, second_moment, lr, momentum, decay): ...",
                    "def muon_step(params, grads, momentum_buffer, lr, momentum, decay): ...",
                ),
                Edit("self.second_moment = _z", ""),
                Edit("muon_step(_p, _g, _f, self.second_moment, *dials)", "muon_step({p}, {g}, {f}, *dials)"),
                Edit("MUON_BETA2 = _c", ""),
            ),
        ),
    ),
    Recipe(
        "Loss: z-loss of 1e-4 while training",
        "Pulls the logits' normaliser towards zero, which keeps them from drifting (PaLM, arXiv 2204.02311). Only "
        "the gradient that training uses has it; the losses and logits that are scored stay as they are.",
        "One more pass over the logits, and their memory.",
        ways.each(
            *(
                (
                    f"return F.cross_entropy(_f, _t{ignore}, reduction=reduction)",
                    f"loss = F.cross_entropy({{f}}, {{t}}{ignore}, reduction=reduction)\n"
                    'return loss + 1e-4 * logits.logsumexp(-1).square().mean() if reduction == "mean" else loss',
                )
                for ignore in ("", ", ignore_index=-1")
            ),
            (ways.FUSED_NATS, f"logits = {ways.capped('{x}')}\n{ways.PULLED}"),
            (
                f'return F.cross_entropy({ways.uncapped("_x")}, _t, reduction="none")',
                f"logits = {ways.uncapped('{x}')}\n{ways.PULLED}",
            ),
        ),
        needs=r'reduction="mean"\):',
    ),
    Recipe(
        "Adam: epsilon 1e-10 -> 1e-8",
        "Rarely seen rows have next to no second moment: noise gets full-size steps; 1e-8 is arXiv 1412.6980's.",
        "Rare tokens learn more slowly.",
        ways.each(
            ("ADAM_EPS = 1e-10", "ADAM_EPS = 1e-8"),
            (
                '{"kind": "adamw", "betas": ADAM_BETAS, "eps": 1e-10, "weight_decay": _d}',
                '{"kind": "adamw", "betas": ADAM_BETAS, "eps": 1e-8, "weight_decay": {d}}',
            ),
        ),
    ),
    Recipe(
        "Embedding: not normalised",
        "A simplification, as in GPT-2: every block normalises its input; sizes may say how much a token matters.",
        "The residual stream's size varies from token to token.",
        ways.each(
            ("norm(embedding)", "embedding"),
            ("norm(self.wte(_i).to(DTYPE))", "self.wte({i}).to(DTYPE)"),
            ("norm(self.transformer.wte(_i))", "self.transformer.wte({i})"),
        ),
    ),
    Recipe(
        "Residual stream: no embedding added back",
        "A simplification: the residual stream carries the embedding already (the plain form of arXiv 1512.03385; "
        "modded-nanogpt has the extra path).",
        "Late layers lose their direct sight of the token.",
        (
            (
                Edit("_r + self.x0_lambdas[_i] * x0", "{r}"),
                Edit("x = x0 = _e", "x = {e}"),
                Edit("self.x0_lambdas = nn.Parameter(_p)", ""),
                Edit("Adam([model.x0_lambdas], SCALAR_LR, betas=_b)", ""),
                Edit("X0_INIT = _c", ""),
            ),
            (
                Edit("_r + self.x0_lambdas[_i] * x0", "{r}"),
                Edit("x0 = x", ""),
                Edit("self.x0_lambdas = nn.Parameter(_p)", ""),
                Edit("self.x0_lambdas.fill_(_v)", ""),
                Edit('{**adam, "params": [self.x0_lambdas], "lr": SCALAR_LR, "betas": _b}', ""),
            ),
        ),
    ),
    Recipe(
        "Muon: plain weight decay instead of cautious",
        "A simplification: decoupled decay as in AdamW (arXiv 1711.05101), everywhere and not only where the update "
        "points the same way.",
        "Decay works against updates that make a weight larger.",
        (
            (
                Edit("update = update + decay * params * (update * params >= 0)", ""),
                Edit("params - lr * update", "params - lr * (update + decay * params)"),
            ),
            (Edit("mask = _g * _p >= 0", ""), Edit("_a * mask", "{a}")),
            (Edit("_a * (_g * _p >= 0)", "{a}"),),
        ),
    ),
    Recipe(
        "Schedule: linear warm-down -> cosine",
        "Flat at both ends (SGDR, arXiv 1608.03983): more time at high rates first, and a gentle landing.",
        "Steeper in the middle; linear was the better one in arXiv 2502.15938.",
        ways.warm_down("0.5 - 0.5 * math.cos(math.pi * ({n} / WARMDOWN_RATIO))"),
    ),
    Recipe(
        "MLP: ReLU squared -> GELU",
        "Smooth, and negative inputs keep a gradient (arXiv 1606.08415).",
        "Primer (arXiv 2109.08668) found ReLU squared the better of the two.",
        ways.instead_of_relu_squared("F.gelu({a})"),
    ),
    Recipe(
        "MLP: ReLU squared -> SiLU",
        "Smooth, unbounded and not monotone (arXiv 1710.05941); its output grows linearly, so no unit dominates.",
        "Loses the sparse, sharp response of squaring.",
        ways.instead_of_relu_squared("F.silu({a})"),
    ),
    Recipe(
        "MLP: ReLU squared -> SwiGLU of 3x",
        "A gate that multiplies makes each unit a product of two features (arXiv 2002.05202); 3x has about the "
        "parameters of a plain MLP of 4x.",
        "A ninth more weights, and one matrix of 6x for Muon.",
        ways.mlp_and_forward(
            "6 * {w}", "3 * {w}", "gate, up = self.c_fc({x}).chunk(2, dim=-1)\nreturn self.c_proj(F.silu(gate) * up)"
        ),
    ),
    Recipe(
        "Block: attention and MLP side by side",
        "Both read the same input, which halves the depth of the graph (GPT-J; PaLM, arXiv 2204.02311) and drops "
        "one normalisation where the compiler shares it.",
        "The MLP no longer sees what its own layer attended to; small models lose by it.",
        tuple(
            (
                Edit(f"_x = _x + self.attn(norm(_x), {plain})", ""),
                Edit(
                    "return _x + self.mlp(norm(_x))",
                    f"return {{x}} + self.attn(norm({{x}}), {slots}) + self.mlp(norm({{x}}))",
                ),
            )
            for plain, slots in (("_a, _b", "{a}, {b}"), ("_a, _b, _c", "{a}, {b}, {c}"))
        ),
    ),
)
