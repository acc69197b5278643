"""Tell an error that memory ran short from others, and say how much was used, asked for and allowed.

Libraries have many ways to say it, most of them no MemoryError; a process that the system kills says nothing.
"""

from __future__ import annotations

import errno
import re
import sys
from contextlib import suppress
from pathlib import Path

from exporter.errors import BackendError

# Of libstdc++, glibc, numpy, torch, onnxruntime, OpenBLAS, Rust and Python's own threads.
# Source: https://github.com/pytorch/pytorch/blob/main/c10/core/impl/alloc_cpu.cpp (you tried to allocate)
# Source: https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/framework/bfc_arena.cc
# Source: https://github.com/bminor/glibc/blob/master/elf/dl-load.c (failed to map segment from shared object)
_SHORT = re.compile(
    r"bad_alloc|can(?:no|')t allocate memory|fail(?:ed|ure) to allocate|unable to allocate"
    r"|failed to map segment|not enough memory|out of memory|memory allocation .*failed|memory exhausted"
    r"|can't start new thread|pthread_create failed|resource temporarily unavailable|MemoryError",
    re.IGNORECASE,
)
_MAX_TEXT = 300  # characters of a library's text
ULIMIT = "ulimit -v"
_UNLIMITED = 1 << 60  # bytes; cgroups write "max", or a number near 2^63


def ran_short(error: BaseException) -> str | None:
    """Return what an error, or one that it was raised from, says of memory that was not there; else None."""
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        if isinstance(at, MemoryError) or (isinstance(at, OSError) and at.errno == errno.ENOMEM):
            return _line(str(at)) or type(at).__name__
        # An error raised on purpose may quote a text with these words; what it was raised from does not.
        if not isinstance(at, BackendError) and (said := says_short(str(at))):
            return said
        at = at.__cause__ or at.__context__
    return None


def says_short(text: str) -> str | None:
    """Return the last line of a library's text that says that memory ran short; None if none does."""
    return next((_line(line) for line in reversed(text.splitlines()) if _SHORT.search(line)), None)


def is_tight() -> bool:
    """Return whether `ulimit -v` holds, and this process has reserved over half of what it allows.

    Libraries then fail in ways that say nothing of memory: a C extension that returns no error, a crash.
    """
    limit = _address_space()
    return 0 < limit < 2 * peak_bytes(addresses=True)


def shortage(
    said: str, used_bytes: int | None = None, *, who: str = "exporter", certain: bool = True
) -> BackendError:
    """Return the error for memory that ran short.

    Args:
        said: what the library said, in one line; it names how much was asked for, where it knows.
        used_bytes: the most that the process had, by default what this one had so far.
        who: what had it.
        certain: whether it is known; a process that was killed may have been killed by anybody.
    """
    limit, whose = limit_bytes()
    used = peak_bytes(addresses=whose == ULIMIT) if used_bytes is None else used_bytes
    had = f"{who} had used up to {size_text(used)}" if used else who
    allowed = f"of {size_text(limit)} that {whose} allows" if limit else "and there was no more"
    return BackendError(
        f"{'' if certain else 'perhaps '}not enough memory: {said}; {had} {allowed}; "
        "free some, raise the limit, or use a smaller model"
    )


def peak_bytes(*, addresses: bool = False) -> int:
    """Return the most memory that this process has had so far, 0 where the system does not tell.

    Args:
        addresses: count what was reserved, as `ulimit -v` does, and not what was used.
    """
    if sys.platform == "win32":
        return 0
    if addresses:
        kib = re.search(r"^VmPeak:\s+(\d+) kB", _read("/proc/self/status"), re.MULTILINE)
        return int(kib[1]) * 1024 if kib else 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def limit_bytes() -> tuple[int, str]:
    """Return how much memory a process like this one may have, and whose limit that is; 0 if nobody tells.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    limits = [(_address_space(), ULIMIT), (_cgroup(), "its control group"), (_machine(), "the machine")]
    return min(((limit, whose) for limit, whose in limits if limit), default=(0, ""))


def _address_space() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return 0 if soft == resource.RLIM_INFINITY else soft


def _cgroup() -> int:
    """Return the lowest limit on the way from this process's control group to the root, version 1 or 2."""
    found = [0]
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            root, name = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        found += [
            _number(_read(str(one / name))) for one in (group, *group.parents) if one.is_relative_to(root)
        ]
    return min((limit for limit in found if 0 < limit < _UNLIMITED), default=0)


def _machine() -> int:
    kib = re.search(r"^MemTotal:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return int(kib[1]) * 1024 if kib else 0


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8")
    return ""


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0


def _line(text: str) -> str:
    return " ".join(text.split())[:_MAX_TEXT]


def size_text(n_bytes: int) -> str:
    """Return a size for people."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
