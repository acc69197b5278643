"""Send to a bucket: the files of a version under a prefix of its own, then the pointer to that version.

Until the pointer is written, readers get the version before. A send that was killed leaves objects behind,
which its repetition finds by name and size, since a store keeps an object whole or not at all. Files that the
version before has too, or this version under another name, are copied inside the store.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from exporter.artifact.files import write_sealed
from exporter.remote.bucket import (
    POINTER,
    POINTER_SCHEMA,
    bucket_errors,
    open_bucket,
    version_key,
    version_of,
)
from exporter.remote.difference import Sent
from exporter.scratch import Scratch

if TYPE_CHECKING:
    from s3fs import S3FileSystem

    from exporter.progress import Progress
    from exporter.remote.address import Place
    from exporter.remote.difference import Delivery, Difference


def write(wanted: Delivery, place: Place, found: Difference, progress: Progress) -> Sent:
    """Write a delivery as a new version, then the pointer to it.

    Raises:
        RecipeError: the bucket does not exist, or the credentials found may not write to it.
        BackendError: the store cannot be reached or failed.
    """
    bucket, prefix = open_bucket(place)
    version = version_of(wanted.files)
    # By hash, the objects that hold a content already: those of the version before, then those of this one.
    holders = {file.sha256: version_key(prefix, found.version, path) for path, file in found.there.items()}
    n_sent = 0
    with bucket_errors(place), progress.stage(place.text, len(wanted.files)) as step:
        have = {
            key: info["size"]
            for key, info in bucket.find(version_key(prefix, version, ""), detail=True).items()
        }

        for done, file in enumerate(wanted.files, 1):
            key = version_key(prefix, version, file.path)
            if have.get(key) != file.size_bytes:
                if holder := holders.get(file.sha256):
                    bucket.cp_file(holder, key)
                else:
                    bucket.put_file(str(wanted.folder / file.path), key)
                    n_sent += 1
            holders.setdefault(file.sha256, key)
            step(done)

        _write_pointer(bucket, f"{prefix}/{POINTER}", wanted, version)
    return Sent(place.text, f"{place.text}/{POINTER} -> {version[:12]}", n_sent, len(wanted.files))


def _write_pointer(bucket: S3FileSystem, key: str, wanted: Delivery, version: str) -> None:
    content = {
        "schema": POINTER_SCHEMA,
        "name": wanted.manifest.name,
        "root": wanted.manifest.root,
        "version": version,
        "files": [dataclasses.asdict(file) for file in wanted.files],
    }
    with Scratch("remote") as scratch:
        write_sealed(scratch / POINTER, content)
        bucket.put_file(str(scratch / POINTER), key)
