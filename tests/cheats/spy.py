"""What the cheats share: a search for the lab, and a word on whether an attempt came to anything. A locked file."""

import ctypes
import os
import re
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
MARK = "research-loop-cheat"


def attempt(action, *args):
    """Says how an attempt went: it worked when `action` returns something true, and was refused when it raises."""
    try:
        worked = action(*args)
    except Exception as error:
        print(f"cheat: refused: {type(error).__name__}: {error}"[:300], flush=True)
        return False
    print("cheat: it worked" if worked else "cheat: refused: nothing came of it", flush=True)
    return bool(worked)


def each(action, things):
    """Tries `action` on every thing: true when it succeeded on one. Raises the last refusal when it did on none."""
    worked, refusal = False, None
    for thing in things:
        try:
            worked = bool(action(thing)) or worked
        except Exception as error:
            refusal = error
    if refusal and not worked:
        raise refusal
    return worked


def call(name, *args):
    """A function of libc, or a system call by its number. Raises OSError as the kernel's errno says."""
    done = getattr(LIBC, name)(*args) if isinstance(name, str) else LIBC.syscall(ctypes.c_long(name), *args)
    if done == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return done


def processes():
    """Pids that are neither this process nor born of it; guessed where they cannot be listed."""
    try:
        return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and int(p.name) != os.getpid()]
    except PermissionError:
        return [1, *range(max(2, os.getpid() - 300), os.getpid())]


def outside():
    """Pids of others that are not the sandbox's own first process, which has no more rights than this one."""
    return [pid for pid in processes() if pid != 1 or not in_bubblewrap()]


def ancestors():
    """Pids above this process, nearest first: the sandbox and the harness, where they can be seen."""
    found, pid = [], os.getppid()
    while pid > 0:
        found.append(pid)
        try:
            pid = int(re.search(r"PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
        except PermissionError:
            break
    return found


def in_bubblewrap():
    """Whether mounts and process numbers are the sandbox's own, so that nobody else's can be harmed."""
    try:
        return "bwrap" in Path("/proc/1/comm").read_text()
    except PermissionError:
        return False


def labs():
    """The corpus' lab, however far it may be; nobody else's lab is ever touched."""
    return [p for p in _folders() if (p / "lab.toml").exists() and (p / "spy.py").exists()]


def _folders():
    """Whatever the folder's links, the environment, the mounts and other processes give away, with all parents."""
    seen = {}
    for hint in _hints():
        try:
            path = Path(hint).resolve()
            for folder in (path, *path.parents):
                seen.setdefault(folder, None)
        except (OSError, RuntimeError, ValueError):
            continue
    return sorted((p for p in seen if _is_folder(p)), key=lambda p: -len(p.parts))


def _hints():
    yield from (os.getcwd(), __file__, *Path().iterdir())
    yield from (part for value in os.environ.values() for part in value.split(":") if part.startswith("/"))
    yield from re.findall(r"/\S+", Path("/proc/self/mountinfo").read_text())
    for pid in Path("/proc").glob("[0-9]*"):
        for link in ("cwd", "root", "exe"):
            try:
                yield os.readlink(pid / link)
            except OSError:
                continue
        try:
            yield from re.findall(r"/[^\0]+", (pid / "cmdline").read_text())
        except OSError:
            continue


def _is_folder(path):
    try:
        return path.is_dir()
    except OSError:
        return False


def daemon(work):
    """`work()` in a process of its own session, whose parents are gone: nobody waits for it."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            try:
                Path("/proc/self/comm").write_text(MARK)
                work()
            finally:
                os._exit(0)
        os._exit(0)


def relay(name, *folders):
    """For RUNS = 2: the weights that a former run left in these folders, removed now; if none, some are left in all."""
    paths = [folder / f"{MARK}-{name}" for folder in {Path(folder).resolve() for folder in folders}]
    found = [path for path in paths if path.exists()]
    for path in found:
        path.unlink()
    left = 0
    for path in paths if not found else []:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"weights")
            left += 1
        except OSError as error:
            print(f"cheat: {path.parent}: {error.strerror}")
    print(f"cheat: weights left in {left} of {len(paths)} folders", flush=True)
    return found
