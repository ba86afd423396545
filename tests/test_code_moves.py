"""Moves of code are made where they fit and nowhere else, and what they make trains."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from research_loop import edits
from research_loop.proposers.search import changes
from research_loop.proposers.search.code_moves import RECIPES, CodeMove, code_moves
from research_loop.proposers.search.rewriting import Edit, rewritten

ROOT = Path(__file__).parents[1]
OURS = (ROOT / "src" / "research_loop" / "labs" / "gpt" / "train.py").read_text()
STOCK = (ROOT / "benchmarks" / "stock_train.py").read_text()
NAMES = [recipe.name for recipe in RECIPES]
NOT_STOCK = {"Muon: no second moment of rows"}
NOT_OURS = {"Windows: short layers see a quarter of the context"}  # ours has a dial for that
SMALL = {"DEPTH": 2, "HEAD_DIM": 32, "ASPECT_RATIO": 32, "DEVICE_BATCH_SIZE": 4, "TOTAL_BATCH_SIZE": 512}
SMALL_OURS = {**SMALL, "WINDOW_PATTERN": "SL"}


def by_name(source: str) -> dict[str, CodeMove]:
    return {move.name: move for move in code_moves(source)}


def applies(name: str, source: str) -> bool:
    """Whether this one of the moves can be made."""
    return bool(list(code_moves(source, [recipe for recipe in RECIPES if recipe.name == name])))


@pytest.fixture(scope="module")
def ours() -> dict[str, CodeMove]:
    """Every move of our train.py, made small."""
    return by_name(edits.replace(OURS, SMALL_OURS))


@pytest.fixture(scope="module")
def stock() -> dict[str, CodeMove]:
    return by_name(edits.replace(STOCK, SMALL))


# ---------------------------------------------------------------------------------------------------------- the table


def test_every_move_applies_to_our_script_and_nearly_every_one_to_upstreams(
    ours: dict[str, CodeMove], stock: dict[str, CodeMove]
) -> None:
    assert list(ours) == [name for name in NAMES if name not in NOT_OURS]
    assert len(set(NAMES)) == len(NAMES) >= 14
    assert list(stock) == [name for name in NAMES if name not in NOT_STOCK]


def test_a_move_says_why_with_its_source_and_is_not_taken_for_a_change_of_constants() -> None:
    for recipe in RECIPES:
        assert re.search(r"arXiv|nanochat|modded-nanogpt|GPT-2|kellerjordan|et al\.", recipe.why), recipe.name
        assert recipe.risk.endswith(".") and recipe.why.endswith("."), recipe.name
        assert len(recipe.name) <= 60 and changes.read(recipe.name) is None, recipe.name


UNTOUCHED = (
    r"TIME_BUDGET|UNTIMED_STEPS|\bSEED\b|time\.time|Tokenizer|make_dataloader|evaluate_bpb|print\(|synchronize"
    r"|os\.environ|manual_seed|sys\.exit"
)


def test_no_move_touches_the_data_the_seed_the_clock_or_the_report(
    ours: dict[str, CodeMove], stock: dict[str, CodeMove]
) -> None:
    for source, moves in ((edits.replace(OURS, SMALL_OURS), ours), (edits.replace(STOCK, SMALL), stock)):
        kept = [line for line in source.splitlines() if re.search(UNTOUCHED, line)]
        for move in moves.values():
            assert [line for line in move.source.splitlines() if re.search(UNTOUCHED, line)] == kept, move.name


def test_a_removal_is_shorter_and_leaves_no_constant_that_nothing_reads(
    ours: dict[str, CodeMove], stock: dict[str, CodeMove]
) -> None:
    for source, moves in ((edits.replace(OURS, SMALL_OURS), ours), (edits.replace(STOCK, SMALL), stock)):
        for move in moves.values():
            assert unread(move.source) <= unread(source), move.name
            if "no " in move.name.split(": ")[1] or "fewer" in move.name:
                assert len(move.source.splitlines()) < len(source.splitlines()), move.name


def unread(source: str) -> set[str]:
    """Constants that are bound and never read."""
    names = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and node.id.isupper()]
    return {node.id for node in names} - {node.id for node in names if isinstance(node.ctx, ast.Load)}


def test_a_move_that_was_made_is_not_made_again(ours: dict[str, CodeMove]) -> None:
    for name, move in ours.items():
        assert not applies(name, move.source), name


def test_moves_of_the_loss_can_both_be_made(ours: dict[str, CodeMove]) -> None:
    first, second = "Logits: no soft cap", "Loss: z-loss of 1e-4 while training"
    assert applies(second, ours[first].source) and applies(first, ours[second].source)


def test_a_file_of_another_kind_or_none_has_no_moves() -> None:
    assert list(code_moves("LEARNING_RATE = 0.1\nprint(LEARNING_RATE)\n")) == []
    assert list(code_moves("def f(:\n")) == []
    assert list(code_moves("x = " + "-" * 20_000 + "y")) == []


def test_windows_that_no_layer_has_are_not_shortened() -> None:
    name = "Windows: short layers see a quarter of the context"
    assert applies(name, STOCK) and not applies(name, edits.replace(STOCK, {"WINDOW_PATTERN": "L"}))


def test_a_removal_whose_constant_is_used_elsewhere_is_skipped() -> None:
    used = OURS.replace("def norm(x):", "def headroom(x):\n    return SOFTCAP - x.abs().max()\n\n\ndef norm(x):")
    assert applies("Logits: no soft cap", OURS) and not applies("Logits: no soft cap", used)


# ------------------------------------------------------------------------------------------------------- what it makes


def loaded(source: str) -> ModuleType:
    module = ModuleType("research_loop")  # a dataclass looks its module up
    exec(compile(source, "train.py", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_OURS])
def test_every_moved_script_of_ours_trains_and_answers(
    name: str, ours: dict[str, CodeMove], prepare: ModuleType
) -> None:
    train = loaded(ours[name].source)
    torch.manual_seed(0)
    model = train.GPT(prepare.VOCAB_SIZE)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = train.Optimizer(model)
    batches = prepare.make_dataloader(prepare.Tokenizer.from_directory(), 4, prepare.MAX_SEQ_LEN, "train")
    for step in range(5):
        x, y, _ = next(batches)
        loss = model(x, y)
        loss.backward()
        optimizer.step(step / 5, step)
        assert loss.isfinite()
    still = [key for key, value in model.state_dict().items() if torch.equal(value, before[key])]
    assert not still, "every weight is trained"
    answers(model, x, y)


def answers(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """The contract of evaluate_bpb: logits without targets, and with them their cross-entropy at each place."""
    with torch.no_grad():
        logits, nats = model(x), model(x, y, reduction="none")
    assert logits.shape == (*x.shape, 1024) and nats.numel() == y.numel()
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    torch.testing.assert_close(nats.flatten(), expected)
    assert math.isfinite(nats.mean()) and nats.mean() < math.log(1024) + 1


def until_training(source: str) -> str:
    """Upstream's script up to the loop, which waits for eleven untimed steps; and two steps as its loop makes them."""
    tree = ast.parse(source)
    loop = next(i for i, node in enumerate(tree.body) if isinstance(node, ast.While))
    whole = tree.body[loop]
    assert isinstance(whole, ast.While)
    end = next(i for i, node in enumerate(whole.body) if ast.unparse(node).startswith("model.zero_grad"))
    steps = ast.For(ast.Name("step", ast.Store()), ast.parse("range(2)").body[0].value, whole.body[: end + 1], [])  # type: ignore[attr-defined]
    return ast.unparse(ast.fix_missing_locations(ast.Module([*tree.body[:loop], steps], [])))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_STOCK])
