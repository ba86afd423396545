"""What the doctor tries from inside a sandbox: each the body of a function that runs as a run would.

It returns what it could do, or raises OSError where it was refused; `t` holds the scene's names (doctor.py). None of
them does harm where nothing stops it: files are opened for appending and not written, what is made is removed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

APPEND = "os.close(os.open({target}, os.O_WRONLY | os.O_APPEND)); return 'could write ' + {target}"
CALL = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    # those that this architecture does not have, too, count as refused
    answer = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in (t['calls'][name], *arguments)])
    if answer < 0 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
"""
FILL = """
try:
    for i in range(t['scratch_mb'] // 8 + 8):
        with open(os.path.join({folder}, 'doctor-fill%d' % i), 'wb', buffering=0) as file:
            for _ in range(8):
                file.write(bytes(2**20))
    return 'wrote %d MB' % (t['scratch_mb'] + 64)
finally:
    for name in os.listdir({folder}):
        if name.startswith('doctor-fill'):
            os.unlink(os.path.join({folder}, name))
"""
LEAVE = """
for folder in (os.environ['TMPDIR'], '/tmp', '/var/tmp', '/dev/shm', '.'):
    try:
        open(os.path.join(folder, 'doctor-left'), 'x').close()
    except OSError:
        continue
return 'left something'
"""
SEGMENT = CALL + "key = int(t['token'][:7], 16)\n"
CHANGE = """
before = os.stat('train.py')
{change}
after = os.stat('train.py')
if (before.st_mode, before.st_mtime) == (after.st_mode, after.st_mtime):
    raise PermissionError('nothing was changed')
return 'changed those of train.py'
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing tried. `forbidden`: it is to be refused, otherwise it has to work. `root`: the cure where root runs it.

    `roomy` gives it the limits of a real run instead of narrow ones; `environment` is what it would be passed on;
    `before` is what a run before it does.
    """

    name: str
    code: str
    forbidden: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    roomy: bool = False
    root: str = ""
    before: str = ""


ROOT_COUNTS = "run research-loop as an ordinary user: Linux counts no processes for root"

FILES = (
    Attempt("read a file of the home", "open(t['home']).close(); return 'could read ' + t['home']"),
    Attempt("read /etc/shadow", "open('/etc/shadow').close(); return 'could read it'"),
    Attempt("read the ledger", "open(t['ledger'], 'rb').close(); return 'could read ' + t['ledger']"),
    Attempt("write the ledger", APPEND.format(target="t['ledger']")),
    Attempt("write the lab's train.py", APPEND.format(target="t['train']")),
    Attempt("write the lab's results.tsv", APPEND.format(target="t['results']")),
    Attempt("write the lab's git repository", APPEND.format(target="t['git']")),
    Attempt("change its own train.py", APPEND.format(target="'train.py'")),
    Attempt(
        "put a module beside its train.py",
        "open('torch.py', 'x').close(); os.unlink('torch.py'); return 'could write torch.py'",
    ),
    Attempt(
        "write to the installed packages",
        """
path = os.path.join(t['packages'], 'research_loop_doctor.pth')
open(path, 'x').close()
os.unlink(path)
return 'could write ' + path
""",
    ),
    Attempt(
        "write where nothing counts it",
        """
for folder in ('/', '/dev', '/var/tmp', '/run', '/home', '/opt'):
    path = os.path.join(folder, 'research-loop-doctor')
    try:
        open(path, 'x').close()
    except OSError:
        continue
    os.unlink(path)
    return 'could write to ' + folder
raise PermissionError('nowhere')
""",
    ),
    Attempt(
        "change the kernel's settings",
        """
settings = ('sys/kernel/core_pattern', 'driver/nvidia/suspend', 'sysrq-trigger', 'irq/default_smp_affinity', 'mtrr')
for path in (*['/proc/' + name for name in settings], '/sys/kernel/mm/transparent_hugepage/enabled'):
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        continue
    return 'could write ' + path
raise PermissionError('none of them')
""",
    ),
    Attempt("cut off a file by its name", "os.truncate('train.py', 0); return 'could cut train.py off'"),
    Attempt("change a file's modes", CHANGE.format(change="os.chmod('train.py', 0o604)")),
    Attempt("leave a mark in a file's times", CHANGE.format(change="os.utime('train.py', (1, 1))")),
    Attempt("fill its /tmp", FILL.format(folder="os.environ['TMPDIR']")),
    Attempt("fill /dev/shm", FILL.format(folder="'/dev/shm'")),
)

