"""Turns a run's command into one that starts it contained.

Three backends: `bubblewrap` (name spaces and seccomp: the run sees its folder, the Python it runs on, and nothing
else of this machine), `landlock` (file rights and seccomp, where user name spaces are switched off) and `none`. What
each of them holds is not asserted here but tried from inside, by doctor.py. A contained run may write to its own
/tmp (under Landlock its scratch folder) and nowhere else, and nothing it writes is left for the next one.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from research_loop import seccomp
from research_loop.errors import SandboxError
from research_loop.files import remove_tree
from research_loop.sandbox_launch import FILTER

LAUNCHER = Path(__file__).with_name("sandbox_launch.py")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = ("passwd", "group", "nsswitch.conf", "localtime", "alternatives", "ld.so.cache", "ld.so.conf.d")
"""What a program looks up in /etc."""
GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/dxg")
MODPROBE = Path("/usr/bin/nvidia-modprobe")
"""A setuid helper of the driver; a contained run has no use for it."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PROC = ("cpuinfo", "meminfo", "stat", "loadavg", "filesystems", "devices", "modules", "sys", "driver")
"""What a program looks up in /proc beside itself; the other processes are not among it."""
KERNEL_SETTINGS = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "asound", "driver")
"""In /proc, and root's to write even without any capability: with /proc/sys/kernel/core_pattern goes the machine."""
CACHES = ".caches"
"""Where a run's compilers keep what they made, in its scratch folder."""
INJECTIONS = {"LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV"}
PYTHON_KEPT = {"PYTHONUNBUFFERED", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONFAULTHANDLER"}
SELF_TEST_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Spec:
    """What one run gets to see and to use.

    `folder` is its working directory, read-only, as are the `readable` paths. `scratch_mb` bounds /tmp and /dev/shm,
    each; `processes` counts threads too. `gpu` is the number in /dev/nvidia<number> of the one GPU it may use.
    `caches` are compiled kernels: with `fill` the run writes its own there, otherwise it starts with a copy of them.
    """

    folder: Path
    readable: tuple[Path, ...] = ()
    scratch_mb: int = 1024
    processes: int = 512
    gpu: int | None = None
    caches: Path | None = None
    fill: bool = False


Started = tuple[tuple[str, ...], dict[str, str]]
"""The argv and the whole environment to start a run with."""


class Backend(Protocol):
    """A way to contain runs."""

    name: str

    def wrap(self, command: Sequence[str], spec: Spec, environment: Mapping[str, str]) -> Started:
        """`command`, contained; descriptors 0, 1 and 2 go through unchanged.

        Raises SandboxError for a path that is to be shown and is not there.
        """
        ...


class Bare:
    """No sandbox: the command as it is, with all that this user may do."""

    name = "none"

    def wrap(self, command: Sequence[str], spec: Spec, environment: Mapping[str, str]) -> Started:
        return tuple(command), dict(environment)


class Bubblewrap:
    """Name spaces of its own for files, processes, network, IPC and users; seccomp on top."""

    name = "bubblewrap"

    def wrap(self, command: Sequence[str], spec: Spec, environment: Mapping[str, str]) -> Started:
        plan = {
            "filter": _filter(isolated=True),
            "locale": environment.get("LC_CTYPE", ""),
            "processes": spec.processes,
        }
        argv = [*_bubblewrap(spec), "--", *_counted(spec.processes), *_with_caches(spec), *command]
        return _launch(plan, argv), _environment(environment, Path("/tmp"), spec.gpu)


class Landlock:
    """File, TCP and signal rights given up by the process itself; seccomp for sockets and the rest.

    The run writes to `scratch_of(folder)`, of which `wrap` removes what an earlier run left there; otherwise it is the
    caller's to remove. Sizes are bounded a file (no sum), /dev/shm is closed, and processes are counted per user.
    Caches are not passed on: Triton's hold the paths they were made at, and every run has another scratch folder.
    """

    name = "landlock"

    def wrap(self, command: Sequence[str], spec: Spec, environment: Mapping[str, str]) -> Started:
        scratch = scratch_of(spec.folder)
        remove_tree(scratch)
        proc = _present(f"/proc/{name}" for name in PROC)
        listed, files = _uncached(spec.folder)
        readable = [*_present(SYSTEM), *_settings(), Path("/sys"), *proc, *_python(), *_needed(spec), *files]
        plan = {
            "filter": _filter(isolated=False),
            "locale": environment.get("LC_CTYPE", ""),
            "scratch": str(scratch),
            "file_bytes": spec.scratch_mb * 2**20,
            "processes": spec.processes,
            "listed": [str(path) for path in listed],
            "readable": [str(path) for path in readable],
            "writable": [str(scratch)],
            "devices": [str(path) for path in (*_present(DEVICES), *_gpu(spec.gpu))],
            "own": ["/proc/self"],
        }
        return _launch(plan, command), _environment(environment, scratch, spec.gpu)


BACKENDS: tuple[Backend, ...] = (Bubblewrap(), Landlock(), Bare())


def choose(wanted: str = "auto") -> Backend:
    """The backend of that name, or the first that contains a run on this machine; never `none` unless named.

    Raises SandboxError, with the cure, where it does not work here.
    """
    for backend in BACKENDS:
        if backend.name == wanted:
            if trouble := _trouble(backend.name):
                raise SandboxError(f"sandbox {wanted}: {trouble}")
            return backend
    if wanted != "auto":
        raise SandboxError(f"sandbox {wanted}: no such backend: auto, " + ", ".join(b.name for b in BACKENDS))
    troubles = {backend.name: _trouble(backend.name) for backend in BACKENDS[:-1]}
    for backend in BACKENDS[:-1]:
        if not troubles[backend.name]:
            return backend
    raise SandboxError("no sandbox works here: " + "; ".join(f"{name}: {why}" for name, why in troubles.items()))


def scratch_of(folder: Path) -> Path:
    """Where a run in `folder` writes under Landlock."""
    return folder.with_name(folder.name + ".scratch")


# ------------------------------------------------------------------------------------------------- what a run gets


def _environment(given: Mapping[str, str], scratch: Path, gpu: int | None) -> dict[str, str]:
    """What was given, less what loads other code, with every folder that programs write to in `scratch`."""
    kept = {name: value for name, value in given.items() if name not in INJECTIONS}
    kept = {name: value for name, value in kept.items() if not name.startswith("PYTHON") or name in PYTHON_KEPT}
    kept = {name: value for name, value in kept.items() if not name.startswith("XDG_")}
    # the nodes of one GPU are there, so it is number 0 inside
    kept.pop("CUDA_VISIBLE_DEVICES", None)
    folders = {
        "HOME": "",
        "TMPDIR": "",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHES}/inductor",
        "TRITON_CACHE_DIR": f"{CACHES}/triton",
        "CUDA_CACHE_PATH": ".cuda",
        "TORCH_HOME": ".torch",
        "MPLCONFIGDIR": ".matplotlib",
    }
    seen = {} if gpu is not None else {"CUDA_VISIBLE_DEVICES": ""}
    named = {"USER": "run", "LOGNAME": "run", "PYTHONNOUSERSITE": "1"}
    return {**kept, **seen, **named, **{name: str(scratch / sub) for name, sub in folders.items()}}


def _present(paths: Iterable[str]) -> list[Path]:
    return [Path(path) for path in paths if os.path.lexists(path)]


def _settings() -> list[Path]:
    return [path for path in _present(f"/etc/{name}" for name in SETTINGS) if path.exists()]


def _python() -> list[Path]:
    """The Python that runs this: both prefixes, and every link on the way from its name to its file.

    A virtual environment's python is a link, or two, into an installation that may lie in somebody's home.
    """
    hop = Path(sys.executable)
    paths = [Path(sys.prefix), Path(sys.base_prefix), hop]
    while hop.is_symlink():
        hop = hop.parent / hop.readlink()
        paths.append(Path(os.path.normpath(hop)))
    return [form for path in paths for form in (path, path.resolve())]


def _needed(spec: Spec) -> list[Path]:
    """What it may read beside its folder; as named and as resolved, since links to either may exist."""
    for path in (spec.folder, *spec.readable):
        if not path.exists():
            raise SandboxError(f"{path}: a run is to see it, but it is not there")
    return [form for path in spec.readable for form in (path.absolute(), path.resolve())]


def _caches(folder: Path) -> list[Path]:
    """Folders of compiled modules. Python loads one in place of the module beside it, whatever that says.

    They are kept from the run; PYTHONPYCACHEPREFIX would do as well, and cost it the installed packages' own caches:
    two seconds for every import of torch.
    """
    return [Path(place, "__pycache__") for place, folders, _ in os.walk(folder) if "__pycache__" in folders]