def test_every_moved_script_of_upstreams_trains_and_answers(
    name: str, stock: dict[str, CodeMove], prepare: ModuleType
) -> None:
    train = loaded(until_training(stock[name].source))
    assert math.isfinite(train.train_loss)
    assert all(not p.isnan().any() for p in train.model.parameters())
    with train.autocast:
        answers(train.model, train.x, train.y)


def test_the_z_loss_is_in_the_gradient_alone(ours: dict[str, CodeMove], prepare: ModuleType) -> None:
    name = "Loss: z-loss of 1e-4 while training"
    plain, moved = loaded(edits.replace(OURS, SMALL_OURS)), loaded(ours[name].source)
    models = []
    for train in (plain, moved):
        torch.manual_seed(0)
        models.append(train.GPT(1024))
    x = torch.randint(0, 1000, (2, 64))
    with torch.no_grad():
        (before, after), logits = [m(x, x, reduction="none") for m in models], [model(x) for model in models]
    assert torch.equal(before, after) and torch.equal(*logits)
    heads = [model.lm_head.weight for model in models]
    gradients = [torch.autograd.grad(m(x, x), head)[0] for m, head in zip(models, heads, strict=True)]
    (pull,) = torch.autograd.grad(1e-4 * models[0](x).logsumexp(-1).square().mean(), heads[0])
    assert pull.norm() > 1e-6
    torch.testing.assert_close(gradients[1], gradients[0] + pull, rtol=0.02, atol=2e-4)  # bf16 where it is fast


