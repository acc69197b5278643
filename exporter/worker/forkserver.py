"""Start workers of PyTorch by forking a process that has imported it: an import takes six seconds of a core.

The server imports, and scores nothing; each worker is forked from it, loads its own model into memory of its
own, and ends. Linux only: elsewhere, and where the server cannot be had, a worker imports for itself.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from exporter.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SERVE = "--serve"
# Numbers of prctl(2).
# Source: https://github.com/torvalds/linux/blob/v6.6/include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 36, 37
_MESSAGE_BYTES = 1 << 16
# How long an import, or a fork, may take; a worker that imports for itself is as good.
_PATIENCE_S = 120.0
# What a worker sets for itself; all other variables are the server's from its start.
OWN_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Forked:
    """A forked worker, with those members of `subprocess.Popen` that are used of a worker."""

    def __init__(self, pid: int, stdin: IO[str], stdout: IO[str]) -> None:
        """Hold the process, a child of this one, and this side's ends of its pipes."""
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def __exit__(self, *_: object) -> None:
        """Close the pipes, and wait."""
        self.stdout.close()
        try:
            self.stdin.close()
        finally:
            self.wait()

    def poll(self) -> int | None:
        """Return how it ended, as `subprocess` says it; None while it runs."""
        with self._lock:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else waited for it: nobody knows, and Popen says 0 too
                    self.returncode = 0
                else:
                    self.returncode = os.waitstatus_to_exitcode(status) if pid else None
            return self.returncode

    def wait(self) -> int:
        """Return how it ended, once it has."""
        while (code := self.poll()) is None:
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class ForkServer:
    """A process that has imported sentence-transformers and forks workers; this process's child."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it, and wait for nothing.

        Args:
            environment: its variables, all but HF_HOME, which is a folder of its own.

        Raises:
            OSError: the system refuses.
        """
        self._scratch = Scratch("forkserver")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_PATIENCE_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "exporter.worker", SERVE, str(theirs.fileno()), str(os.getpid())],
                env={**environment, "HF_HOME": str(self._scratch.path / "hf")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a worker without it says what is wrong
                pass_fds=(theirs.fileno(),),
                process_group=0,
            )

    def alive(self) -> bool:
        """Return whether it still runs."""
        return self._process.poll() is None

    def fork(self, job: Path, run: Path, own: Mapping[str, str], stderr: int) -> Forked:
        """Fork a worker, and wait until it is this process's child.

        Args:
            job: the file that says what it is to do.
            run: the file for what comes of it.
            own: variables that it sets for itself.
            stderr: a file descriptor.

        Raises:
            OSError: the server has ended, or does not answer.
        """
        message = json.dumps({"job": str(job), "run": str(run), "own": dict(own), "folder": str(Path.cwd())})
        their_in, our_in = os.pipe()
        our_out, their_out = os.pipe()
        with ExitStack() as ours:
            stdin = ours.enter_context(os.fdopen(our_in, "w", encoding="utf-8"))
            stdout = ours.enter_context(os.fdopen(our_out, encoding="utf-8", errors="replace"))
            try:
                socket.send_fds(self._socket, [message.encode()], [their_in, their_out, stderr])
                answer = self._socket.recv(_MESSAGE_BYTES)
            finally:
                os.close(their_in)
                os.close(their_out)
            if not answer:
                raise ConnectionError("the server has ended")
            ours.pop_all()
        return Forked(int(answer), stdin, stdout)

    def end(self) -> None:
        """End it; workers that it forked go on."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._scratch.cleanup()


class _Kept(NamedTuple):
    server: ForkServer
    key: tuple[object, ...]
    owner: int


_kept: _Kept | None = None


def forked(folder: str, job: Path, run: Path, environment: Mapping[str, str], stderr: int) -> Forked | None:
    """Fork a worker from the one server that is kept, started anew for another model or environment.

    What a library keeps of one model's folder must not stand for another.

    Args:
        folder: the model's.
        job: the file that says what it is to do.
        run: the file for what comes of it.
        environment: its variables.
        stderr: a file descriptor.

    Returns:
        The worker; None where it has to be started from nothing.
    """
    global _kept  # noqa: PLW0603 # one for the process, as its children are
    if sys.platform != "linux":
        return None
    own = {name: environment[name] for name in OWN_VARIABLES}
    rest = {name: value for name, value in environment.items() if name not in {*OWN_VARIABLES, "HF_HOME"}}
    key = (folder, tuple(sorted(rest.items())))
    try:
        if _kept is None or _kept.key != key or _kept.owner != os.getpid() or not _kept.server.alive():
            end_server()
            _kept = _Kept(ForkServer(environment), key, os.getpid())
        with _taking_orphans():
            return _kept.server.fork(job, run, own, stderr)
    except OSError:
        end_server()
        return None


@contextmanager
def _taking_orphans() -> Iterator[None]:
    """Make this process the one that orphans of its children go to, for a block.

    Raises:
        OSError: the system has no such thing.
    """
    prctl, before = ctypes.CDLL(None).prctl, ctypes.c_int()
    if prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0) or prctl(
        _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0
    ):
        raise OSError("this process cannot take orphans")
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


@atexit.register
def end_server() -> None:
    """End the server that is kept, if it is this process's own."""
    global _kept
    kept, _kept = _kept, None
    if kept is not None and kept.owner == os.getpid():
        kept.server.end()


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do, and the CPU seconds that imports took before it was forked; 0 if it was not."""

    job: Path
    run: Path
    import_s: float = 0.0


def serve(fd: int, parent: int) -> Order:
    """Import, then fork a worker for each message; returns in the workers only.

    A worker is forked twice, so that it becomes a child of `parent`, which has made itself the one that
    orphans go to, can wait for it, and learns how much memory it had.
    Source: https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html

    Args:
        fd: the socket's file descriptor.
        parent: the process that started this one.

    Raises:
        SystemExit: the parent has ended.
    """
    end_with(parent)
    connection = socket.socket(fileno=fd)
    started = time.process_time()
    with suppress(Exception):  # a worker repeats it, and says what is wrong
        import sentence_transformers  # noqa: F401 # torch and transformers with it
    import_s = time.process_time() - started
    # Source: https://docs.python.org/3/library/gc.html#gc.freeze (pages that are not written stay shared)
    gc.freeze()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks: no thread here holds a lock
    while True:
        message, fds = _received(connection)
        if not message:
            raise SystemExit
        if child := os.fork():
            os.waitpid(child, 0)
            for each in fds:
                os.close(each)
            continue
        if os.fork():
            os._exit(0)
        asked = json.loads(message)
        _become_worker(connection, fds, parent, asked)
        return Order(Path(asked["job"]), Path(asked["run"]), import_s)


def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    message, fds, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 3)
    return message, fds


def _become_worker(
    connection: socket.socket, fds: Sequence[int], parent: int, asked: Mapping[str, Any]
) -> None:
    """Take over the pipes, the folder and the variables, and say so once `parent` is the parent."""
    os.setpgid(0, 0)
    for standard, each in enumerate(fds):
        os.dup2(each, standard)
        os.close(each)
    os.chdir(asked["folder"])
    os.environ.update(asked["own"])
    give_up = time.monotonic() + _PATIENCE_S
    while os.getppid() != parent and time.monotonic() < give_up:
        time.sleep(0.0005)
    end_with(parent)
    connection.send(str(os.getpid()).encode())
    connection.close()


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, also when that is killed; Linux only.

    Raises:
        SystemExit: the parent has ended already.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit
