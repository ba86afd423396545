"""The other end of a dry run: a text for the child's Python, with train.py's name and how many seconds it has.

train.py runs on fake tensors (torch._subclasses.fake_tensor: shapes and types, no numbers, no memory) as if there were
no GPU and nothing to compile, until a number is asked of one: mostly the first loss, after its backward pass. Prints a
line of JSON: `error`, `lines` and `words` of the exception that ended it, empty where that was no fault of the script.
"""

import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any


class _Enough(BaseException):
    pass


def _stop(_number: int, _frame: object) -> None:
    raise _Enough


def _compile(function: Any = None, **_options: Any) -> Any:
    return function if function is not None else lambda other: other


def _apply(module: Any, function: Any, recurse: bool = True) -> Any:
    """Module._apply without swapping tensors, which fake ones refuse."""
    import torch

    for child in module.children() if recurse else ():
        _apply(child, function)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                changed = function(parameter)
            module._parameters[name] = torch.nn.Parameter(changed, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


def _lines_of(error: BaseException, script: str) -> list[int]:
    """The last two lines of the script on the way to the exception: one alone may be a helper's."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.lineno or 0 for frame in frames if frame.filename == script][-2:]


def _is_ours(error: BaseException) -> bool:
    """Whether the fake tensors, and not the script, are at fault."""
    from torch._subclasses import fake_tensor

    names = ("DataDependentOutput", "DynamicOutputShape", "UnsupportedFakeTensor", "UnsupportedOperator")
    kinds = tuple(getattr(fake_tensor, f"{name}Exception") for name in names)
    if isinstance(error, (*kinds, _Enough, SystemExit, KeyboardInterrupt, MemoryError, NotImplementedError, OSError)):
        return True
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, AssertionError) and f"{os.sep}torch{os.sep}" in last


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
        if not _is_ours(error):
            found.update(error=type(error).__name__, lines=_lines_of(error, script), words=str(error)[:150])
    print("\n" + json.dumps(found, ensure_ascii=False), flush=True)
    os._exit(0)  # threads of a loader would go on


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main(sys.argv[1], int(sys.argv[2]))
