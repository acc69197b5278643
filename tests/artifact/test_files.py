"""The files of an artifact: hashes, names, and JSON that shows every changed byte."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.artifact.files import (
    Count,
    from_json,
    from_python,
    list_files,
    read_sealed,
    sealed_schema,
    sha256_file,
    to_json,
    to_python,
    write_sealed,
)
from exporter.errors import BackendError, IntegrityError


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    """The hash is the published one of `abc`."""
    (tmp_path / "abc").write_bytes(b"abc")
    # Source: https://nvlpubs.nist.gov/nistpubs/FIPS/NIST.FIPS.180-4.pdf, and its example file SHA256.pdf
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_pipe_in_an_artifact(tmp_path: Path) -> None:
    """A special file is refused, not read for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IntegrityError, match="special file"):
        list_files(tmp_path)


# --- dataclasses as JSON ---


@dataclass(frozen=True)
class Inner:
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Outer:
    name: str
    n: Count
    inner: Inner | None = None


def test_json_round_trip() -> None:
    """A dataclass comes back from its JSON and from its plain form, with what lies in it."""
    value = Outer("a", 3, Inner((0.5, 2.0)))
    assert to_json(value) == b'{"name":"a","n":3,"inner":{"numbers":[0.5,2.0]}}'
    assert from_json(Outer, to_json(value)) == value
    assert to_python(value) == {"name": "a", "n": 3, "inner": {"numbers": [0.5, 2.0]}}
    assert from_python(Outer, to_python(value)) == value


def test_json_of_several() -> None:
    """A tuple of dataclasses is a list; `indent` is of each level; NaN, which JSON does not have, is null."""
    assert to_json((Inner((float("nan"),)),), indent=1) == b'[\n {\n  "numbers": [\n   null\n  ]\n }\n]'
    assert from_json(tuple[Inner, ...], b'[{"numbers": [1]}]') == (Inner((1.0,)),)


def test_json_of_another_shape() -> None:
    """What the annotations forbid is refused on the way in."""
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        from_json(Outer, b'{"name": "a", "n": -1}')
    with pytest.raises(ValidationError, match="name"):
        from_python(Outer, {"n": 1})


def test_schema_of_a_sealed_file() -> None:
    """The schema of a sealed file has the fields of its type and the seal."""
    properties = sealed_schema(Outer)["properties"]
    assert isinstance(properties, dict)
    assert list(properties) == ["sha256", "name", "n", "inner"]


# --- sealed JSON ---

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.dictionaries(st.text().filter(lambda key: key != "sha256"), JSON, max_size=4))
def test_sealed_round_trip(tmp_path: Path, content: dict[str, object]) -> None:
    """Whatever JSON can hold comes back from a sealed file."""
    write_sealed(tmp_path / "x.json", content)
    assert read_sealed(tmp_path / "x.json") == content


def test_sealed_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    """The order in which keys were set does not show in the file, and nothing is left beside it."""
    write_sealed(tmp_path / "x.json", {"a": 1, "b": 2})
    write_sealed(tmp_path / "y.json", {"b": 2, "a": 1})
    assert (tmp_path / "x.json").read_bytes() == (tmp_path / "y.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "y.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"a": 1}',
        "{",
        "[" * 100_000,
        '{"sha256": 7}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        "\ufeff{}",
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_sealed_refuses(tmp_path: Path, text: str) -> None:
    """A file that was never sealed is refused, whether or not it is JSON; no other exception gets out."""
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"x\.json"):
        read_sealed(tmp_path / "x.json")


def test_sealed_number_turned_into_infinity(tmp_path: Path) -> None:
    """One byte that makes a number too large for a float is found like any other."""
    write_sealed(tmp_path / "x.json", {"ratio": 1.6180339887})
    text = (tmp_path / "x.json").read_text(encoding="utf-8").replace("1.618", "1e618")
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(IntegrityError):
        read_sealed(tmp_path / "x.json")


def test_sealed_refuses_binary(tmp_path: Path) -> None:
    """Bytes that are no text are refused."""
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(IntegrityError):
        read_sealed(tmp_path / "x.json")


def test_sealed_refuses_reformatted(tmp_path: Path) -> None:
    """The same JSON with other white space is not what was written."""
    write_sealed(tmp_path / "x.json", {"a": 1})
    text = json.dumps(json.loads((tmp_path / "x.json").read_text(encoding="utf-8")))
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(IntegrityError, match="changed"):
        read_sealed(tmp_path / "x.json")


def test_sealed_missing(tmp_path: Path) -> None:
    """A sealed file that is not there is named."""
    with pytest.raises(IntegrityError, match=r"x\.json: missing"):
        read_sealed(tmp_path / "x.json")


def test_sealed_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A disk that refuses is the backend's failure, and leaves the old file and nothing else."""
    with pytest.raises(BackendError, match="cannot be written"):
        write_sealed(tmp_path / "none" / "x.json", {})
    (tmp_path / "x.json").mkdir()
    with pytest.raises(BackendError, match="cannot be written"):
        write_sealed(tmp_path / "x.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
