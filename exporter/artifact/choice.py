"""Which variant of an artifact to use on a CPU: by the plans and verdicts that it carries, and nothing else.

Never one that is not safe there, see `cpus`. A stranger's artifact may say of itself what it likes; what it
says decides between its own variants only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.artifact.cpus import why_unsafe
from exporter.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.artifact.manifest import Manifest, VariantEntry
    from exporter.artifact.plans import Plans, VerdictEntry
    from exporter.machine import Cpu


@dataclass(frozen=True, slots=True)
class Choice:
    """The variant to use, and why it is that one, in a line."""

    entry: VariantEntry
    why: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a variant stands on a CPU.

    `unsafe` says why it is not to be used there, or is empty. `judged` is what was found on the CPU most like
    it: of the same instruction set, and the number of cores nearest to its own; None where there was none.
    """

    kind: str
    unsafe: str
    judged: VerdictEntry | None
    is_chosen: bool


def choose_variant(manifest: Manifest, plans: Plans, cpu: Cpu, wanted: str | None = None) -> Choice:
    """Return a variant asked for by its id; else the fastest safe one that passed on a CPU like this one.

    Where none passed, it is the first of the manifest that is safe, before those that failed.

    Args:
        manifest: the artifact's.
        plans: its plans, with verdicts.
        cpu: the one to run on.
        wanted: a variant's id; or a kind, which means all its variants; by default all there are.

    Raises:
        RecipeError: the artifact has nothing of the name.
        BackendError: nothing asked for is safe on this CPU; the message names what each needs.
    """
    named = manifest.named(wanted) if wanted else manifest.variants
    if named[0].kind == wanted:
        return Choice(named[0], f"{wanted}: asked for")
    unsafe = {entry.kind: why_unsafe(entry, cpu) for entry in named}
    safe = [entry for entry in named if not unsafe[entry.kind]]
    if not safe:
        raise BackendError(
            f"{manifest.name} has no {wanted or 'variant'} that is safe on this CPU ({cpu.isa}): "
            f"{'; '.join(f'{kind} {why}' for kind, why in unsafe.items())}"
        )
    return _fastest(safe, plans, cpu)


def _fastest(safe: Sequence[VariantEntry], plans: Plans, cpu: Cpu) -> Choice:
    failed: set[str] = set()
    like = {entry.kind: _on_its_like(plans, entry.kind, cpu) for entry in safe}
    cores = sorted({one.n_cores for found in like.values() for one in found}, key=_distance(cpu))
    for n_cores in cores:
        # Speeds are only compared where they were measured on equally many cores.
        at = [(entry, one) for entry in safe for one in like[entry.kind] if one.n_cores == n_cores]
        failed |= {entry.kind for entry, one in at if one.verdict == "fail"}
        passed = [(entry, one) for entry, one in at if one.verdict == "pass" and entry.kind not in failed]
        if passed:
            entry, one = max(passed, key=lambda each: each[1].pairs_per_s)
            n_passed = len({other.kind for other, _ in passed})
            among = f"the fastest of {n_passed} that passed" if n_passed > 1 else "the only one that passed"
            return Choice(entry, f"{entry.kind}: {among} on a CPU like this one: {_found(one)}")
    first = next((entry for entry in safe if entry.kind not in failed), safe[0])
    said = "none of them passed" if cores else "none of them was judged"
    return Choice(first, f"{first.kind}: the first that is safe here; {said} on a CPU with {cpu.isa}")


def standings(manifest: Manifest, plans: Plans, cpu: Cpu) -> tuple[Standing, ...]:
    """Return how each variant stands on a CPU, in the manifest's order; none is chosen where none is safe."""
    try:
        chosen = choose_variant(manifest, plans, cpu).entry.kind
    except BackendError:
        chosen = ""
    found = []
    for entry in manifest.variants:
        like = _on_its_like(plans, entry.kind, cpu)
        nearest = min(like, key=lambda one: _distance(cpu)(one.n_cores), default=None)
        found.append(Standing(entry.kind, why_unsafe(entry, cpu), nearest, entry.kind == chosen))
    return tuple(found)


def standing_text(one: Standing, cpu: Cpu) -> str:
    """Return a standing in a line."""
    judged = f"not judged on a CPU with {cpu.isa}"
    if one.judged is not None:
        judged = f"{one.judged.verdict} on {_found(one.judged)}"
    chosen = "; chosen here" if one.is_chosen else ""
    return f"{one.kind}: {f'not safe here, {one.unsafe}' if one.unsafe else 'safe here'}; {judged}{chosen}"


def _on_its_like(plans: Plans, kind: str, cpu: Cpu) -> list[VerdictEntry]:
    return [one for one in plans.verdicts.get(kind, ()) if one.isa == cpu.isa]


def _distance(cpu: Cpu) -> Callable[[int], tuple[int, int]]:
    return lambda n_cores: (abs(n_cores - cpu.n_cores), n_cores)


def _found(one: VerdictEntry) -> str:
    cores = "1 core" if one.n_cores == 1 else f"{one.n_cores} cores"
    return f"{cores} of {one.isa}, {one.pairs_per_s:.1f} pairs/s"
