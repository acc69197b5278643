"""The self-test as JSON and Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.artifact.files import to_json, write_together
from exporter.errors import BackendError
from exporter.escape import markdown as escaped
from exporter.report.table import md_table
from exporter.selftest.rates import FALSE_GAIN, PRECISION, QUALITY_BAR, QUALITY_STEP, SPEED_BAR

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.selftest.trials import SelfTest

_RATES = (
    f"Speed: bar {SPEED_BAR}, precision {PRECISION:.1%}; a false alarm is a fail, or a pass at {FALSE_GAIN} "
    "of either side over the other. Invalid: the measurement has validity problems, or its interval holds "
    "the bar. Slowed artifacts sleep after each call. Replayed: recorded rounds judged again from a random "
    f"one on, either side as the candidate, slowed by calculation. nDCG: bar {QUALITY_BAR}, or one "
    f"{QUALITY_STEP} above or below what is measured on all queries; judged on queries drawn with "
    "replacement, as many as there are unless said. A false alarm is a fail of what is better than the bar, "
    "or a pass of what is worse. Random scores are judged on labels that are all alike but for at most three "
    "queries. Shares with 95 % intervals (Clopper-Pearson)."
)


def markdown(found: SelfTest) -> str:
    """Return the self-test as a page: problems first, then the mutants, then the error rates."""
    machine = found.machine
    mutants = [
        (
            mutant.name,
            ", ".join(mutant.killed_by) or ("skipped" if mutant.skipped else "SURVIVED"),
            mutant.skipped,
        )
        for mutant in found.mutants
    ]
    rates = [
        (
            rate.what,
            rate.how,
            str(rate.n_trials),
            str(rate.n_pass),
            str(rate.n_invalid),
            str(rate.n_fail),
            f"{rate.share:.1%} {rate.event} ({rate.low:.1%} to {rate.high:.1%})",
        )
        for rate in found.rates
    ]
    lines = [
        f"# Self-test of the gate on {escaped(found.name)}, {escaped(found.kind)}",
        "",
        escaped(f"Measured {found.started_at} on {machine.cpu}, {machine.isa}, {machine.n_cores} cores."),
        "",
        *(
            [f"- {escaped(problem)}" for problem in found.problems]
            or ["Every mutant was killed, and the error rates are within their limits."]
        ),
        "",
        "## Mutants",
        "",
        *md_table(("mutant", "killed by", "why skipped"), mutants),
    ]
    if rates:
        lines += [
            "",
            "## Error rates",
            "",
            _RATES,
            "",
            *md_table(("what is judged", "how", "trials", "pass", "invalid", "fail", "rate"), rates),
        ]
    return "\n".join([*lines, ""])


def write_selftest(found: SelfTest, folder: Path) -> None:
    """Write selftest.json and selftest.md.

    Raises:
        BackendError: the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(f"{folder}: cannot be written: {error.strerror}") from error
    files = {"selftest.json": to_json(found, indent=1), "selftest.md": markdown(found).encode()}
    write_together(folder, files)
