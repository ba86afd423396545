"""Contained runs as real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from research_loop.files import remove_tree
from research_loop.runners.local import LocalRunner
from research_loop.runners.remains import LAB_MARKER
from research_loop.sandbox import Backend, SandboxError, Spec, choose, scratch_of
from research_loop.sandbox_launch import own_group
from runs import DAEMONS, finish, first_line, harness, linux, make_job, marked, until

pytestmark = linux


def working(name: str) -> Backend:
    try:
        return choose(name)
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["bubblewrap", "landlock"])
def backend(request: pytest.FixtureRequest) -> Backend:
    try:
        return choose(request.param)
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder in a lab, with a link to the lab's data."""
    lab = tmp_path / "lab"
    run = lab / ".research-loop" / "runs" / "7.0"
    run.mkdir(parents=True)
    (lab / "data").mkdir()
    (lab / "data" / "shard").write_text("rows")
    (lab / "results.tsv").write_text("secret")
    (run / "train.py").write_text("")
    (run / "data").symlink_to(lab / "data")
    return run


def inside(backend: Backend, folder: Path, code: str, *arguments: object, **spec: object) -> object:
    """What the code prints as JSON from inside."""
    done = start(backend, folder, code, *arguments, **spec)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def start(
    backend: Backend, folder: Path, code: str, *arguments: object, **spec: object
) -> subprocess.CompletedProcess[str]:
    given = Spec(folder, readable=(folder.parents[2] / "data",), scratch_mb=16)
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    argv, environment = backend.wrap(command, replace(given, **spec), {"PATH": os.defpath, "WANTED": "yes"})  # type: ignore[arg-type]
    return subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, timeout=30)


# ------------------------------------------------------------------------------------------------------- contained


def test_a_run_sees_its_folder_and_its_data_and_not_the_lab(backend: Backend, folder: Path) -> None:
    code = """
        import json, os, sys
        lab = sys.argv[1]
        def can(path):
            try:
                open(path).close()
                return True
            except OSError:
                return False
        names = ("train.py", "data/shard", lab + "/data/shard", lab + "/results.tsv", "/etc/shadow")
        print(json.dumps([os.getcwd(), *map(can, names)]))
    """
    assert inside(backend, folder, code, folder.parents[2]) == [str(folder), True, True, True, False, False]


def test_descriptors_environment_and_exit_code_go_through(backend: Backend, folder: Path) -> None:
    code = "import os, sys; os.write(0, os.read(0, 9) + os.environ['WANTED'].encode()); sys.exit(7)"
    argv, environment = backend.wrap([sys.executable, "-c", code], Spec(folder), {"PATH": os.defpath, "WANTED": "yes"})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        run = subprocess.Popen(argv, env=environment, cwd=folder, stdin=theirs.fileno())
        theirs.close()
        ours.settimeout(20)
        ours.send(b"hello ")
        assert ours.recv(20) == b"hello yes"
        assert run.wait(20) == 7
        assert ours.recv(1) == b"", "nobody holds the run's end once it is gone"


def test_a_run_inherits_no_other_descriptor(backend: Backend, folder: Path) -> None:
    code = """
        import json, os
        kinds = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 2 and
                 os.path.exists(f"/proc/self/fd/{n}")]
        print(json.dumps([kind for kind in kinds if not kind.startswith("/proc/")]))
    """
    assert inside(backend, folder, code) == []


def test_what_loads_other_code_is_not_passed_on(backend: Backend, folder: Path) -> None:
    given = {"PYTHONPATH": "/x", "PYTHONSTARTUP": "/x", "LD_PRELOAD": "/x", "XDG_CACHE_HOME": "/x", "LC_CTYPE": "C"}
    _, environment = backend.wrap(["true"], Spec(folder), {**given, "PYTHONUNBUFFERED": "1"})
    assert {*given} & {*environment} == {"LC_CTYPE"} and environment["PYTHONUNBUFFERED"] == "1"
    assert environment["HOME"] == environment["TMPDIR"] != os.environ["HOME"]


