"""Describe this machine: CPU, instruction set, the cores this process may use, and installed versions.

Reads the system and nothing else; has no opinion on whether a measurement made here counts.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from exporter import __version__

Isa = Literal["avx2", "avx512", "avx512_vnni", "arm64"]

# What changes scores or speed, beside this package; the rest of the environment is in requirements.lock.
_PACKAGES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "optimum",
    "optimum-onnx",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "tokenizers",
    "numpy",
)

# What some kinds need of a CPU and others do not, by the kernel's names; the last is Arm's.
# Source: https://docs.kernel.org/arch/x86/cpuinfo.html
# Source: https://docs.kernel.org/arch/arm64/elf_hwcaps.html (HWCAP2_BF16)
_BF16_UNITS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a measurement was made. Two measurements compare only if this is equal.

    `isa` is the widest instruction set that matters for int8: `avx2`, `avx512`, `avx512_vnni`, `avx_vnni`,
    `arm64`, or `other`. `cpu_features` are those of the CPU's other features that a kind may need. `n_cores`
    counts the cores this process may use, not those of the box.
    """

    cpu: str
    isa: str
    cpu_features: tuple[str, ...]
    n_cores: int
    memory_gb: int
    system: str
    python: str
    packages: tuple[tuple[str, str], ...]

    @property
    def has_bf16(self) -> bool:
        """Whether the CPU multiplies bfloat16 in hardware; elsewhere it is emulated, and slow."""
        return bool(_BF16_UNITS & set(self.cpu_features))

    def differences(self, other: Machine) -> tuple[str, ...]:
        """Return the fields in which two machines differ; empty when measurements of both may be mixed."""
        fields = ("cpu", "isa", "cpu_features", "n_cores", "memory_gb", "system", "python", "packages")
        return tuple(name for name in fields if getattr(self, name) != getattr(other, name))


def this_platform() -> str:
    """Return system, CPU class and Python in one line, for the record of a build."""
    return f"{platform.system()} {platform.machine()}, {this_isa()}, Python {platform.python_version()}"


def this_machine() -> Machine:
    """Return the machine this process runs on."""
    model, flags = _cpu()
    return Machine(
        cpu=model,
        isa=isa_of(flags, platform.machine()),
        cpu_features=tuple(sorted(flags & _BF16_UNITS)),
        n_cores=cores_allowed(),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages=(
            ("exporter", __version__),
            *((name, version) for name in _PACKAGES if (version := package_version(name))),
        ),
    )


def this_isa() -> str:
    """Return the instruction set of this machine, see `Machine`."""
    return isa_of(_cpu()[1], platform.machine())


def package_version(name: str) -> str | None:
    """Return the installed version of a package without importing it, or None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def isa_of(flags: frozenset[str], architecture: str) -> str:
    """Return the instruction set that the kernel's CPU flags stand for, see `Machine`."""
    if architecture in ("aarch64", "arm64"):
        return "arm64"
    for flag, name in (
        ("avx512_vnni", "avx512_vnni"),
        ("avx_vnni", "avx_vnni"),
        ("avx512bw", "avx512"),
        ("avx2", "avx2"),
    ):
        if flag in flags:
            return name
    return "other"


def cores_allowed(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the cores this process may use, at least 1: its affinity, CPU quota and siblings considered.

    `os.cpu_count()` says what the box has; a container's quota makes that wrong, and one thread too many
    halves the speed. `OMP_NUM_THREADS` is how Ray tells a worker its share; a pytest-xdist worker, or one of
    gunicorn's or uvicorn's workers under `WEB_CONCURRENCY`, has its part of the rest.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max)
    Source: https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us)
    Source: https://docs.ray.io/en/latest/ray-core/scheduling/resources.html (OMP_NUM_THREADS)
    Source: https://docs.gunicorn.org/en/stable/settings.html#workers (WEB_CONCURRENCY)
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(affinity, int(_quota_cores(cgroup) or affinity))
    if share := _number("OMP_NUM_THREADS"):
        return max(1, min(cores, share))
    siblings = _number("PYTEST_XDIST_WORKER_COUNT") or _number("WEB_CONCURRENCY") or 1
    return max(1, cores // siblings)


def _number(variable: str) -> int:
    """Read a whole number from the environment; 0 if the variable is not one."""
    text = os.environ.get(variable, "").strip()
    return int(text) if text.isdecimal() else 0


def _quota_cores(cgroup: Path) -> float | None:
    try:
        if (v2 := cgroup / "cpu.max").is_file():
            quota, period = v2.read_text().split()
            return None if quota == "max" else max(1.0, int(quota) / int(period))
        v1_quota = int((cgroup / "cpu/cpu.cfs_quota_us").read_text())
        v1_period = int((cgroup / "cpu/cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return max(1.0, v1_quota / v1_period) if v1_quota > 0 else None


def _cpu() -> tuple[str, frozenset[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.machine())
    place = "/".join(fields[key] for key in ("cpu family", "model") if key in fields)
    flags = fields.get("flags") or fields.get("Features", "")  # the latter on Arm
    return f"{name} (family/model {place})" if place else name, frozenset(flags.split())
