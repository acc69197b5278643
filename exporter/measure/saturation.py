"""Prove from its weights that an int8 variant cannot saturate on CPUs without VNNI.

There, VPMADDUBSW multiplies unsigned activations by signed weights and adds two neighbouring products in 16
bits: what is beyond 32,767 is cut off, without a sign of it, and the scores are wrong on that CPU only.
Activations may be anything from 0 to 255, so the positive parts of two weights that are neighbours along k
may sum to 128, and the negative to -128, and no further.
Source: https://github.com/microsoft/onnxruntime/issues/14642
Source: https://www.felixcloutier.com/x86/pmaddubsw
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from exporter.measure.contents import weights

if TYPE_CHECKING:
    from pathlib import Path


_LARGEST_ACTIVATION = 255
LARGEST_SUM, SMALLEST_SUM = 2**15 - 1, -(2**15)


@dataclass(frozen=True, slots=True)
class Saturation:
    """The largest and smallest sum that two neighbouring products can come to, and where.

    `unsaturated_diff` is the largest |difference|, in logits, to the same file run with kernels that cannot
    saturate (`session.x64quantprecision`); None where the engine has no such kernels.
    """

    n_products: int
    worst: str
    highest: int
    lowest: int
    unsaturated_diff: float | None

    @property
    def proven(self) -> bool:
        """Whether no activations whatever can make a sum saturate."""
        return self.n_products > 0 and self.lowest >= SMALLEST_SUM and self.highest <= LARGEST_SUM


def bound_sums(model: Path, unsaturated_diff: float | None = None) -> Saturation:
    """Bound the sums of two neighbouring products in every int8 matrix product of a model file.

    Which neighbours are added depends on how a kernel packs, so all are looked at, odd ones too.

    Raises:
        BackendError: the file cannot be read.
    """
    n_products, worst, largest, highest, lowest = 0, "", -1, 0, 0
    for product, values in weights(model):
        if values.dtype != np.int8:  # unsigned weights are widened to 16 bits first
            continue
        n_products += 1
        wide = values.astype(np.int32).reshape(-1, values.shape[-1])
        wide = np.vstack([wide, np.zeros_like(wide[:1])])
        most = (np.maximum(wide[:-1], 0) + np.maximum(wide[1:], 0)) * _LARGEST_ACTIVATION
        least = (np.minimum(wide[:-1], 0) + np.minimum(wide[1:], 0)) * _LARGEST_ACTIVATION
        highest, lowest = max(highest, int(most.max())), min(lowest, int(least.min()))
        sizes = np.maximum(most, -least)
        k, n = divmod(int(sizes.argmax()), wide.shape[1])
        if sizes[k, n] > largest:
            largest = int(sizes[k, n])
            worst = f"{product}, n {n}, k {k} and {k + 1}: {wide[k, n]} and {wide[k + 1, n]}"
    return Saturation(n_products, worst, highest, lowest, unsaturated_diff)