NETWORK = (
    Attempt(
        "connect to a port of this machine",
        "import socket; socket.create_connection(('127.0.0.1', t['tcp']), 1).close(); return 'connected'",
    ),
    Attempt(
        "send a datagram to this machine",
        """
import socket
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.settimeout(0.3)
link.connect(('127.0.0.1', t['udp']))
link.send(b'?')
return 'was answered ' + link.recv(10).decode()
""",
    ),
    Attempt(
        "find a way to the internet",
        """
import socket
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.connect(('192.0.2.1', 9))  # looks up the route and sends nothing
return 'there is a route'
""",
    ),
    Attempt(
        "connect to a Unix socket",
        "import socket; socket.socket(socket.AF_UNIX).connect(t['unix']); return 'connected to ' + t['unix']",
    ),
    Attempt(
        "send to a Unix socket from a pair",  # which no rule on opening sockets or connecting them touches
        """
import socket
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
pair[0].sendto(b'?', t['letters'])
return 'sent to ' + t['letters']
""",
    ),
    Attempt(
        "connect to an abstract socket",
        "import socket; socket.socket(socket.AF_UNIX).connect('\\0' + t['abstract']); return 'connected'",
    ),
    Attempt(
        "reach the host of a virtual machine", "import socket; socket.socket(40, 1); return 'has an AF_VSOCK socket'"
    ),
)

PROCESSES = (
    Attempt(
        "trace a process of this user",
        CALL + "call('ptrace', 0x4206, t['victim'], 0, 0); return 'attached'",
    ),
    Attempt(
        "read another's environment",
        "return 'read %d bytes' % len(open('/proc/%d/environ' % t['victim'], 'rb').read())",
    ),
    Attempt(
        "read another's memory",
        CALL + "call('process_vm_readv', t['victim'], 0, 0, 0, 0, 0); return 'may read'",
    ),
    Attempt(
        "find other processes",
        """
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        with open('/proc/%s/cmdline' % pid, 'rb') as line:
            words = line.read().split(b'\\0')
    except OSError:
        continue
    if t['token'].encode() in words:
        return 'found the doctor\\'s'
raise ProcessLookupError('none but its own')
""",
    ),
    Attempt(
        "read another's command line",
        "return 'read %d bytes' % len(open('/proc/%d/cmdline' % t['victim'], 'rb').read())",
    ),
    Attempt(
        "limit another process",
        "import resource; resource.prlimit(t['victim'], resource.RLIMIT_CORE, (0, 0)); return 'could set a limit'",
    ),
    Attempt(
        "raise its own limits",
        """
import resource
was = resource.getrlimit(resource.RLIMIT_NPROC)
if was[1] == resource.RLIM_INFINITY:
    return 'has no limit of processes'
try:
    resource.setrlimit(resource.RLIMIT_NPROC, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
except ValueError:
    raise PermissionError('not allowed') from None
return 'raised it'
""",
    ),
    Attempt(
        "fork without end",
        """
import signal
born = []
try:
    for _ in range(t['forks']):
        pid = os.fork()
        if pid == 0:
            signal.pause()
        born.append(pid)
    return 'started %d processes' % len(born)
finally:
    for pid in born:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
""",
        root=ROOT_COUNTS,
    ),
    Attempt(
        "outlive its own end",
        """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(1), os.close(2)
        time.sleep(30)
    os._exit(0)
raise InterruptedError('is gone with the run')
""",
    ),
    Attempt("kill a process of this user", "os.kill(t['victim'], 9); return 'sent the signal'"),
)

