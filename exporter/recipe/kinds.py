"""The kinds of variants that can be built, as a table: one row a kind.

Everybody who wants to know something of a kind asks its row here, or, for an artifact or a report that is
there already, the `Traits` that its entry carries: those are also right for a kind that this version does not
know. Which options a recipe may give a kind stands in `schema.py`; how it is built, in `exporter/export/`.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.artifact.manifest import Traits
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

    def path(self, isa: str | None, *, one_of_several: bool = False) -> str:
        """Return the path of the model file in an artifact's folder.

        Args:
            isa: the CPUs the variant is for; None for a kind that has no such option.
            one_of_several: the artifact has this kind for other CPUs too, so the name has to say which.
        """
        if one_of_several and "{isa}" not in self.file:
            stem, dot, suffix = self.file.rpartition(".")
            return f"{stem}_{isa}{dot}{suffix}"
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
