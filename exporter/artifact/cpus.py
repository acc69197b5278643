"""Which CPUs a variant is right on, by its entry in the manifest alone.

An int8 variant is for an instruction set, and a kind may need units that only some CPUs have: on others its
scores are wrong, or it is slow beyond use. Neither shows as an error when it is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.artifact.names import AT

if TYPE_CHECKING:
    from exporter.artifact.manifest import Traits, VariantEntry
    from exporter.machine import Cpu, Machine


def saturates(isa: str) -> bool:
    """Return whether int8 dot products on CPUs of this instruction set are summed in int16 and can saturate.

    Without VNNI, VPMADDUBSW adds two products of unsigned by signed bytes in 16 bits; VNNI and Arm's dot
    products add in 32.
    Source: https://github.com/microsoft/onnxruntime/issues/14642
    Source: https://www.felixcloutier.com/x86/pmaddubsw

    Args:
        isa: as in `Machine.isa`, or a recipe's `isa`.
    """
    return isa not in ("avx512_vnni", "avx_vnni", "arm64")


def fits(isa: str, on: str) -> bool:
    """Return whether an int8 variant is for a CPU: it has the instructions, and sums there cannot saturate.

    Weights for CPUs that sum in 32 bits have 8 bits, whose sums may not fit the 16 of another CPU; those with
    7 bits are right everywhere.

    Args:
        isa: the CPUs the variant is for, a recipe's `isa`.
        on: the instruction set of the CPU that runs it, as in `Machine.isa`.
    """
    return isa == on or (isa != "arm64" and (saturates(isa) or not saturates(on)))


def runs_on(traits: Traits, cpu: Cpu | Machine) -> bool:
    """Tell whether a CPU has what a kind needs; most kinds need nothing."""
    return not traits.cpu_features or bool(set(traits.cpu_features) & set(cpu.cpu_features))


def why_unsafe(entry: VariantEntry, cpu: Cpu | Machine) -> str:
    """Return why a variant is not to be used on a CPU, which is what it needs; empty where it is safe."""
    if not runs_on(entry.traits, cpu):
        return f"needs a CPU with {' or '.join(entry.traits.cpu_features)}"
    if entry.isa is not None and not fits(entry.isa, cpu.isa):
        return f"is for CPUs with {entry.isa}, whose int8 sums have 32 bits" + (
            f"; on {cpu.isa} they can saturate" if saturates(cpu.isa) else f", and this one has {cpu.isa}"
        )
    return ""


def why_not_judged(entry: VariantEntry, cpu: Cpu | Machine) -> str:
    """Return why a variant is not measured on a CPU; empty where it is.

    Of a kind that is there for several instruction sets, each is judged on the CPUs that it is for. The only
    one of its kind is judged wherever it runs: nothing else of that kind could be loaded there.
    """
    if AT in entry.kind:
        return why_unsafe(entry, cpu)
    return "" if runs_on(entry.traits, cpu) else why_unsafe(entry, cpu)
