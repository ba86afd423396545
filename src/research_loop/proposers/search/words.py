"""What a turn of a dial may be good for, and what may go wrong: by what the name says, and by its kind where it says
nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from research_loop.edits import Value
from research_loop.proposers.search.couplings import role
from research_loop.proposers.search.dials import Dial, dials, directions
from research_loop.proposers.search.lessons import turns_of

MLP: Final = r"(MLP|FFN?|FEED_FORWARD)_(MULT|RATIO|EXPANSION|FACTOR)|EXPANSION"
_MEANINGS: Final[tuple[tuple[str, str], ...]] = (
    ("device batch", r"(DEVICE|MICRO|MINI)_?BATCH(_SIZE)?"),
    ("batch", r".*BATCH.*|(.*_)?TOKENS_PER_STEP|(GRADIENT|GRAD)_ACCUM(ULATION)?(_STEPS)?"),
    ("final rate", r"(MIN|FINAL|END)_(LR|LEARNING_RATE)(_.*)?"),
    ("warmup", r"(.*_)?WARMUP(_.*)?"),
    ("warmdown", r"(.*_)?(WARMDOWN|COOLDOWN)(_.*)?"),
    ("decay steps", r"(LR_)?DECAY_(ITERS|STEPS)"),
    ("weight decay", r"(.*_)?WEIGHT_DECAY|WD"),
    ("dropout", r"(.*_)?(DROPOUT|P?DROP)(_.*)?"),
    ("smoothing", r"(.*_)?SMOOTHING(_.*)?"),
    ("clip", r"(.*_)?(GRAD|GRADIENT)?CLIP(_.*)?|(MAX_)?(GRAD|GRADIENT)_?NORM(_.*)?|MAX_NORM"),
    ("cap", r"(.*_)?(SOFT_?)?CAP(_.*)?"),
    ("rotary base", r"RO(PE|TARY)_(BASE|THETA)"),
    ("initial", r"(.*_)?INIT(_.*)?"),
    ("depth", r"DEPTH|(.*_)?LAYERS?|N_BLOCKS?"),
    ("heads", r"(.*_)?HEADS?"),
    ("head size", r"HEAD_(DIM|SIZE|WIDTH)|D_HEAD"),
    ("table", r"(.*_)?(TABLE|ROWS|BUCKETS|TABLE_SIZE)"),
    ("window", r"(.*_)?WINDOW(_SIZE)?"),
    ("mlp", MLP),
)
_REASONS: Final[Mapping[tuple[str, int], str]] = {
    ("device batch", 1): "more rows a pass may keep the GPU busier, so that the same seconds see more tokens.",
    ("device batch", -1): "fewer rows a pass free memory and may fit the GPU's caches better.",
    ("batch", 1): "smoother gradients, and less of the time goes to the optimizer; they bear higher rates.",
    ("batch", -1): "more steps in the same time, if noisier ones.",
    ("final rate", 1): "the last steps still teach something.",
    ("final rate", -1): "a lower rate at the end averages out more of the gradients' noise.",
    ("warmup", 1): "a gentler start lets the optimizer's averages form, and higher rates are borne later.",
    ("warmup", -1): "less of a short run goes by at rates that teach little.",
    ("warmdown", 1): "a longer decay averages out more of the gradients' noise.",
    ("warmdown", -1): "more of the run learns at the full rate.",
    ("decay steps", 1): "the rate stays high for longer.",
    ("decay steps", -1): "the decay ends within the steps that the run gets.",
    ("weight decay", 1): "smaller weights keep the effective learning rate high until the end.",
    ("weight decay", -1): "where little is seen twice there is little to regularise, and decay slows learning.",
    ("dropout", 1): "a model that sees its data often learns less of it by heart.",
    ("dropout", -1): "who sees each token about once cannot learn it by heart; dropout then slows learning.",
    ("smoothing", 1): "less certain targets keep the logits small.",
    ("smoothing", -1): "the score is the likelihood of the text itself, so train for that.",
    ("clip", 1): "where most gradients are clipped the clip sets the step; a looser one lets it be larger.",
    ("clip", -1): "rare, huge gradients undo less.",
    ("cap", 1): "rare but certain predictions can be expressed.",
    ("cap", -1): "logits that stay smaller are not over-confident early in training.",
    ("rotary base", 1): "slower rotations help attention by content over long distances.",
    ("rotary base", -1): "faster rotations tell near positions apart more clearly.",
    ("initial", 1): "a larger start carries a stronger signal from the first step.",
    ("initial", -1): "a smaller start makes the first updates relatively larger.",
    ("depth", 1): "more layers add steps of computation for each token.",
    ("depth", -1): "fewer layers make every step faster: more tokens in the same seconds.",
    ("heads", 1): "more heads attend to more things at once.",
    ("heads", -1): "fewer heads are larger and run faster.",
    ("head size", 1): "larger heads run faster, and each compares more features.",
    ("head size", -1): "smaller heads are more at the same width, and attend to more things at once.",
    ("table", 1): "fewer collisions: each row stands for fewer things.",
    ("table", -1): "each row is seen more often, and there is less to move.",
    ("window", 1): "local layers see more of what came before.",
    ("window", -1): "most of what predicts a token is near, and attention gets cheaper.",
    ("mlp", 1): "most of what a transformer knows is in its MLPs, whose large products keep the GPU busy.",
    ("mlp", -1): "smaller MLPs make every step faster: more tokens in the same seconds.",
    ("rate", 1): "a larger learning rate makes more of few steps.",
    ("rate", -1): "smaller steps are less noisy, and may settle lower.",
    ("beta", 1): "a longer average smooths out the noise of single batches.",
    ("beta", -1): "a shorter average follows the gradients' change more quickly.",
    ("width", 1): "a wider model learns more from each token and keeps the GPU busier.",
    ("width", -1): "a narrower model sees more tokens in the same seconds.",
    ("size", 1): "more capacity, where this is what the model lacks.",
    ("size", -1): "less work a step: more of them in the same seconds.",
    ("count", 1): "more of it adds capacity, where this is what the model lacks.",
    ("count", -1): "less of it saves time on every step.",
    ("ratio", 1): "a larger share may suit this budget better.",
    ("ratio", -1): "a smaller share may suit this budget better.",
    ("scale", 1): "nobody knows that it is large enough for this budget.",
    ("scale", -1): "nobody knows that it needs to be so large for this budget.",
    ("pattern", 1): "more layers see the whole context.",
    ("pattern", -1): "shorter windows save attention time on every step.",
    ("switch", 1): "what is off may be worth its cost.",
    ("switch", -1): "what is on may not be worth its cost.",
}
_RISKS: Final[Mapping[tuple[str, int], str]] = {
    ("device batch", 1): "More VRAM.",
    ("device batch", -1): "A GPU that is less busy.",
    ("batch", 1): "Fewer updates; more VRAM, unless gradients are accumulated.",
    ("batch", -1): "Noisier gradients.",
    ("final rate", 1): "Some noise stays in the final weights.",
    ("final rate", -1): "The last steps teach less.",
    ("warmup", 1): "Time at low learning rates.",
    ("warmup", -1): "Instability in the first steps.",
    ("warmdown", 1): "Less time at the full rate.",
    ("warmdown", -1): "More noise in the final weights.",
    ("decay steps", 1): "The rate may not have fallen when the run ends.",
    ("decay steps", -1): "Time at the lowest rate.",
    ("weight decay", 1): "Erases some of what was learned.",
    ("weight decay", -1): "Weights may grow until learning slows.",
    ("dropout", 1): "Slower learning.",
    ("dropout", -1): "Overfits where the data is small.",
    ("smoothing", 1): "Trains for another score than the one that counts.",
    ("smoothing", -1): "More confident mistakes.",
    ("clip", 1): "Instability after a bad batch.",
    ("clip", -1): "Slower learning.",
    ("cap", 1): "Over-confident outputs.",
    ("cap", -1): "Certain predictions cannot be expressed.",
    ("initial", 1): "Instability in the first steps.",
    ("initial", -1): "Signals may be too weak in deep models.",
    ("depth", 1): "Slower steps, so fewer in the budget; more VRAM.",
    ("depth", -1): "Less capacity.",
    ("heads", 1): "Attention kernels are slower on small heads.",
    ("heads", -1): "Less to attend to at once.",
    ("head size", 1): "Less to attend to at once.",
    ("head size", -1): "Attention kernels are slower on small heads.",
    ("table", 1): "More VRAM, and each row is trained less.",
    ("table", -1): "More collisions.",
    ("window", 1): "Slower attention, so fewer steps in the budget.",
    ("window", -1): "Less context.",
    ("rate", 1): "Instability, a NaN in the worst case.",
    ("rate", -1): "Slower learning.",
    ("width", 1): "Slower steps, so fewer in the budget; more VRAM.",
    ("width", -1): "Less capacity.",
    ("count", 1): "Slower steps, so fewer in the budget; perhaps more VRAM.",
    ("count", -1): "Less capacity.",
    ("size", 1): "Perhaps more VRAM, and fewer steps in the budget.",
    ("size", -1): "Less capacity.",
    ("beta", 1): "Slower to adapt.",
    ("beta", -1): "Noisier steps.",
    ("switch", 1): "May change more than one thing.",
    ("switch", -1): "May change more than one thing.",
    ("pattern", 1): "Slower attention, so fewer steps in the budget.",
    ("pattern", -1): "Less long-range context.",
}
_SMALL_RISK: Final = "Little: one number by a step."
_SEVERAL: Final = "Several constants at once: which of them it was, an ablation tells."


def reason(dial: Dial, direction: int) -> str:
    """Why this turn could help: the end of a sentence."""
    return _REASONS.get((_meaning(dial), direction)) or _REASONS[dial.kind, direction]


def risk(turned: Iterable[tuple[Dial, int]]) -> str:
    """What may go wrong, each thing once."""
    found = ((_meaning(dial), dial.kind, direction) for dial, direction in turned)
    sentences = [_RISKS.get((m, way)) or _RISKS.get((kind, way)) or _SMALL_RISK for m, kind, way in found]
    known = [sentence for sentence in dict.fromkeys(sentences) if sentence != _SMALL_RISK]
    return " ".join(known or [_SMALL_RISK])


def turned(values: Mapping[str, Value], changes: Mapping[str, Value]) -> list[tuple[Dial, int]]:
    """What changes of the constants `values` turn, in their order."""
    known = {dial.key: dial for dial in dials({name: values[name] for name in changes})}
    turns = (turn for name, new in changes.items() for turn in directions(name, values[name], new).items())
    return [(known[key], way) for key, way in turns if key in known]


def told(values: Mapping[str, Value], changes: Mapping[str, Value]) -> tuple[str, str]:
    """Why the first of the changes could help, as a sentence, and what may go wrong: the others only follow."""
    first = turned(values, changes)[0]
    why = reason(*first)
    return why[0].upper() + why[1:], risk([first])


def risk_of(values: Mapping[str, Value], changes: Mapping[str, Value]) -> str:
    """Of changes of the constants `values`; and that an ablation is needed, unless all but one only follow."""
    sentence = risk(turned(values, changes))
    constants = {key.split("[")[0] for key, _ in turns_of({name: (values[name], new) for name, new in changes.items()})}
    return f"{sentence} {_SEVERAL}" if len(constants) > 1 else sentence


def _meaning(dial: Dial) -> str:
    """What the name says; the kind where it says nothing, and of what is no number by itself."""
    if dial.kind in ("switch", "pattern", "beta") or role(dial.name) == "width":
        return dial.kind
    if dial.path or (dial.kind == "rate" and not re.match("MIN_|FINAL_|END_|LR_(WARMUP|DECAY)", dial.name)):
        return dial.kind
    return next((meaning for meaning, names in _MEANINGS if re.fullmatch(names, dial.name)), dial.kind)
