"""What machine this is: instruction set, allowed cores, and whether two measurements may be mixed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter.machine import allowance, cores_allowed, isa_of, package_version, quota_of, this_machine
from tests.factories import a_machine

if TYPE_CHECKING:
    from pathlib import Path


SIBLINGS = ("PYTEST_XDIST_WORKER_COUNT", "WEB_CONCURRENCY", "UVICORN_WORKERS")


@pytest.fixture
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may run on eight cores, and has no siblings."""
    for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", *SIBLINGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("features", "found"),
    [((), False), (("avx512_bf16",), True), (("amx_bf16", "avx512_bf16"), True), (("bf16",), True)],
)
def test_bf16_units(features: tuple[str, ...], found: bool) -> None:  # noqa: FBT001 # a table's column
    """Each name the kernel has for them counts, Arm's too."""
    assert a_machine(cpu_features=features).has_bf16 is found


@pytest.mark.parametrize(
    ("flags", "architecture", "isa"),
    [
        ("avx2 fma", "x86_64", "avx2"),
        ("avx2 avx512f", "x86_64", "avx2"),
        ("avx2 avx512f avx512bw", "x86_64", "avx512"),
        ("avx2 avx_vnni", "x86_64", "avx_vnni"),
        ("avx2 avx512bw avx512_vnni avx_vnni", "x86_64", "avx512_vnni"),
        ("sse4_2 avx", "x86_64", "other"),
        ("", "x86_64", "other"),
        ("asimd", "aarch64", "arm64"),
        ("", "arm64", "arm64"),
    ],
)
def test_isa_of(flags: str, architecture: str, isa: str) -> None:
    """The widest instruction set that matters for int8 is named, whatever else the CPU has."""
    assert isa_of(frozenset(flags.split()), architecture) == isa


