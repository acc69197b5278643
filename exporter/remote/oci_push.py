"""Send to an OCI registry: files as layers of a ModelPack manifest, attestations as referrers, the tag last.

Until the tag is set the registry answers with the artifact before. Layers are named by their hash, so the
repetition of a push that was killed sends only what is missing. Nothing in the manifest depends on the time
of the push: equal folders have equal digests.
Source: https://github.com/modelpack/model-spec/blob/main/docs/spec.md
Source: https://github.com/modelpack/model-spec/blob/main/docs/config.md
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from exporter.artifact.canonical import canonical_json
from exporter.artifact.files import ATTESTATION, SIGNATURE, from_json
from exporter.remote.difference import Sent
from exporter.remote.oci import (
    ARTIFACT_TYPE,
    FILEPATH,
    INDEX_TYPE,
    MANIFEST_TYPE,
    TITLE,
    Descriptor,
    Json,
    Repository,
    digest_of,
    open_repository,
)

if TYPE_CHECKING:
    from exporter.artifact.files import FileEntry
    from exporter.artifact.manifest import Manifest
    from exporter.progress import Progress
    from exporter.remote.address import Place
    from exporter.remote.difference import Delivery


_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
_WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
_WEIGHT_CONFIG_TYPE = "application/vnd.cncf.model.weight.config.v1.raw"
_DOC_TYPE = "application/vnd.cncf.model.doc.v1.raw"
_WEIGHTS = (".onnx", ".onnx_data", ".xml", ".bin", ".safetensors")
_DOCS = (".md", ".html", ".svg", ".png", ".sig", ".jsonl")
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
# The files that vouch for an artifact, and their types as referrers: in-toto statements, and a Sigstore
# bundle.
# Source: https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md
# Source: https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto
_REFERRERS = {
    ATTESTATION: "application/vnd.in-toto+json",
    SIGNATURE: "application/vnd.dev.sigstore.bundle.v0.3+json",
}


def push(wanted: Delivery, place: Place, progress: Progress) -> Sent:
    """Push a delivery, set the tag to it, and return what was sent.

    Raises:
        RecipeError: the registry wants another login.
        BackendError: the registry cannot be reached or failed.
        BackendMissing: requests or rfc8785 is not installed.
    """
    repository = open_repository(place)
    n_sent = 0
    with progress.stage(place.text, len(wanted.files)) as step:
        for done, file in enumerate(wanted.files, 1):
            # An empty file as a stream would have no length, and be sent in chunks, which not every registry
            # takes.
            content = wanted.folder / file.path if file.size_bytes else b""
            n_sent += repository.upload(content, f"sha256:{file.sha256}")
            step(done)

        body = _manifest(repository, wanted)
        digest = digest_of(body)
        repository.put_manifest(digest, body)
        for file in wanted.files:
            if file.path in _REFERRERS:
                _refer(repository, file, Descriptor(MANIFEST_TYPE, digest, len(body)))
        repository.put_manifest(place.version or "", body)
    return Sent(place.text, digest, n_sent, len(wanted.files))


def _manifest(repository: Repository, wanted: Delivery) -> bytes:
    """Upload the configuration, and return the manifest that names it and the files."""
    config = canonical_json(_config(wanted.manifest, wanted.files))
    repository.upload(config, digest_of(config))
    layers: list[Json] = [
        Descriptor(_media_type(file.path), f"sha256:{file.sha256}", file.size_bytes).json(
            annotations={FILEPATH: file.path, TITLE: file.path}
        )
        for file in wanted.files
    ]
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": Descriptor(_CONFIG_TYPE, digest_of(config), len(config)).json(),
            "layers": layers,
            "annotations": {TITLE: wanted.manifest.name},
        }
    )


def _config(manifest: Manifest, files: tuple[FileEntry, ...]) -> dict[str, Json]:
    formats = {"onnxruntime": "onnx"}
    precisions = {entry.traits.weights for entry in manifest.variants}
    descriptor: dict[str, Json] = {"name": manifest.name, "version": manifest.root[:12]}
    if manifest.source.revision:
        descriptor["revision"] = manifest.source.revision
    config: dict[str, Json] = {
        "architecture": "transformer",
        "format": ", ".join(
            sorted({formats.get(entry.traits.engine, entry.traits.engine) for entry in manifest.variants})
        ),
        "precision": precisions.pop() if len(precisions) == 1 else "mixed",
        "capabilities": {"inputTypes": ["text"]},
    }
    return {
        "descriptor": descriptor,
        "config": config,
        "modelfs": {"type": "layers", "diffIds": [f"sha256:{file.sha256}" for file in files]},
    }


def _media_type(path: str) -> str:
    suffix = PurePosixPath(path).suffix
    if suffix in _WEIGHTS:
        return _WEIGHT_TYPE
    return _DOC_TYPE if suffix in _DOCS else _WEIGHT_CONFIG_TYPE


def _refer(repository: Repository, file: FileEntry, subject: Descriptor) -> None:
    """Push a file as a referrer of the manifest `subject`, so that `oras discover` and others find the file.

    A registry without the referrers interface (docker-registry before 3) has its clients keep a list under a
    tag.
    Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests-with-subject
    """
    repository.upload(_EMPTY, digest_of(_EMPTY))
    kind = _REFERRERS[file.path]
    layer = Descriptor(kind, f"sha256:{file.sha256}", file.size_bytes).json(annotations={TITLE: file.path})
    body = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": kind,
            "config": Descriptor(_EMPTY_TYPE, digest_of(_EMPTY), len(_EMPTY)).json(),
            "layers": [layer],
            "subject": subject.json(),
        }
    )
    if repository.put_manifest(digest_of(body), body):
        return

    tag = subject.digest.replace(":", "-")
    listed = _listed(repository.manifest(tag, INDEX_TYPE))
    if not any(isinstance(one, dict) and one.get("digest") == digest_of(body) for one in listed):
        listed.append(Descriptor(MANIFEST_TYPE, digest_of(body), len(body)).json(artifactType=kind))
        index: dict[str, Json] = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": listed}
        repository.put_manifest(tag, canonical_json(index), INDEX_TYPE)


def _listed(index: bytes | None) -> list[Json]:
    """Return the manifests that an index lists; empty where the index is missing or cannot be read."""
    try:
        content = from_json(dict[str, Json], index or b"{}")
    except ValidationError:
        return []
    manifests = content.get("manifests")
    return manifests if isinstance(manifests, list) else []