KERNEL = (
    Attempt(
        "have root's powers",
        """
words = open('/proc/self/status').read().split()
powers = int(words[words.index('CapEff:') + 1], 16)
if powers:
    return 'has capabilities %x' % powers
raise PermissionError('has none')
""",
    ),
    Attempt("make a user name space", CALL + "call('unshare', 0x10000000); return 'made one'"),
    Attempt(
        "clone into a user name space",
        CALL + "pid = call('clone', 0x10000011, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\nreturn 'made one'",
    ),
    Attempt(
        "mount a file system",
        CALL
        + """
call('mount', b'none', t['mountpoint'].encode(), b'tmpfs', 0, 0)
call('umount2', t['mountpoint'].encode(), 0)
return 'mounted one'
""",
    ),
    Attempt("use io_uring", CALL + "call('io_uring_setup', 1, bytes(120)); return 'set up'"),
    Attempt("use the kernel's keyring", CALL + "call('keyctl', 0, -3, 0); return 'has one'"),
    Attempt("load a bpf map", CALL + "call('bpf', 0, (2).to_bytes(4, 'little') + bytes(124), 128); return 'may'"),
    Attempt(
        "open performance counters",
        CALL + "call('perf_event_open', b'\\1\\0\\0\\0p\\0\\0\\0' + bytes(104), 0, -1, -1, 0); return 'may'",
    ),
    Attempt("handle page faults", CALL + "call('userfaultfd', 1); return 'may'"),
)

STATE = (
    Attempt(
        "see the harness's secrets",
        """
found = [name for name, value in os.environ.items() if t['token'] in value]
if not found:
    raise PermissionError('not among its variables')
return 'saw ' + found[0]
""",
    ),
    Attempt(
        "be led by the environment",
        """
found = [name for name in ('LD_PRELOAD', 'PYTHONSTARTUP', 'PYTHONPATH') if name in os.environ]
found += [name for name in ('sitecustomize', 'usercustomize') if getattr(sys.modules.get(name), 'DOCTOR', False)]
if not found:
    raise PermissionError('not passed on')
return 'passed on: ' + ' '.join(found)
""",
        environment={"PYTHONPATH": "{evil}", "PYTHONSTARTUP": "{evil}/sitecustomize.py", "BASH_ENV": "{evil}/rc"},
    ),
    Attempt(
        "load a forged cache of prepare.py",
        """
sys.path.insert(0, os.getcwd())
import prepare
if prepare.VALUE == 'forged':
    return 'it was loaded'
raise PermissionError('it was not loaded')
""",
    ),
    Attempt(
        "find what an earlier run left",
        """
folders = [os.environ['TMPDIR'], '/tmp', '/var/tmp', '/dev/shm', '.']
found = [f for f in folders if os.path.exists(os.path.join(f, 'doctor-left'))]
if found:
    return 'found it in ' + found[0]
raise FileNotFoundError('nothing')
""",
        before=LEAVE,
    ),
    Attempt(
        "find an earlier run's shared memory",
        SEGMENT
        + """
number = call('shmget', key, 0, 0)
if number < 0:
    raise FileNotFoundError('nothing')
call('shmctl', number, 0, 0)
return 'found it'
""",
        before=SEGMENT + "return 'left %d' % call('shmget', key, 4096, 0o1600)",
    ),
    Attempt(
        "use another GPU",
        """
nodes = [n for n in os.listdir('/dev') if n.startswith('nvidia') and n[6:].isdigit() and int(n[6:]) != t['gpu']]
for node in nodes:
    os.close(os.open('/dev/' + node, os.O_RDWR))
    return 'could open /dev/' + node
raise FileNotFoundError('there is none')
""",
    ),
)

NEEDED = (
    Attempt("read its folder", "open('train.py').close(); return 'could'", forbidden=False),
    Attempt(
        "write to its /tmp",
        "import tempfile; tempfile.TemporaryFile().write(b'x'); return tempfile.gettempdir()",
        forbidden=False,
    ),
    Attempt(
        "write to /dev/shm",
        """
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=4096)
memory.close()
memory.unlink()
return 'could'
""",
        forbidden=False,
    ),
    Attempt(
        "start a program",
        "import subprocess; return 'exit code %d' % subprocess.run(['/bin/sh', '-c', 'true'], check=True).returncode",
        forbidden=False,
    ),
    Attempt(
        "train with torch",
        """
try:
    import torch
except ModuleNotFoundError:
    return 'torch is not installed'
device = 'cuda' if t['gpu'] is not None else 'cpu'
weights = torch.ones(64, 64, device=device, requires_grad=True)
(weights @ weights).sum().backward()
return 'on %s, gradient %.0f' % (device, weights.grad[0, 0].item())
""",
        forbidden=False,
        roomy=True,
    ),
)

HOSTILE = (*FILES, *NETWORK, *PROCESSES, *KERNEL, *STATE)
