"""The other end of a dry run: a text for the child's Python, with train.py's name and how many seconds it has.

train.py runs on fake tensors (torch._subclasses.fake_tensor: shapes and types, no numbers, no memory) as if there were
no GPU and nothing to compile, until a number is asked of one: mostly the first loss, after its backward pass. Prints a
line of JSON: `error`, `lines` and `words` of the exception that ended it, empty where real tensors might go on.
"""

import json
import os
import re
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

_FAKE = re.compile(
    r"fake|subclass|NoneType|Parameter|data pointer|cuda|nvidia|driver|triton|pickle|_orig_mod|dynamo|OpNamespace"
    r"|'function' object",
    re.IGNORECASE,
)
"""What else fake tensors, uncompiled functions, and a machine without a GPU, refuse."""
_CERTAIN = (
    (
        RuntimeError,
        re.compile(
            r"reduction dim|must match the size|is invalid for input of size|cannot be multiplied|not broadcastable"
            r"|Sizes of tensors must match|expects? .*\bsize|same (?:number|shape)"
            r"|normalized_shape|[Ee]xpected .*\bdim|[Dd]imension|Shapes? .* (?:not|mis)|split_with_sizes|shape mismatch"
        ),
    ),
    (IndexError, re.compile(r"out of range|too many indices")),
    (ValueError, re.compile(r"not enough values to unpack|too many values to unpack|must be divisible")),
    (
        TypeError,
        re.compile(r"required (?:positional|keyword-only) argument|unexpected keyword|positional arguments? but"),
    ),
    (AttributeError, re.compile(r"'\w+' object has no attribute|module '[\w.]+' has no attribute")),
)


class _Enough(BaseException):
    pass


def _stop(_number: int, _frame: object) -> None:
    raise _Enough


def _compile(model: Any = None, **_options: Any) -> Any:
    return model if model is not None else lambda other: other


def _apply(module: Any, function: Any, recurse: bool = True) -> Any:
    """Module._apply without swapping tensors, which fake ones refuse; what was tied stays tied."""
    import torch

    changed: dict[int, Any] = {}
    for part in module.modules() if recurse else (module,):
        for name, parameter in part._parameters.items():
            if parameter is not None and id(parameter) not in changed:
                with torch.no_grad():
                    new = torch.nn.Parameter(function(parameter), parameter.requires_grad)
                new.__dict__.update({**parameter.__dict__, **new.__dict__})  # its own device, the script's attributes
                changed[id(parameter)] = parameter, new  # the old one, lest its id be another's
            part._parameters[name] = None if parameter is None else changed[id(parameter)][1]
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else function(buffer)
    return module


def _lines_of(error: BaseException, script: str) -> list[int]:
    """The last two lines of the script on the way to the exception: one alone may be a helper's."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.lineno or 0 for frame in frames if frame.filename == script][-2:]


def is_certain(error: BaseException, words: str) -> bool:
    """Whether real tensors would fail, too: shapes and types that do not fit, calls that nothing could answer."""
    if _FAKE.search(words):
        return False
    return any(isinstance(error, kind) and known.search(words) for kind, known in _CERTAIN)


def main(script: str, seconds: int) -> None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    found: dict[str, str | list[int]] = {"error": "", "lines": [], "words": ""}
    library: Any = torch
    library.compile, library.nn.Module._apply = _compile, _apply
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(seconds)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            runpy.run_path(script, run_name="__main__")
    except BaseException as error:  # SystemExit, and whatever else a script may raise
        signal.alarm(0)
        words = " ".join(str(error).split())
        if is_certain(error, words):
            found = {"error": type(error).__name__, "lines": _lines_of(error, script), "words": words[:100]}
    print("\n" + json.dumps(found, ensure_ascii=False), flush=True)
    os._exit(0)  # threads of a loader would go on


if __name__ == "__main__":
    name, limit = sys.argv[1:]
    sys.path[:0], sys.argv = [str(Path(name).resolve().parent)], [name]
    main(name, int(limit))
