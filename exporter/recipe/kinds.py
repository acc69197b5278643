"""The kinds of variants that can be built, as a table: one row a kind.

Everybody who wants to know something of a kind asks its row here, or, for an artifact or a report that is
there already, the `Traits` that its entry carries: those are also right for a kind that this version does not
know. Which options a recipe may give a kind stands in `schema.py`; how it is built, in `exporter/export/`.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.artifact.manifest import Traits
from exporter.machine import Machine
from exporter.packages import is_there

# What the common ancestor of all kinds, the plain ONNX graph, is made and checked with.
_EXPORT = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnx-ir", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Kind:
    """One row.

    `file` is what the engine opens, named as sentence-transformers names it where it has a name for it,
    `{isa}` being the recipe's; `packages` are needed to build it; `notes` are said in the manifest and the
    report of every variant of this kind.
    """

    name: str
    traits: Traits
    file: str
    packages: tuple[str, ...] = _EXPORT
    notes: tuple[str, ...] = ()

    def path(self, isa: str | None) -> str:
        """Return the path of the model file in an artifact's folder.

        Args:
            isa: the CPUs the variant is for; None for a kind that has no such option.
        """
        return self.file.format(isa=isa)

    @property
    def missing_packages(self) -> tuple[str, ...]:
        """The packages that have to be installed before this kind can be built here."""
        return tuple(name for name in self.packages if not is_there(name))


_ORT, _OV = "onnxruntime", "openvino"
_OV_EXPORT = (*_EXPORT, "openvino")
# Source: https://docs.openvino.ai/2025/openvino-workflow/running-inference/optimize-inference/precision-control.html
_OV_F32 = (
    "this package's runtime computes in float32 whatever is not int8; libraries that leave the precision to "
    "OpenVINO compute it in bfloat16 on CPUs that have that",
)
_ROWS = (
    Kind("onnx", Traits(_ORT, "fp32", "fp32"), "onnx/model.onnx"),
    Kind("onnx-int8", Traits(_ORT, "int8", "int8"), "onnx/model_qint8_{isa}.onnx"),
    Kind(
        "onnx-int8-static",
        Traits(_ORT, "int8", "int8", calibrated=True),
        "onnx/model_qint8_static_{isa}.onnx",
    ),
    Kind("openvino", Traits(_OV, "fp32", "fp32"), "openvino/openvino_model.xml", _OV_EXPORT, _OV_F32),
    Kind(
        "openvino-fp16",
        Traits(_OV, "fp16", "fp32"),
        "openvino/openvino_model_fp16.xml",
        _OV_EXPORT,
        _OV_F32,
    ),
    Kind(
        "openvino-bf16",
        Traits(_OV, "fp16", "bf16", cpu_features=("amx_bf16", "avx512_bf16")),
        "openvino/openvino_model_fp16.xml",
        _OV_EXPORT,
        ("computed in bfloat16, on CPUs that have it; the file is openvino-fp16's",),
    ),
    Kind(
        "openvino-int8",
        Traits(_OV, "int8", "int8", calibrated=True),
        "openvino/openvino_model_qint8_quantized.xml",
        (*_OV_EXPORT, "nncf"),
        _OV_F32,
    ),
)
KINDS: dict[str, Kind] = {row.name: row for row in _ROWS}


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


def runs_on(traits: Traits, machine: Machine) -> bool:
    """Tell whether a machine's CPU has what a kind needs; most kinds need nothing."""
    return not traits.cpu_features or bool(set(traits.cpu_features) & set(machine.cpu_features))
