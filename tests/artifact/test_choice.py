"""The variant that is chosen for a CPU: never one that is not safe there, by verdicts of its like only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.artifact.choice import choose_variant, standing_text, standings
from exporter.artifact.cpus import fits, why_not_judged, why_unsafe
from exporter.artifact.manifest import (
    MANIFEST_SCHEMA,
    FlopCount,
    Manifest,
    SourceEntry,
    Traits,
    VariantEntry,
)
from exporter.artifact.plans import Plans, VerdictEntry, no_plans
from exporter.errors import BackendError
from exporter.machine import Cpu

ISAS = ("avx2", "avx512", "avx512_vnni", "avx_vnni", "arm64", "other")
INT8 = Traits("onnxruntime", "int8", "int8")
BF16 = Traits("openvino", "fp16", "bf16", cpu_features=("amx_bf16", "avx512_bf16"))
OLD, NEW = Cpu("avx2", (), 4), Cpu("avx512_vnni", ("amx_bf16",), 4)


def a_fleet(*wanted: tuple[str, str | None, Traits]) -> Manifest:
    """A manifest with these variants: id, instruction set, traits."""
    variants = tuple(
        VariantEntry(kind, traits, isa, "model", ("model",), (), FlopCount(1, 1, 1), ())
        for kind, isa, traits in wanted
    )
    return Manifest(
        schema=MANIFEST_SCHEMA,
        name="fleet",
        recipe_digest="0" * 64,
        recipe="",
        source=SourceEntry("sample", None, "0" * 64, 1),
        pairs=(),
        platform="",
        max_length=8,
        pad_id=0,
        tools=(),
        variants=variants,
        files=(),
    )


FLEET = a_fleet(("i@avx512_vnni", "avx512_vnni", INT8), ("i@avx2", "avx2", INT8), ("b", None, BF16))


def judged(manifest: Manifest, *found: tuple[str, VerdictEntry]) -> Plans:
    """Plans with these verdicts."""
    plans = no_plans(manifest)
    for kind, one in found:
        verdicts = (*plans.verdicts.get(kind, ()), one)
        plans = replace(plans, verdicts={**plans.verdicts, kind: verdicts})
    return plans


def test_first_that_is_safe() -> None:
    """Without a verdict it is the manifest's first that is safe on the CPU."""
    plans = no_plans(FLEET)
    assert choose_variant(FLEET, plans, NEW).entry.kind == "i@avx512_vnni"
    old = choose_variant(FLEET, plans, OLD)
    assert old.entry.kind == "i@avx2"
    assert old.why == "i@avx2: the first that is safe here; none of them was judged on a CPU with avx2"


def test_fastest_that_passed() -> None:
    """Of those that passed on such a CPU it is the fastest; what was measured on others does not count."""
    plans = judged(
        FLEET,
        ("i@avx512_vnni", VerdictEntry("avx512_vnni", 4, "pass", 90.0)),
        ("i@avx2", VerdictEntry("avx512_vnni", 4, "pass", 100.0)),
        ("b", VerdictEntry("avx512_vnni", 4, "fail", 500.0)),
        ("i@avx512_vnni", VerdictEntry("avx2", 4, "pass", 900.0)),
    )
    new = choose_variant(FLEET, plans, NEW)
    assert new.entry.kind == "i@avx2"
    assert new.why == (
        "i@avx2: the fastest of 2 that passed on a CPU like this one: 4 cores of avx512_vnni, 100.0 pairs/s"
    )
    assert choose_variant(FLEET, plans, OLD).entry.kind == "i@avx2"


def test_nearest_number_of_cores() -> None:
    """Speeds are compared where equally many cores had been used: as many as here, or nearly."""
    plans = judged(
        FLEET,
        ("i@avx2", VerdictEntry("avx512_vnni", 2, "pass", 60.0)),
        ("i@avx512_vnni", VerdictEntry("avx512_vnni", 2, "pass", 50.0)),
        ("i@avx512_vnni", VerdictEntry("avx512_vnni", 64, "pass", 900.0)),
    )
    assert choose_variant(FLEET, plans, NEW).entry.kind == "i@avx2"
    assert choose_variant(FLEET, plans, replace(NEW, n_cores=64)).entry.kind == "i@avx512_vnni"