def test_nothing_is_left_for_the_next_run(backend: Backend, folder: Path) -> None:
    code = """
        import json, os
        places = [os.environ["TMPDIR"], "/tmp", "/dev/shm", "/var/tmp", "."]
        print(json.dumps([os.path.exists(place + "/left") for place in places]))
        for place in places:
            try:
                open(place + "/left", "w").close()
            except OSError:
                pass
    """
    first, second = inside(backend, folder, code), inside(backend, folder, code)
    assert first == second == [False] * 5


@pytest.mark.parametrize("where", ["", "package"])
def test_a_forged_cache_in_the_folder_is_not_loaded(backend: Backend, folder: Path, where: str) -> None:
    import importlib.util
    import py_compile

    (folder / where).mkdir(exist_ok=True)
    module = folder / where / "prepare.py"
    module.write_text("VALUE = 'forged'\n")
    os.utime(module, (1e9, 1e9))
    py_compile.compile(str(module), importlib.util.cache_from_source(str(module)), doraise=True)
    module.write_text("VALUE = 'honest'\n")
    os.utime(module, (1e9, 1e9))
    name = "prepare" if not where else "package.prepare"
    assert inside(backend, folder, f"import json, {name}; print(json.dumps({name}.VALUE))") == "honest"
    code = f"import sys; sys.path.insert(0, '.'); import json, {name}; print(json.dumps({name}.VALUE))"
    bare = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert json.loads(bare.stdout) == "forged", "the forgery works where nothing is between"


def test_installed_packages_keep_their_caches(backend: Backend, folder: Path) -> None:
    """Without them every import of torch compiles it anew: two seconds a run."""
    code = (
        "import json, email.message as m; print(json.dumps([m.__cached__, __import__('os').path.exists(m.__cached__)]))"
    )
    path, there = inside(backend, folder, code)  # type: ignore[misc]
    assert there and "__pycache__" in path


def test_scratch_is_bounded_and_nothing_else_can_be_written(folder: Path) -> None:
    bubblewrap = working("bubblewrap")
    code = """
        import errno, json
        def fill(folder):
            try:
                for i in range(40):
                    open(f"{folder}/{i}", "wb").write(bytes(2**20))
            except OSError as error:
                return errno.errorcode[error.errno], i
        print(json.dumps([fill(folder) for folder in ("/tmp", "/dev/shm", "/dev", "/", "/var/tmp", ".")]))
    """
    tmp, shm, *others = inside(bubblewrap, folder, code)  # type: ignore[misc]
    assert tmp[0] == shm[0] == "ENOSPC" and 10 <= tmp[1] <= 16 and 10 <= shm[1] <= 16
    assert all(code in ("EROFS", "EACCES", "ENOENT") and i == 0 for code, i in others)


def test_roots_switches_in_proc_are_read_only(folder: Path) -> None:
    names = [path for path in ("/proc/sys", "/proc/driver") if Path(path).exists()]
    code = "import json, os, sys; print(json.dumps([os.statvfs(path).f_flag & 1 for path in sys.argv[1:]]))"
    assert inside(working("bubblewrap"), folder, code, *names) == [1] * len(names)


def test_a_missing_path_is_said_before_the_run(backend: Backend, folder: Path) -> None:
    with pytest.raises(SandboxError, match="gone: a run is to see it"):
        backend.wrap(["true"], Spec(folder, (folder / "gone",)), {})


