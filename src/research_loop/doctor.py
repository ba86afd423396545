"""Tries, from inside a sandbox, what it is there to prevent, and what a run cannot do without.

Every attempt (doctor_probes.py) is a run of its own, started as the loop starts one: keeper, launcher, sandbox. What
the sandbox claims counts for nothing here; a probe that fails for another reason than a refusal does not count
as held. The targets are the lab's own files where it has them and stand-ins of the doctor's where not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import py_compile
import socket
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from research_loop import seccomp
from research_loop.doctor_probes import HOSTILE, NEEDED, Attempt
from research_loop.files import remove_tree
from research_loop.gpus import first_gpu
from research_loop.runners.local import LocalRunner
from research_loop.runners.remains import RUN_MARKER
from research_loop.sandbox import Backend, Spec, choose, scratch_of
from research_loop.tasks import Job

SCRATCH_MB, PROCESSES, FORKS = 16, 64, 300
LIMIT_SECONDS = 60.0
MARK = "doctor-saw:"
PROGRAM = """
import json, os, sys, time
t = json.loads(sys.argv[1])
def attempt():
{body}
try:
    seen, done = attempt(), True
except OSError as error:
    seen, done = type(error).__name__ + ': ' + (error.strerror or str(error)), False
print({mark!r} + json.dumps([done, seen]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt and what came of it. `wanted`: "refused" or "works"; `cure` is empty where it held."""

    name: str
    wanted: str
    seen: str
    held: bool
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the attempts aim at: a stand-in lab with a run's folder, listeners, and a process of the harness's user."""

    place: Path
    run: Path
    targets: Mapping[str, object]
    victim: subprocess.Popen[bytes]
    mark: str


def check_up(sandbox: str, lab_folder: Path | None, say: Callable[[str], None]) -> bool:
    """Probes a sandbox by its name, from a lab's folder or an empty one, and says the table; whether all held.

    With the GPU that a lab's runs would get here. Raises SandboxError for one that does not work here.
    """
    backend = choose(sandbox)
    with tempfile.TemporaryDirectory() as place:
        probes = examine(backend, lab_folder or Path(place), first_gpu())
    say(f"{backend.name}:\n{table(probes)}")
    return all(probe.held for probe in probes)


def examine(backend: Backend, lab_folder: Path, gpu: int | None = None) -> list[Probe]:
    """Every attempt from inside `backend`, in about four seconds; `lab_folder` is left as it was.

    `gpu` is the number of the one GPU that a run may use. Raises RunError where no process can be started.
    """
    with _scene(lab_folder, gpu) as scene:
        probes = [_probe(backend, scene, attempt, gpu) for attempt in (*NEEDED, *HOSTILE)]
        return [_answers(backend, scene), *probes]


def table(probes: list[Probe]) -> str:
    """One line a probe, those that did not hold with their cure beneath, and the count at the end."""
    width = max(len(probe.name) for probe in probes)
    lines = []
    for probe in probes:
        lines.append(f"{'ok ' if probe.held else 'NOT'}  {probe.name:<{width}}  {probe.wanted:<7}  {probe.seen}")
        if probe.cure:
            lines.append(f"     {'':<{width}}  -> {probe.cure}")
    held = sum(probe.held for probe in probes)
    return "\n".join([*lines, f"{held} of {len(probes)} held"])


# ------------------------------------------------------------------------------------------------------- attempts


def _probe(backend: Backend, scene: Scene, attempt: Attempt, gpu: int | None) -> Probe:
    if attempt.before:
        _inside(backend, scene, Attempt("", attempt.before), gpu)
    done, seen = _inside(backend, scene, attempt, gpu)
    if attempt.name == "kill a process of this user":
        done, seen = (False, seen) if scene.victim.poll() is None else (True, "it is dead")
    if attempt.name == "outlive its own end" and _alive(scene.mark):
        done, seen = True, "was still there"
    held = done is (not attempt.forbidden)
    wanted = "refused" if attempt.forbidden else "works"
    return Probe(attempt.name, wanted, seen, held, "" if held else _cure(backend, attempt))


def _inside(backend: Backend, scene: Scene, attempt: Attempt, gpu: int | None) -> tuple[bool | None, str]:
    """Whether it could do it, and its words; None when it came to no answer."""
    code = PROGRAM.format(body=textwrap.indent(attempt.code.strip(), "    "), mark=MARK)
    evil = {name: value.format(evil=scene.place / "evil") for name, value in attempt.environment.items()}
    given = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": tempfile.gettempdir(), **evil}
    spec = Spec(scene.run, gpu=gpu) if attempt.roomy else Spec(scene.run, (), SCRATCH_MB, PROCESSES, gpu)
    command = [sys.executable, "-c", code, json.dumps(scene.targets)]
    argv, environment = backend.wrap(command, spec, given)
    log = scene.place / "log"
    environment[RUN_MARKER] = scene.mark
    job = Job(0, 0, argv, scene.run, log, environment, "doctor", "doctor", LIMIT_SECONDS, LIMIT_SECONDS)
    detail = _run(job)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(MARK)]
    if not said:
        return None, "no answer: " + (detail or "the run ended")
    done, seen = json.loads(said[-1].removeprefix(MARK))
    return bool(done), str(seen)


def _run(job: Job) -> str:
    """Runs to the end and to the last process of it; what the runner says of that end."""
    runner = LocalRunner()
    try:
        runner.start(job)
        while not (ended := runner.wait(LIMIT_SECONDS)):
            pass
        result = ended[0][1]
        return f"{result.reason} {result.detail or result.log_tail}".replace("\n", " ")[-200:]
    finally:
        runner.close()


def _answers(backend: Backend, scene: Scene) -> Probe:
    """Standard input is the harness's line to a run: a socket, passed through."""
    ours, theirs = socket.socketpair()
    code = "import os; os.write(0, os.read(0, 5).upper())"
    argv, environment = backend.wrap([sys.executable, "-c", code], Spec(scene.run), {"PATH": os.defpath})
    with ours, theirs:
        ours.settimeout(LIMIT_SECONDS)
        run = subprocess.Popen(argv, env=environment, cwd=scene.run, stdin=theirs.fileno(), stderr=subprocess.DEVNULL)
        theirs.close()
        ours.send(b"hello")
        seen = ours.recv(5).decode() or "the end of the line"
        run.wait(LIMIT_SECONDS)
    held = seen == "HELLO"
    return Probe("answer the harness", "works", seen, held, "" if held else "please report this")


def _alive(mark: str) -> bool:
    """Whether a process of the runs is left; the mark is in their environment."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(RUN_MARKER) == mark:
                return True
    return False


def _cure(backend: Backend, attempt: Attempt) -> str:
    if attempt.forbidden and attempt.root and os.getuid() == 0 and backend.name != "none":
        return attempt.root
    if backend.name == "bubblewrap":
        return "please report this, with `bwrap --version` and `uname -r`"
    return "install bubblewrap and use that backend"


# ---------------------------------------------------------------------------------------------------------- scene


@contextlib.contextmanager
def _scene(lab_folder: Path, gpu: int | None) -> Iterator[Scene]:
    state = lab_folder / ".research-loop"
    with contextlib.ExitStack() as last:
        place = Path(tempfile.mkdtemp(prefix="doctor-", dir=state if state.is_dir() else lab_folder))
        last.callback(remove_tree, place)
        short = Path(last.enter_context(tempfile.TemporaryDirectory(prefix="rl-")))  # a socket's path has 107 bytes
        token = uuid.uuid4().hex
        victim = _victim(token, last)
        run = _stand_in(place)
        targets = {
            **_files(lab_folder, place),
            **_listen(short, token, last),
            "victim": victim.pid,
            "token": token,
            "gpu": gpu,
            "forks": FORKS,
            "scratch_mb": SCRATCH_MB,
            "calls": seccomp.numbers(),
            "mountpoint": str(short),
        }
        os.environ["RESEARCH_LOOP_DOCTOR"] = token
        last.callback(os.environ.pop, "RESEARCH_LOOP_DOCTOR")
        last.callback(_remove_left, run)
        yield Scene(place, run, targets, victim, mark=uuid.uuid4().hex)


def _victim(token: str, last: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    """A process of the harness's user, with a secret in its environment."""
    command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", token]
    victim = subprocess.Popen(command, env={"SECRET": token})
    last.callback(victim.wait)
    last.callback(victim.kill)
    return victim


def _stand_in(place: Path) -> Path:
    """A lab's files under `place`, and a run's folder with a forged cache in it: its path."""
    run = place / "lab" / ".research-loop" / "runs" / "0.0"
    run.mkdir(parents=True)
    for name in ("train.py", "results.tsv", ".git/config", ".research-loop/ledger.sqlite", "home"):
        path = place / "lab" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (run / "train.py").write_text("")
    _forge(run / "prepare.py")
    evil = place / "evil"
    evil.mkdir()
    for name in ("sitecustomize.py", "usercustomize.py"):
        (evil / name).write_text("DOCTOR = True\n")
    return run


def _forge(module: Path) -> None:
    """A module, and a cache that says something else under the module's own size and time."""
    module.write_text("VALUE = 'forged'\n")
    when = (1e9, 1e9)
    os.utime(module, when)
    py_compile.compile(str(module), importlib.util.cache_from_source(str(module)), doraise=True)
    module.write_text("VALUE = 'honest'\n")
    os.utime(module, when)


def _files(lab: Path, place: Path) -> dict[str, object]:
    """The lab's own where it has them."""
    stand_in = place / "lab"
    names = {"ledger": ".research-loop/ledger.sqlite", "train": "train.py", "results": "results.tsv"}
    names["git"] = ".git/config"
    found = {key: str(next(p for p in (lab / name, stand_in / name) if p.is_file())) for key, name in names.items()}
    return {**found, "home": _of_home() or str(stand_in / "home"), "packages": sysconfig.get_path("purelib")}


def _of_home() -> str:
    """A file in this user's home that can be read."""
    with contextlib.suppress(OSError):
        for path in sorted(Path.home().iterdir()):
            if path.is_file() and os.access(path, os.R_OK):
                return str(path)
    return ""


def _listen(folder: Path, token: str, last: contextlib.ExitStack) -> dict[str, object]:
    """Listeners of the harness's: on loopback and in the file system."""
    tcp = last.enter_context(socket.create_server(("127.0.0.1", 0)))
    udp = last.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", 0))
    path, name = str(folder / "socket"), f"research-loop-{token}"
    for address in (path, "\0" + name):
        unix = last.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(address)
        unix.listen()
    letters = last.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    letters.bind(path + ".datagrams")
    threading.Thread(target=_echo, args=(udp,), daemon=True).start()
    ports = {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1]}
    return {**ports, "unix": path, "abstract": name, "letters": path + ".datagrams"}


def _echo(link: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed at the end
        while True:
            data, sender = link.recvfrom(10)
            link.sendto(data, sender)


def _remove_left(run: Path) -> None:
    """What the attempts left outside of the scene, where nothing kept them from it."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        Path(folder, "doctor-left").unlink(missing_ok=True)
    remove_tree(scratch_of(run))
