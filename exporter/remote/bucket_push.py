"""Send to a bucket: the files of a version under a prefix that nothing else is written to, then the pointer to it.

Until the pointer is written readers get the version before. What a killed send left is found by name and size when it is
repeated, since a store keeps an object whole or not at all. Files that the version before has too, or this one under another
name, are copied inside the store.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact.files import write_sealed
from exporter.remote.bucket import (
    POINTER,
    POINTER_SCHEMA,
    BucketSource,
    bucket_errors,
    open_bucket,
    version_key,
    version_of,
)
from exporter.remote.difference import Sent

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from exporter.progress import Progress
    from exporter.remote.address import Place
    from exporter.remote.difference import Delivery, Difference


def write(wanted: Delivery, place: Place, found: Difference, progress: Progress) -> Sent:
    """Write a delivery as a new version, and point to it.

    Raises:
        RecipeError: there is no such bucket, or the credentials found may not write to it.
        BackendError: the store cannot be reached or failed.
    """
    bucket, prefix = open_bucket(place)
    version = version_of(wanted.files)
    before = _by_hash(found.there) if isinstance(found.there, BucketSource) else {}
    n_sent = 0
    with bucket_errors(place), progress.stage(place.text, len(wanted.files)) as step:
        have = {
            key: info["size"]
            for key, info in bucket.find(version_key(prefix, version, ""), detail=True).items()
        }
        for done, file in enumerate(wanted.files, 1):
            key = version_key(prefix, version, file.path)
            if have.get(key) != file.size_bytes:
                if old := before.get(file.sha256):
                    bucket.cp_file(old, key)
                else:
                    bucket.put_file(str(wanted.folder / file.path), key)
                    n_sent += 1
            before.setdefault(file.sha256, key)
            step(done)
        _point(bucket, f"{prefix}/{POINTER}", wanted, version)
    return Sent(place.text, f"{place.text}/{POINTER} -> {version[:12]}", n_sent, len(wanted.files))


def _by_hash(source: BucketSource) -> dict[str, str]:
    files = source.pointer.files
    return {file.sha256: version_key(source.prefix, source.version, file.path) for file in files}


def _point(bucket: AbstractFileSystem, key: str, wanted: Delivery, version: str) -> None:
    manifest = wanted.manifest
    with tempfile.TemporaryDirectory() as scratch:
        files = [dataclasses.asdict(file) for file in wanted.files]
        content = {
            "schema": POINTER_SCHEMA,
            "name": manifest.name,
            "root": manifest.root,
            "version": version,
            "files": files,
        }
        write_sealed(Path(scratch) / POINTER, content)
        bucket.put_file(str(Path(scratch) / POINTER), key)