def _uncached(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders to list and paths to read that make up `folder` without its caches: Landlock can only add."""
    caches = _caches(folder)
    if not caches:
        return [], [folder]
    walk = [(Path(place), files) for place, _, files in os.walk(folder) if Path(place) not in caches]
    return [folder], [place / name for place, files in walk for name in files]


def _gpu(number: int | None) -> list[Path]:
    return [] if number is None else _present((f"/dev/nvidia{number}", *GPU_NODES))


# ------------------------------------------------------------------------------------------------------ bubblewrap


def _bubblewrap(spec: Spec) -> list[str]:
    """bubblewrap's own arguments; later ones lie over earlier ones."""
    version = bubblewrap_version() or (0, 0)
    size = ["--size", str(spec.scratch_mb * 2**20)] if version >= (0, 7) else []
    return [
        shutil.which("bwrap") or "bwrap",  # found by our PATH, which need not be the run's
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *(["--disable-userns"] if version >= (0, 8) else []),
        *_system_mounts(),
        *("--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"),
        *[word for name in KERNEL_SETTINGS for word in ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")],
        *[word for node in _gpu(spec.gpu) for word in ("--dev-bind", str(node), str(node))],
        *(["--ro-bind", "/usr/bin/true", str(MODPROBE)] if MODPROBE.exists() else []),
        *(*size, "--tmpfs", "/tmp", *size, "--tmpfs", "/dev/shm"),
        *(["--bind", str(spec.caches), f"/tmp/{CACHES}"] if spec.caches and spec.fill else []),
        *(["--ro-bind", str(spec.caches), str(spec.caches)] if spec.caches and not spec.fill else []),
        *_mounts([*_python(), *_needed(spec), spec.folder.absolute(), spec.folder.resolve()]),
        *[
            word
            for cache in _caches(spec.folder.absolute())
            for word in ("--tmpfs", str(cache), "--remount-ro", str(cache))
        ],
        # both are file systems in memory, of any size, that the run would own
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *("--chdir", str(spec.folder.absolute()), "--seccomp", str(FILTER)),
    ]


def _system_mounts() -> list[str]:
    words = []
    for path in _present(SYSTEM):
        kind, source = ("--symlink", path.readlink()) if path.is_symlink() else ("--ro-bind", path)
        words += [kind, str(source), str(path)]
    for path in _settings():
        words += ["--ro-bind", str(path.resolve()), str(path)]
    return words


def _mounts(paths: Iterable[Path]) -> list[str]:
    """Each path at its own name, without those that lie in another's or in the system."""
    shown = [path for path in _present(SYSTEM) if not path.is_symlink()]
    words = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(above) for above in shown):
            shown.append(path)
            words += ["--ro-bind", str(path.resolve()), str(path)]
    return words


def _counted(processes: int) -> list[str]:
    """Set inside, where only the run's own processes count: from Linux 5.14 on, which counts by user name space."""
    counts_inside = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) >= (5, 14)
    prlimit = shutil.which("prlimit", path="/usr/bin:/bin")
    return [prlimit, f"--nproc={processes}:{processes}", "--"] if prlimit and counts_inside else []


