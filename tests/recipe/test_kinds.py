"""The table of kinds: every row can be asked for, and says of its files what is so."""

from __future__ import annotations

from typing import get_args

import pytest

from exporter.artifact.cpus import saturates
from exporter.machine import Isa
from exporter.recipe.kinds import KINDS
from exporter.recipe.schema import default_variant, options_of
from tests.factories import bars


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_can_be_asked_for(kind: str) -> None:
    """A recipe may ask for every kind of the table, and for no other."""
    assert default_variant(kind, bars()).kind == kind


def test_no_kind_without_a_row() -> None:
    """What a recipe may ask for stands in the table."""
    classes = {options_of(kind) for kind in KINDS}
    asked = [name for cls in classes for name in get_args(cls.model_fields["kind"].annotation)]
    assert sorted(asked) == sorted(KINDS)


def test_files_of_two_kinds_differ_unless_they_are_one() -> None:
    """Two kinds share a file only where both engine and precision of the weights are the same."""
    files: dict[str, tuple[str, str]] = {}
    for row in KINDS.values():
        what = (row.traits.engine, row.traits.weights)
        assert files.setdefault(row.path("avx2"), what) == what


def test_sets_that_saturate() -> None:
    """Of the sets a recipe may ask for, avx2 and avx512 sum in int16; a set that is not known may."""
    assert [isa for isa in get_args(Isa) if saturates(isa)] == ["avx2", "avx512"]
    assert not saturates("avx_vnni")
    assert saturates("other")