def write_system(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    """Write what a process sees of its control groups: two files of `/proc/self`, and files of the groups."""
    for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "34 31 0:31 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:10 - cgroup cgroup rw,memory\n"
)
V1_GROUPS = "9:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:{path}\n"
V1 = "sys/fs/cgroup/cpu,cpuacct"
# What systems write there, by the way a process came to its group: /proc/self/cgroup, /proc/self/mountinfo,
# the groups' files, and the quota that holds.
SYSTEMS: dict[str, tuple[str, str, dict[str, str], float | None]] = {
    "systemd slice, the service unlimited": (
        "0::/system.slice/app.service\n",
        V2_MOUNT,
        {
            "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/system.slice/app.service/cpu.max": "max 100000\n",
        },
        1.5,
    ),
    "the lowest of three, in the middle": (
        "0::/a/b/c\n",
        V2_MOUNT,
        {
            "sys/fs/cgroup/a/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/a/b/c/cpu.max": "20000 10000\n",
            "sys/fs/cgroup/a/other/cpu.max": "10000 100000\n",
        },
        1.0,
    ),
    "docker on v2, a namespace of its own": (
        "0::/\n",
        V2_MOUNT,
        {"sys/fs/cgroup/cpu.max": "250000 100000\n"},
        2.5,
    ),
    "kubernetes on v2 without a namespace": (
        "0::/kubepods.slice/pod1.slice/cri-1.scope\n",
        "30 23 0:26 /kubepods.slice/pod1.slice/cri-1.scope /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
        {"sys/fs/cgroup/cpu.max": "50000 100000\n"},
        0.5,
    ),
    "seen from another namespace": (
        "0::/../../elsewhere\n",
        V2_MOUNT,
        {"sys/fs/cgroup/cpu.max": "300000 100000\n", "elsewhere/cpu.max": "100000 100000\n"},
        3.0,
    ),
    "v1, a group in a group": (
        V1_GROUPS.format(path="/outer/inner"),
        V1_MOUNT.format(top="/"),
        {
            f"{V1}/cpu.cfs_quota_us": "-1\n",
            f"{V1}/cpu.cfs_period_us": "100000\n",
            f"{V1}/outer/cpu.cfs_quota_us": "100000\n",
            f"{V1}/outer/cpu.cfs_period_us": "100000\n",
            f"{V1}/outer/inner/cpu.cfs_quota_us": "-1\n",
            f"{V1}/outer/inner/cpu.cfs_period_us": "100000\n",
        },
        1.0,
    ),
    "docker on v1": (
        V1_GROUPS.format(path="/docker/0123"),
        V1_MOUNT.format(top="/docker/0123"),
        {f"{V1}/cpu.cfs_quota_us": "200000\n", f"{V1}/cpu.cfs_period_us": "50000\n"},
        4.0,
    ),
    "hybrid, the quota on v1": (
        V1_GROUPS.format(path="/job") + "0::/job\n",
        V1_MOUNT.format(top="/") + "40 31 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
        {
            f"{V1}/job/cpu.cfs_quota_us": "300000\n",
            f"{V1}/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/unified/job/cgroup.procs": "1\n",
        },
        3.0,
    ),
    "a mount point with a blank": (
        "0::/\n",
        "30 23 0:26 / /mnt/control\\040groups rw - cgroup2 cgroup2 rw\n",
        {"mnt/control groups/cpu.max": "200000 100000\n"},
        2.0,
    ),
    "no quota": ("0::/\n", V2_MOUNT, {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "what no kernel writes": (
        "0::/\nx\n",
        V2_MOUNT + "\nx y - z\n",
        {"sys/fs/cgroup/cpu.max": "1 0\n"},
        None,
    ),
    "no control groups": ("", "", {}, None),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lowest_quota_on_the_way_up(tmp_path: Path, system: str) -> None:
    """The lowest quota from a process's own group to the root holds, in both versions of control groups."""
    cgroup, mountinfo, files, quota = SYSTEMS[system]
    assert quota_of(write_system(tmp_path, cgroup, mountinfo, files)) == quota


@pytest.mark.usefixtures("_eight_cores")
@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
        ("a b", 8),
    ],
)
def test_a_quota_lowers_the_cores(tmp_path: Path, cpu_max: str, cores: int) -> None:
    """The quota is rounded down, to one core at least; an unreadable one is no quota."""
    root = write_system(tmp_path, "0::/\n", V2_MOUNT, {"sys/fs/cgroup/cpu.max": cpu_max})
    assert cores_allowed(root) == cores


@pytest.mark.usefixtures("_eight_cores")
def test_no_proc(tmp_path: Path) -> None:
    """Where there is no `/proc` to read, the affinity counts."""
    assert cores_allowed(tmp_path / "none") == 8


@pytest.mark.usefixtures("_eight_cores")
@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "16"}, 8),
        ({"OMP_NUM_THREADS": "4,2"}, 4),  # a number for each nested level: the outermost counts
        ({"OMP_NUM_THREADS": " 4 , 3 "}, 4),
        ({"OMP_NUM_THREADS": "\t+3\n"}, 3),
        ({"OMP_NUM_THREADS": "0"}, 8),
        ({"OMP_NUM_THREADS": "-2"}, 8),
        ({"OMP_NUM_THREADS": "4,"}, 8),
        ({"OMP_NUM_THREADS": "4,x"}, 8),
        ({"OMP_NUM_THREADS": "4.0"}, 8),
        ({"OMP_NUM_THREADS": "²"}, 8),  # a digit to Python, no number to OpenMP
        ({"OMP_NUM_THREADS": "9" * 5_000}, 8),
        ({"OMP_THREAD_LIMIT": "3"}, 3),
        ({"OMP_THREAD_LIMIT": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_THREAD_LIMIT": "3", "WEB_CONCURRENCY": "4"}, 2),
        ({"OMP_THREAD_LIMIT": "none"}, 8),
        ({"PYTEST_XDIST_WORKER_COUNT": "4"}, 2),
        ({"WEB_CONCURRENCY": "3"}, 2),
        ({"WEB_CONCURRENCY": "20"}, 1),
        ({"WEB_CONCURRENCY": ""}, 8),
        ({"UVICORN_WORKERS": "2"}, 4),
        ({"OMP_NUM_THREADS": "3", "WEB_CONCURRENCY": "4"}, 3),
        ({"MKL_NUM_THREADS": "1"}, 8),
    ],
)
def test_the_environment_gives_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cores: int
) -> None:
    """A worker among others takes its share only: what it was told, else cores over workers."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cores_allowed(tmp_path) == cores


@pytest.mark.usefixtures("_eight_cores")
def test_what_limits_the_cores_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` prints every limit that was found, the machine's first."""
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    found = allowance(write_system(tmp_path, "0::/\n", V2_MOUNT, {"sys/fs/cgroup/cpu.max": "650000 100000"}))
    assert (found.n_cores, [limit.split()[0] for limit in found.limits]) == (
        3,
        ["8", "its", "WEB_CONCURRENCY"],
    )
    assert "quota of 6.5 CPUs" in found.limits[1]


@pytest.mark.usefixtures("_eight_cores")
def test_no_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no affinity, or does not know its cores, the box's cores count, at least one."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores_allowed(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores_allowed(tmp_path) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu", "Other CPU"),
        ("isa", "avx512_vnni"),
        ("n_cores", 4),
        ("memory_gb", 16),
        ("system", "Linux aarch64"),
        ("python", "3.12.0"),
        ("packages", (("numpy", "2.1.0"),)),
    ],
)
def test_differences_name_the_field(field: str, value: object) -> None:
    """Any one thing that differs keeps two measurements apart, and is named."""
    assert a_machine().differences(a_machine(**{field: value})) == (field,)


def test_no_differences() -> None:
    """A machine does not differ from itself."""
    assert a_machine().differences(a_machine()) == ()


def test_this_machine_is_steady() -> None:
    """Asked twice, the machine gives one answer, with at least a core and some memory."""
    machine = this_machine()
    assert machine.differences(this_machine()) == ()
    assert machine.n_cores >= 1
    assert machine.memory_gb >= 1
    assert machine.cpu
    assert "numpy" in dict(machine.packages)


def test_package_version() -> None:
    """An installed package has a version, another has none."""
    assert package_version("numpy")
    assert package_version("no-such-package-here") is None
