"""Input and output in a bucket, against moto's S3 server: the same bytes as in folders."""

from __future__ import annotations

import pytest

from exporter.errors import RecipeError
from exporter.jobs.job import Columns
from exporter.jobs.places import output_at
from exporter.jobs.run import Settings
from tests.jobs.jobs import parts, rows, run, write_jsonl
from tests.s3_server import s3_environment, s3_server

SETTINGS = Settings(part_rows=10, columns=Columns(keep=("id",)))


@pytest.fixture
def store(monkeypatch):
    from s3fs import S3FileSystem

    with s3_server("rows") as url:
        for name, value in s3_environment(url).items():
            monkeypatch.setenv(name, value)
        yield S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


def test_from_bucket_to_bucket(small, store, tmp_path):
    """Text that can be sought, packed text and Parquet; a part that is gone is scored again."""
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    source = tmp_path / "in"
    source.mkdir()
    write_jsonl(source / "a.jsonl", rows(25))
    (source / "b.jsonl.gz").write_bytes(gzip.compress((source / "a.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(rows(25)), source / "c.parquet", row_group_size=7)
    store.put(f"{source}/", "rows/in/", recursive=True)
    run(small, source, tmp_path / "out", SETTINGS)

    def again() -> int:
        return run(small, "s3://rows/in", "s3://rows/out/scores", SETTINGS).n_scored

    assert again() == 75
    store.rm("rows/out/scores/part-000004.parquet")
    assert again() == 10
    tables = [pq.read_table(path)["score"] for path in sorted((tmp_path / "out").glob("part-*"))]
    output = output_at("s3://rows/out/scores")
    assert output.names() == ["_manifest.json", *parts(tmp_path / "out")]
    there = [pq.read_table(pa.BufferReader(output.read(name)))["score"] for name in output.names()[1:]]
    assert there == tables


def test_what_is_not_there(small, store, tmp_path):
    """A bucket or prefix with nothing in it is named; other places are no output."""
    for source, said in (
        ("s3://rows/none", "no file of rows"),
        ("s3://nobucket/none", "no such bucket|no file of rows"),
        ("hf://org/name", "rows are read and written in folders and at s3"),
    ):
        with pytest.raises(RecipeError, match=said):
            run(small, source, tmp_path / "out", SETTINGS)
    source = write_jsonl(tmp_path / "in.jsonl", rows(2))
    with pytest.raises(RecipeError, match="no such bucket"):
        run(small, source, "s3://nobucket/out", SETTINGS)
