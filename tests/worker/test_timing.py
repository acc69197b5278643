"""What a worker notes of the machine while it times, as arithmetic."""

from __future__ import annotations

import pytest

from exporter.worker.timing import cpu_contention


@pytest.mark.parametrize(
    ("others", "cores", "of_machine", "share"),
    [
        (0.0, 2, 2, 0.0),
        (1.0, 2, 2, 0.5),  # one of our two cores is gone
        (1.0, 1, 2, 0.0),  # we want one, and there is another
        (30.0, 2, 64, 0.0),  # a neighbour on a large machine
        (63.0, 2, 64, 0.5),
        (9.0, 2, 2, 1.0),
        (-0.01, 2, 2, 0.0),  # clocks of different grain
    ],
)
def test_contention_by_hand(others: float, cores: int, of_machine: int, share: float) -> None:
    """What others took counts where it left us less than we were to use."""
    assert cpu_contention(others, cores, of_machine) == share
