"""What machine this is: instruction set, allowed cores, and whether two measurements may be mixed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter.machine import cores_allowed, isa_of, package_version, this_machine
from tests.factories import a_machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may run on eight cores, and has no siblings."""
    for name in ("OMP_NUM_THREADS", "PYTEST_XDIST_WORKER_COUNT", "WEB_CONCURRENCY"):
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
def test_quota_of_cgroup_v2(tmp_path: Path, cpu_max: str, cores: int) -> None:
    """The cgroup's quota lowers the cores, rounded down, to one at least; an unreadable one is no quota."""
    (tmp_path / "cpu.max").write_text(cpu_max + "\n", encoding="utf-8")
    assert cores_allowed(tmp_path) == cores


@pytest.mark.usefixtures("_eight_cores")
@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("200000", 2), ("50000", 1), ("none", 8)])
def test_quota_of_cgroup_v1(tmp_path: Path, quota: str, cores: int) -> None:
    """The older cgroup's quota counts the same; -1 is none."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota + "\n", encoding="utf-8")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n", encoding="utf-8")
    assert cores_allowed(tmp_path) == cores


@pytest.mark.usefixtures("_eight_cores")
def test_no_cgroup(tmp_path: Path) -> None:
    """Without a cgroup the affinity counts."""
    assert cores_allowed(tmp_path / "none") == 8


@pytest.mark.usefixtures("_eight_cores")
@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "16"}, 8),
        ({"OMP_NUM_THREADS": "4,2"}, 8),  # a list, one per nested level, is nobody's share
        ({"PYTEST_XDIST_WORKER_COUNT": "4"}, 2),
        ({"WEB_CONCURRENCY": "3"}, 2),
        ({"WEB_CONCURRENCY": "20"}, 1),
        ({"WEB_CONCURRENCY": ""}, 8),
        ({"OMP_NUM_THREADS": "3", "WEB_CONCURRENCY": "4"}, 3),
    ],
)
def test_siblings_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cores: int
) -> None:
    """A worker among others takes its share only: what it was told, else cores over workers."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cores_allowed(tmp_path) == cores


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
