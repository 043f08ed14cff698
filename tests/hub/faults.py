"""What goes wrong between a client and the Hub, and on the client's own disk.

Faults of the server are `Fault` records that `LoopbackHub.inject` takes. Faults of the client's machine are texts of
`sitecustomize.py`, which Python runs before everything else in a fresh process: `run_python(..., site=[...])`.
"""

import random
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["drop", "lose_answer", "truncate", "status", "slow", "corrupt"]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with some requests.

    Args:
        kind: `drop` closes the connection before the request is acted on; `lose_answer` acts on it, then closes;
            `truncate` announces the full Content-Length, sends `after` bytes and closes; `status` only answers with
            `status`; `slow` sends `chunk` bytes every `delay_s` seconds; `corrupt` flips one bit of byte `after`.
        method, path: regular expressions that must be found in the request's method and (unquoted) path.
        nth: the first matching request that is struck, from 1.
        times: how many are struck; None: no end.
        probability: strike with this chance instead of surely.
        status, retry_after_s, after, chunk, delay_s: see `kind`.
    """

    kind: Kind
    path: str = ""
    method: str = "GET|PUT|POST|DELETE"
    nth: int = 1
    times: int | None = 1
    probability: float = 1.0
    status: int = 503
    retry_after_s: int | None = None
    after: int = 0
    chunk: int = 65536
    delay_s: float = 0.05


@dataclass
class _Count:
    seen: int = 0
    struck: int = 0


@dataclass
class FaultPlan:
    """Decides which requests are struck. Chance comes from one generator, so equal requests meet equal faults."""

    seed: int = 0
    _faults: list[tuple[Fault, _Count]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Add faults; where several match, the first one strikes."""
        with self._lock:
            self._faults += [(fault, _Count()) for fault in faults]

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def num_struck(self) -> int:
        """How many requests were struck so far by the faults that stand."""
        return sum(count.struck for _, count in self._faults)

    def choose(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this request, if any."""
        with self._lock:
            for fault, count in self._faults:
                if not (re.search(fault.method, method) and re.search(fault.path, path)):
                    continue
                count.seen += 1
                spent = fault.times is not None and count.struck >= fault.times
                if spent or count.seen < fault.nth or self._random.random() >= fault.probability:
                    continue
                count.struck += 1
                return fault
        return None


# A file system that takes locks and lets everyone have them: what some network and FUSE mounts do. filelock, and with
# it huggingface_hub and datasets, lock by `fcntl.flock`.
NO_FILE_LOCKS = """
import fcntl
fcntl.flock = fcntl.lockf = lambda *arguments, **keywords: None
"""

# A disk that is full in one folder, in the child process only. `huggingface_hub` writes through Python's files, so its
# downloads fail as on a full disk: what still fits is written, then `OSError: [Errno 28] No space left on device`. The
# limits of the operating system do not serve: RLIMIT_FSIZE holds for every single file anywhere and says EFBIG; a
# small mount needs root. Bytes are counted as they are written and not given back by deletion. Writers that are not
# Python (safetensors, pyarrow) pass by; for those there is `file_size_limit`.
_DISK_FULL = """
import builtins, errno, io, os, shutil

FOLDER = os.path.realpath({folder!r})
left = {num_bytes}
real_open, real_write = io.open, os.write

def concerned(file):
    if isinstance(file, int):
        file = f"/proc/self/fd/{{file}}"
    return (os.path.realpath(file) + "/").startswith(FOLDER + "/")

def take(size):
    global left
    granted = min(size, left)
    if size and not granted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), FOLDER)
    left -= granted
    return granted

class FullDiskFile(io.FileIO):
    def write(self, data):
        view = memoryview(data).cast("B")
        return super().write(view[:take(len(view))])

def open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    if not set(mode) & set("wax+") or not concerned(file):
        return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    raw = FullDiskFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
    if buffering == 0:
        return raw
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    buffered = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
    return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)

def write(descriptor, data):
    return real_write(descriptor, data[:take(len(data))] if concerned(descriptor) else data)

builtins.open = io.open = open
os.write = write
shutil._USE_CP_SENDFILE = shutil._USE_CP_COPY_FILE_RANGE = False
"""

# No file may grow beyond this, whoever writes it: OSError EFBIG (27), as under a quota that is too small.
_FILE_SIZE_LIMIT = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes}, {num_bytes}))
"""


def disk_full(folder: Path, num_bytes: int) -> str:
    """The sitecustomize text of a process for which `folder` takes `num_bytes` more, in all its files together."""
    return _DISK_FULL.format(folder=str(folder), num_bytes=num_bytes)


def file_size_limit(num_bytes: int) -> str:
    """The sitecustomize text of a process that may make no file larger than this; reaches native writers too."""
    return _FILE_SIZE_LIMIT.format(num_bytes=num_bytes)