def test_before_those_that_failed() -> None:
    """Where none passed, one that did not fail comes before one that did."""
    plans = judged(FLEET, ("i@avx512_vnni", VerdictEntry("avx512_vnni", 4, "fail", 90.0)))
    found = choose_variant(FLEET, plans, NEW)
    assert found.entry.kind == "i@avx2"
    assert "none of them passed" in found.why


def test_asked_for() -> None:
    """An id is taken as it stands; a kind is the best of its variants, and an error where none is safe."""
    plans = no_plans(FLEET)
    assert choose_variant(FLEET, plans, OLD, "i@avx512_vnni").entry.kind == "i@avx512_vnni"
    assert choose_variant(FLEET, plans, OLD, "i").entry.kind == "i@avx2"
    only = a_fleet(("i@avx512_vnni", "avx512_vnni", INT8), ("b", None, BF16))
    with pytest.raises(BackendError, match=r"i@avx512_vnni is for .* avx512_vnni.*; b needs a CPU with amx"):
        choose_variant(only, plans, OLD)
    assert [one.is_chosen for one in standings(only, plans, OLD)] == [False, False]


def test_judged_where_it_is_for() -> None:
    """One of several of its kind is judged where it is right; the only one of its kind wherever it runs."""
    one_of_several, _, bf16 = FLEET.variants
    assert why_not_judged(one_of_several, OLD)
    assert not why_not_judged(replace(one_of_several, kind="i"), OLD)
    assert why_not_judged(bf16, OLD) == "needs a CPU with amx_bf16 or avx512_bf16"


CPUS = st.builds(
    Cpu, st.sampled_from(ISAS), st.sampled_from([(), ("amx_bf16",), ("bf16",)]), st.integers(1, 128)
)
VERDICTS = st.builds(
    VerdictEntry,
    st.sampled_from(ISAS),
    st.integers(1, 128),
    st.sampled_from(["pass", "fail", "invalid", "not judged"]),
    st.floats(0, 1e6),
)
VARIANTS = st.lists(
    st.tuples(st.sampled_from(ISAS[:3]), st.sampled_from([INT8, BF16])), min_size=1, max_size=4
)


@given(cpu=CPUS, wanted=VARIANTS, found=st.lists(st.tuples(st.integers(0, 3), VERDICTS), max_size=8))
def test_never_unsafe(
    cpu: Cpu, wanted: list[tuple[str, Traits]], found: list[tuple[int, VerdictEntry]]
) -> None:
    """Whatever plans say, what is chosen without an id is safe; there is an error only where nothing is."""
    manifest = a_fleet(*((f"k@{i}", isa, traits) for i, (isa, traits) in enumerate(wanted)))
    plans = judged(manifest, *((f"k@{i}", one) for i, one in found))
    safe = [entry.kind for entry in manifest.variants if not why_unsafe(entry, cpu)]
    for name in (None, "k"):
        if not safe:
            with pytest.raises(BackendError):
                choose_variant(manifest, plans, cpu, name)
            continue
        chosen = choose_variant(manifest, plans, cpu, name)
        assert chosen.entry.kind in safe
        assert fits(chosen.entry.isa or "avx2", cpu.isa)
        passed = [
            kind
            for kind in safe
            for one in plans.verdicts.get(kind, ())
            if (one.isa, one.n_cores, one.verdict) == (cpu.isa, cpu.n_cores, "pass")
        ]
        assert not passed or chosen.entry.kind in passed
    said = [standing_text(one, cpu) for one in standings(manifest, plans, cpu)]
    assert sum("chosen here" in text for text in said) == bool(safe)
    assert sum("not safe here" in text for text in said) == len(manifest.variants) - len(safe)
