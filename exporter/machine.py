"""Describe this machine: CPU, instruction set, the cores this process may use, and installed versions.

Reads the system and nothing else; has no opinion on whether a measurement made here counts.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    @property
    def type(self) -> tuple[str, str, tuple[str, ...], int]:
        """What two machines of one type share: CPU, instruction set, features and number of cores."""
        return self.cpu, self.isa, self.cpu_features, self.n_cores

    def __str__(self) -> str:
        """Return the type for people."""
        cores = "1 core" if self.n_cores == 1 else f"{self.n_cores} cores"
        return f"{self.cpu}, {self.isa}, {cores}"

    def differences(self, other: Machine) -> tuple[str, ...]:
        """Return the fields in which two machines differ; empty when measurements of both may be mixed."""
        fields = ("cpu", "isa", "cpu_features", "n_cores", "memory_gb", "system", "python", "packages")
        return tuple(name for name in fields if getattr(self, name) != getattr(other, name))


@dataclass(frozen=True, slots=True)
class Cpu:
    """What decides which variant is right, and fastest, on a CPU; the fields are those of `Machine`."""

    isa: str
    cpu_features: tuple[str, ...]
    n_cores: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """The cores a process may use, and in words what limits them, the machine first."""

    n_cores: int
    limits: tuple[str, ...]


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


def this_cpu() -> Cpu:
    """Return the CPU this process runs on, and the cores that it may use."""
    _, flags = _cpu()
    return Cpu(isa_of(flags, platform.machine()), tuple(sorted(flags & _BF16_UNITS)), cores_allowed())


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


def cores_allowed(root: Path = Path("/")) -> int:
    """Return how many cores this process may use, see `allowance`."""
    return allowance(root).n_cores


def allowance(root: Path = Path("/")) -> Allowance:
    """Return the cores this process may use, at least 1, and what limits them.

    `os.cpu_count()` says what the box has; a container's quota makes that wrong, and one thread too many
    halves the speed. A quota of any group on the way from the process's own to the root holds, the lowest
    first; what it leaves is rounded down. A core is what the system calls a CPU: two hardware threads of one
    core are two.

    Of the environment, `OMP_NUM_THREADS` (Ray, Spark, joblib and torchrun tell a worker its share with it; of
    a list the first counts) stands for the share of this process, `OMP_THREAD_LIMIT` for the most it may be.
    Without the first, a pytest-xdist worker, or one of gunicorn's or uvicorn's under `WEB_CONCURRENCY` or
    `UVICORN_WORKERS`, has its part of the cores. What OpenMP would not accept is ignored. No other variable
    counts.
    Source: https://www.openmp.org/spec-html/5.2/openmpse59.html (OMP_NUM_THREADS)
    Source: https://docs.ray.io/en/latest/ray-core/scheduling/resources.html (OMP_NUM_THREADS)
    Source: https://docs.gunicorn.org/en/stable/settings.html#workers (WEB_CONCURRENCY)
    Source: https://www.uvicorn.org/settings/#configuration-methods (UVICORN_WORKERS)

    Args:
        root: where `/proc` and the groups' file systems are looked for.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [f"{affinity} CPUs of this machine are open to the process"]
    n_cores = affinity
    if (quota := quota_of(root)) is not None:
        limits.append(f"its control group has a quota of {quota:.4g} CPUs")
        n_cores = min(n_cores, int(quota))

    if share := _first_of_list("OMP_NUM_THREADS"):
        limits.append(f"OMP_NUM_THREADS gives it {share}")
        n_cores = min(n_cores, share)
    else:
        for name in ("PYTEST_XDIST_WORKER_COUNT", "WEB_CONCURRENCY", "UVICORN_WORKERS"):
            if siblings := _number(os.environ.get(name, "")):
                limits.append(f"{name} says that {siblings} processes share them")
                n_cores //= siblings
                break
    if limit := _number(os.environ.get("OMP_THREAD_LIMIT", "")):
        limits.append(f"OMP_THREAD_LIMIT is {limit}")
        n_cores = min(n_cores, limit)
    return Allowance(max(1, n_cores), tuple(limits))


def quota_of(root: Path = Path("/")) -> float | None:
    """Return the lowest CPU quota on the way from this process's control groups to their roots, in CPUs.

    Both versions of control groups are read, where they are mounted and as far up as the process can see.
    None if there is no quota, or no control groups.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max)
    Source: https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us)
    Source: https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html (what a process sees of its path)

    Args:
        root: where `/proc` and the groups' file systems are looked for.
    """
    quotas = [
        quota
        for version, top, group in _cpu_groups(root)
        for folder in (group, *group.parents)
        if folder == top or top in folder.parents
        if (quota := _quota_in(folder, version)) is not None
    ]
    return min(quotas, default=None)


def _cpu_groups(root: Path) -> Iterator[tuple[int, Path, Path]]:
    """Yield the version, the mount point and the folder of each of the process's groups that limit CPUs."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    paths: dict[int, str] = {}
    for line in groups:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = path
        elif "cpu" in controllers.split(","):
            paths[1] = path

    for line in mounts:
        fields, _, kind = line.partition(" - ")
        _, _, _, top, mount_point, *_ = [*fields.split(" "), *[""] * 5]
        file_system, _, options = (*kind.split(" "), "", "", "")[:3]
        version = {"cgroup2": 2, "cgroup": 1}.get(file_system)
        if version not in paths or (version == 1 and "cpu" not in options.split(",")):
            continue
        mounted = root / _unescaped(mount_point).lstrip("/")
        yield version, mounted, _inside(mounted, _unescaped(top), paths[version])


def _inside(mounted: Path, top: str, path: str) -> Path:
    """Return the folder of a group below a mount point that shows the groups from `top` on.

    A path that is not below `top` is that of a process seen from another namespace: the mount point is the
    nearest there is to see.
    """
    beyond = path[len(top) :] if top != "/" and f"{path}/".startswith(f"{top}/") else path
    inside = mounted / beyond.lstrip("/")
    return inside if ".." not in inside.parts and inside.is_dir() else mounted


def _quota_in(folder: Path, version: int) -> float | None:
    """Return one group's own quota in CPUs, or None if it has none."""
    try:
        if version == 2:
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        cpus = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max", and what no kernel writes
        return None
    return cpus if cpus > 0 else None


def _unescaped(path: str) -> str:
    """Return a path of mountinfo with its blanks, which stand there as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _first_of_list(variable: str) -> int:
    """Return the first of a list of positive numbers in the environment; 0 if the variable is none."""
    numbers = [_number(text) for text in os.environ.get(variable, "").split(",")]
    return numbers[0] if all(numbers) else 0


def _number(text: str) -> int:
    """Read a positive number as OpenMP does, blanks around it and a plus sign allowed; 0 if it is none."""
    found = re.fullmatch(r"\s*\+?([0-9]{1,18})\s*", text)
    return int(found[1]) if found else 0


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