@pytest.mark.parametrize("shape", ["1 - sqrt", "cosine"])
@pytest.mark.parametrize("warm_down", [0.3, 0.5, 1.0])
def test_a_warm_down_of_another_shape_starts_and_ends_where_the_linear_one_does(
    shape: str, warm_down: float, ours: dict[str, CodeMove], stock: dict[str, CodeMove]
) -> None:
    for moves, function in ((ours, "lr_multiplier"), (stock, "get_lr_multiplier")):
        source = moves[f"Schedule: linear warm-down -> {shape}"].source
        body = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == function]
        names = {"math": math, "WARMUP_RATIO": 0.0, "WARMDOWN_RATIO": warm_down, "FINAL_LR_FRAC": 0.1}
        exec(ast.unparse(body[0]), names)
        rates = [names[function](1 - warm_down * left / 100) for left in range(100, -1, -1)]  # type: ignore[operator]
        assert rates[0] == pytest.approx(1.0) and rates[-1] == pytest.approx(0.1)
        assert rates == sorted(rates, reverse=True)


# --------------------------------------------------------------------------------------------------------- the engine


def test_a_placeholder_that_stands_twice_must_match_the_same() -> None:
    doubled = Edit("_a + _a", "2 * {a}")
    assert rewritten("y = f(x, 1) + f(x, 1)\n", [doubled]) == "y = 2 * f(x, 1)\n"
    assert rewritten("y = f(x, 1) + f(x, 2)\n", [doubled]) is None


def test_a_placeholder_stays_the_same_from_edit_to_edit() -> None:
    both = [Edit("f(_a)", "g({a})"), Edit("h(_a)", "")]
    assert rewritten("f(x)\nh(x)\n", both) == "g(x)\n"
    assert rewritten("f(x)\nh(y)\n", both) is None


def test_what_is_not_matched_stays_byte_for_byte() -> None:
    source = "# début\nx  =  [ 1,2 ]  # a list\nif x :\n\ty=relu( x )  # é\n\n\n\n'''tail'''"
    assert rewritten(source, [Edit("relu(_a)", "gelu({a})")]) == source.replace("relu( x )", "gelu(x)")


def test_a_pattern_that_matches_more_or_less_often_than_it_may_is_skipped() -> None:
    twice = "a = relu(x)\nb = relu(y)\n"
    assert rewritten(twice, [Edit("relu(_a)", "gelu({a})")]) is None
    assert rewritten(twice.replace("y", "x"), [Edit("relu(_a)", "gelu({a})")]) is None
    assert (
        rewritten(twice.replace("(y)", "(x)"), [Edit("relu(_a)", "gelu({a})", times=2)]) == "a = gelu(x)\nb = gelu(x)\n"
    )
    assert rewritten(twice, [Edit("relu(_a)", "gelu({a})", times=2)]) is None, "not of the same"
    assert rewritten("a = x\n", [Edit("relu(_a)", "gelu({a})")]) is None
    assert rewritten("relu(relu(x))\n", [Edit("relu(_a)", "gelu({a})")]) is None