def test_no_run_starts_where_the_plan_cannot_be_kept(folder: Path) -> None:
    landlock = working("landlock")
    argv, environment = landlock.wrap([sys.executable, "-c", "print('ran')"], Spec(folder), {})
    plan = json.loads(argv[4])
    plan["readable"].append("/no/such/path")
    done = subprocess.run(
        [*argv[:4], json.dumps(plan), *argv[5:]], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 126 and done.stdout == ""
    assert done.stderr.startswith("sandbox: ") and "Traceback" not in done.stderr


def test_root_is_bounded_by_a_group_and_ended_groups_are_removed(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root is not bounded by its own limit")
    code = """
        import json, os, signal
        born = []
        try:
            while len(born) < 200 and (pid := os.fork()):
                born.append(pid)
            if len(born) < 200:
                signal.pause()
        except OSError:
            pass
        print(json.dumps(len(born)))
        for pid in born:
            os.kill(pid, signal.SIGKILL)
    """
    try:
        own_group()
    except OSError as error:
        pytest.skip(f"no control group for processes here ({error}); the doctor says so")
    started = inside(working("bubblewrap"), folder, code, processes=30)
    assert isinstance(started, int) and 20 <= started < 30
    inside(working("bubblewrap"), folder, "print(1)")
    groups = list(Path("/sys/fs/cgroup").glob("**/research-loop.*"))
    assert len([g for g in groups if not psutil.pid_exists(int(g.suffix[1:]))]) <= 1


def test_libraries_go_on_that_copy_modes_and_times(backend: Backend, folder: Path) -> None:
    code = """
        import json, os, shutil, tempfile
        with tempfile.TemporaryDirectory() as place:
            shutil.copy2("train.py", place)
            os.chmod(place, 0o755)
            shutil.copytree(place, place + "/copy")
            print(json.dumps(os.path.getsize(place + "/copy/train.py")))
    """
    (folder / "train.py").write_text("12345")
    assert inside(backend, folder, code) == 5


def test_nothing_of_a_file_that_is_only_to_be_read_can_be_changed(backend: Backend, folder: Path) -> None:
    """Its modes, times, attributes and flags would be there for the next run to read."""
    code = """
        import fcntl, json, os
        def attempt(action, *words):
            try:
                action(*words)
            except OSError:
                pass
        before = os.stat("train.py")
        file = os.open("train.py", os.O_RDONLY)
        for name in ("train.py", file):
            attempt(os.chmod, name, 0)
            attempt(os.utime, name, (1, 1))
            attempt(os.chown, name, 1, 1)
            attempt(os.setxattr, name, "user.left", b"1")
        attempt(os.truncate, "train.py", 0)
        attempt(fcntl.ioctl, file, 0x40086602, (0x40).to_bytes(8, "little"))
        after = os.stat("train.py")
        flags = int.from_bytes(fcntl.ioctl(file, 0x80086601, bytes(8)), "little") & 0x40
        same = [getattr(before, n) == getattr(after, n) for n in ("st_mode", "st_mtime", "st_uid", "st_size")]
        print(json.dumps([*same, os.listxattr(file), flags]))
    """
    (folder / "train.py").write_text("1")
    assert inside(backend, folder, code) == [True, True, True, True, [], 0]


def test_a_device_of_the_machine_keeps_its_modes_and_times(backend: Backend, folder: Path) -> None:
    before = Path("/dev/full").stat()
    code = """
        import json, os
        for action, value in ((os.utime, (5, 5)), (os.chmod, 0o646)):
            try:
                action("/dev/full", value)
            except OSError:
                pass
        print(1)
    """
    inside(backend, folder, code)
    after = Path("/dev/full").stat()
    assert (after.st_mode, after.st_mtime) == (before.st_mode, before.st_mtime)


def test_folders_of_any_depth_do_not_stop_the_next_run(folder: Path) -> None:
    code = """
        import os
        os.chdir(os.environ["TMPDIR"])
        print(len(os.listdir()))
        for _ in range(3000):
            os.mkdir("deep")
            os.chdir("deep")
    """
    landlock = working("landlock")
    try:
        assert inside(landlock, folder, code) == inside(landlock, folder, code) == 0
    finally:
        remove_tree(scratch_of(folder))  # pytest could not


# ---------------------------------------------------------------------------------------------- through the runner


@pytest.fixture
def runner() -> Iterator[LocalRunner]:
    made = LocalRunner()
    yield made
    made.close()


def contained(backend: Backend, folder: Path, code: str, limit: float = 20.0, **given: str):  # type: ignore[no-untyped-def]
    job = make_job(folder, code, limit, **given)
    argv, environment = backend.wrap(job.command, Spec(folder), job.environment)
    return replace(job, command=argv, environment=environment, log=folder.parent / "run.log")


def test_a_contained_run_is_scored(backend: Backend, folder: Path, runner: LocalRunner) -> None:
    runner.start(contained(backend, folder, "print('---\\nval_bpb:          1.250000')"))
    result = finish(runner)
    assert result.score is not None and result.score.value == 1.25
    assert result.peak_ram_mb is not None and result.peak_ram_mb > 3


def test_a_timeout_leaves_nothing(backend: Backend, folder: Path, runner: LocalRunner) -> None:
    token = f"timeout-{os.getpid()}-{backend.name}"
    job = contained(backend, folder, DAEMONS + "time.sleep(60)\n", limit=0.6, **{LAB_MARKER: token})
    runner.start(job)
    assert until(lambda: len(marked(token)) >= 7), "run and daemons are up"
    result = finish(runner)
    assert (result.outcome, result.reason) == ("crash", "timeout")
    assert marked(token) == []


def test_a_killed_bubblewrap_takes_everything_along(folder: Path) -> None:
    """Without any help of the keeper's."""
    token = f"alone-{os.getpid()}"
    job = contained(working("bubblewrap"), folder, DAEMONS + "time.sleep(60)\n", **{LAB_MARKER: token})
    run = subprocess.Popen(job.command, env=job.environment, cwd=folder, stdout=subprocess.DEVNULL)
    assert until(lambda: len(marked(token)) >= 8), "bubblewrap, its init, the run and its daemons"
    run.kill()
    run.wait()
    gone = until(lambda: marked(token) == [], 3.0)
    for pid in marked(token):
        with contextlib.suppress(ProcessLookupError):  # it went with the one before
            os.kill(pid, signal.SIGKILL)
    assert gone


@pytest.mark.parametrize("who", ["keeper", "harness"])
def test_a_killed_keeper_or_harness_takes_the_namespace_along(folder: Path, who: str) -> None:
    token = f"killed-{os.getpid()}-{who}"
    job = contained(working("bubblewrap"), folder, DAEMONS + "time.sleep(60)\n", 60.0, **{LAB_MARKER: token})
    other = harness(replace(job, log=folder.parent / "run.log"))
    try:
        keeper, _ = first_line(other)
        assert until(lambda: len(marked(token)) >= 7)
        os.kill(int(keeper) if who == "keeper" else other.pid, signal.SIGKILL)
        assert until(lambda: marked(token) == [], 5.0)
    finally:
        other.kill()
        other.communicate()


def test_the_scratch_folder_is_beside_the_runs_own(folder: Path) -> None:
    inside(working("landlock"), folder, "print(open(__import__('os').environ['TMPDIR'] + '/1', 'w').write(''))")
    assert [path.name for path in scratch_of(folder).iterdir()] == ["1"]
    assert scratch_of(folder).parent == folder.parent


FILL = """
import json, os, pathlib
place = pathlib.Path(os.environ["TRITON_CACHE_DIR"])
before = sorted(path.name for path in place.parent.rglob("*") if path.is_file())
place.mkdir(parents=True, exist_ok=True)
(place / sys.argv[1]).write_text("kernel")
print(json.dumps(before))
"""


def test_compiled_kernels_are_kept_from_who_may_fill_and_copied_to_the_others(folder: Path, tmp_path: Path) -> None:
    try:
        backend = choose("bubblewrap")
    except SandboxError as error:
        pytest.skip(str(error))
    caches = tmp_path / "caches"
    caches.mkdir()
    code = "import sys" + FILL
    assert inside(backend, folder, code, "of the baseline", caches=caches, fill=True) == []
    for name in ("of a candidate", "of the next"):
        assert inside(backend, folder, code, name, caches=caches) == ["of the baseline"]
    assert [path.name for path in caches.rglob("*") if path.is_file()] == ["of the baseline"]
    assert inside(backend, folder, code, "without any") == []