def _with_caches(spec: Spec) -> list[str]:
    """Copies the caches before the command starts: the compilers want to write beside what they read."""
    if not spec.caches or spec.fill:
        return []
    return ["/bin/sh", "-c", 'cp -r "$0" "$1"; shift; exec "$@"', str(spec.caches), f"/tmp/{CACHES}"]


@functools.cache
def bubblewrap_version() -> tuple[int, int] | None:
    """None when it is not installed."""
    try:
        said = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, timeout=SELF_TEST_SECONDS).stdout
    except OSError:
        return None
    numbers = re.findall(r"\d+", said)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 else (0, 0)


# ---------------------------------------------------------------------------------------------------------- launch


def _filter(isolated: bool) -> str:
    return base64.b64encode(seccomp.program(isolated, root=os.getuid() == 0)).decode()


def _launch(plan: Mapping[str, object], command: Sequence[str]) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(plan), *command)


# ------------------------------------------------------------------------------------------------------- self-test


SELF_TEST = """
import sys
try:
    open(sys.argv[1]).close()
    print("leaks")
except OSError:
    print("holds")
"""


@functools.cache
def _trouble(name: str) -> str:
    """Why a backend does not work on this machine, with the cure; "" when it does: one run in it says so."""
    if name == Bare.name:
        return ""
    if sys.platform != "linux":
        return f"needs Linux, this is {sys.platform}: use a Linux machine, or WSL 2 on Windows"
    if not seccomp.supported():
        return f"no seccomp filter is written for {platform.machine()}: use x86_64 or aarch64"
    if name == Bubblewrap.name and bubblewrap_version() is None:
        return "not installed: `apt install bubblewrap` (Debian, Ubuntu), `dnf install bubblewrap` (Fedora)"
    with tempfile.TemporaryDirectory() as place:
        folder, secret = Path(place, "folder"), Path(place, "secret")
        folder.mkdir()
        secret.write_text("")
        said = _try(next(b for b in BACKENDS if b.name == name), folder, secret)
    return "" if said == "holds" else f"{said}: {cure_of(said)}"


def _try(backend: Backend, folder: Path, secret: Path) -> str:
    """What one contained run of Python says: "holds", or what went wrong."""
    command = [sys.executable, "-I", "-S", "-c", SELF_TEST, str(secret)]
    argv, environment = backend.wrap(command, Spec(folder, scratch_mb=16), {"PATH": os.defpath})
    try:
        done = subprocess.run(
            argv, env=environment, cwd=folder, capture_output=True, text=True, timeout=SELF_TEST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"did not end in {SELF_TEST_SECONDS:.0f} s"
    trouble = " ".join(done.stderr.split())[:200] or f"exit code {done.returncode}"
    return done.stdout.strip() or trouble


def cure_of(trouble: str) -> str:
    """What to do about a sandbox that does not start, from what it said."""
    restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if "leaks" in trouble:
        return "it does not contain; please report this with the output of `research-loop doctor`"
    if "Unknown option" in trouble:
        return "install bubblewrap 0.8 or later"
    if any(words in trouble for words in ("cannot stop truncation", "not implemented", "not supported")):
        return "needs Linux 6.2 or later with Landlock switched on (`lsm=landlock,...` on the kernel's command line)"
    if restricted.exists() and restricted.read_text().strip() == "1":
        return (
            "AppArmor refuses user name spaces (Ubuntu 24.04 and later): `sudo apt install apparmor-profiles && "
            "sudo ln -s /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && "
            "sudo systemctl reload apparmor`"
        )
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return (
            "the container refuses name spaces: start it with `--security-opt seccomp=unconfined --security-opt "
            "systempaths=unconfined`, or use the landlock backend"
        )
    return "switch user name spaces on (`sysctl user.max_user_namespaces=15000`), or use the landlock backend"