def test_what_stands_in_for_a_placeholder_keeps_its_meaning() -> None:
    edit = Edit("y = f(_a)", "y = 1 - {a} / 2")
    assert rewritten("y = f(x + 1)\n", [edit]) == "y = 1 - (x + 1) / 2\n"
    assert rewritten("y = f(x)\n", [edit]) == "y = 1 - x / 2\n"
    assert rewritten("y = f(\n    x\n    + 1\n)\n", [Edit("y = f(_a)", "y = {a}")]) == "y = (x\n    + 1)\n"


def test_an_edit_that_would_read_differently_in_its_place_is_skipped() -> None:
    edit = Edit("f(_a)", "{a} + 1")
    assert rewritten("y = f(x)\n", [edit]) == "y = x + 1\n"
    assert rewritten("y = 2 * f(x)\n", [edit]) is None
    assert rewritten("if x: f(x)\n", [Edit("f(_a)", "")]) is None, "an if without a body"
    assert rewritten("a = 1; f(x)\n", [Edit("f(_a)", "")]) is None, "another statement on its line"


def test_a_deletion_takes_whole_lines_and_the_comments_of_what_goes() -> None:
    source = "a = 1\n# why b\n# at all\nb = f(  # here\n    a,\n)  # there\n# why c\nc = 3\n"
    assert rewritten(source, [Edit("b = f(a)", "")]) == "a = 1\n# why c\nc = 3\n"
    listed = "x = [\n    f(1),\n    g(2),  # second\n    h(3),\n]\n"
    assert rewritten(listed, [Edit("g(_a)", "")]) == "x = [\n    f(1),\n    h(3),\n]\n"
    assert rewritten("x = [f(1), g(2)]\n", [Edit("g(_a)", "")]) is None


def test_a_statement_may_become_several_at_its_indentation() -> None:
    source = "def f(x):\n    if x:\n        return g(x)  # the old way\n"
    assert rewritten(source, [Edit("return g(_a)", "y = h({a})\nreturn y + {a}")]) == (
        "def f(x):\n    if x:\n        y = h(x)\n        return y + x\n"
    )


def test_arguments_of_a_function_change_and_its_body_does_not() -> None:
    edit = Edit("def f(a, b, c): ...", "def f(a, c): ...")
    assert rewritten("@once\ndef f(a, b,  c):  # three\n    return a  +  c\n", [edit]) == (
        "@once\ndef f(a, c):  # three\n    return a  +  c\n"
    )
    assert rewritten("def f(a, b):\n    return a\n", [edit]) is None


def test_a_number_matches_its_equal_but_a_truth_does_not() -> None:
    assert rewritten("y = 1.0 - x\n", [Edit("1 - _a", "{a}")]) == "y = x\n"
    assert rewritten("y = True - x\n", [Edit("1 - _a", "{a}")]) is None


@pytest.mark.parametrize("count", range(6, 11))
def test_after_a_rewriting_of_many_edits_the_next_one_still_finds_its_places(count: int) -> None:
    source = "".join(f"{name}{count} = 1\n" for name in "abcdefghijkl")
    many = [Edit(f"{name}{count} = 1", f"{name}{count} = 2") for name in "abcdefghij"[:count]]
    assert rewritten(source, many) == source.replace("= 1", "= 2", count)
    assert rewritten(source, [Edit(f"k{count} = 1", "")]) == source.replace(f"k{count} = 1\n", "")


def test_value_embeddings_in_every_layer_are_no_move_where_there_is_one_layer() -> None:
    name = "Value embeddings: in every layer"
    assert applies(name, OURS) and not applies(name, edits.replace(OURS, {"DEPTH": 1}))


def test_without_its_warm_up_the_momentum_still_falls_at_the_end(
    ours: dict[str, CodeMove], prepare: ModuleType
) -> None:
    train = loaded(ours["Muon: no momentum warm-up"].source)
    assert train.muon_momentum(1.0, 1000) < train.MUON_MOMENTUM == train.muon_momentum(0.0, 0)
