"""Text files: encodings, line ends, packing, and what is no text."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from exporter.errors import RecipeError
from exporter.pairs import load_pairs
from tests.pairs.files import HEADER, labels, read, refusal, written

ROWS = "what is lift\ta force é 漢\t1\nwhat is lift\ta house\t0\n"
JSON = '{"query": "q", "passage": "p%s"}\n'


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8 with BOM"),
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
    ],
)
@pytest.mark.parametrize("header", ["", HEADER])
def test_encoding_by_its_mark(tmp_path: Path, encoding: str, words: str, header: str) -> None:
    """A byte-order mark says the encoding and is no part of the first text."""
    pair_set = read(tmp_path, "x.tsv", (header + ROWS).encode(encoding))
    assert pair_set.pairs == (("what is lift", "a force é 漢"), ("what is lift", "a house"))
    assert pair_set.query_ids == ("what is lift",)
    assert f", {words};" in pair_set.reading


def test_big_endian(tmp_path: Path) -> None:
    """UTF-16 is read in either order of bytes."""
    assert len(read(tmp_path, "x.tsv", ("\ufeff" + ROWS).encode("utf-16-be")).pairs) == 2


def test_mark_before_json(tmp_path: Path) -> None:
    """JSONL may begin with a byte-order mark too."""
    assert read(tmp_path, "x.jsonl", (JSON % "").encode("utf-8-sig")).pairs == (("q", "p"),)


def test_latin_1(tmp_path: Path) -> None:
    """A byte that is not UTF-8 is named with its line and place, counted in bytes, and what to do."""
    message = refusal(tmp_path, "x.tsv", "q\té".encode() + b"\n" + "é\tcaf".encode() + b"\xe9\n")
    assert message.startswith("x.tsv:2: byte 7 of the line, 0xe9, is not UTF-8; ")
    assert "iconv -f WINDOWS-1252 -t UTF-8" in message


def test_utf_16_without_mark(tmp_path: Path) -> None:
    """UTF-16 without its mark shows as NUL characters, and is refused as such."""
    assert "x.tsv:1: holds NUL, so it is no text, or UTF-16" in refusal(
        tmp_path, "x.tsv", ROWS.replace("漢", "").encode("utf-16-le")
    )


def test_utf_16_cut_off(tmp_path: Path) -> None:
    """UTF-16 that ends within a character is refused near its line."""
    assert "x.tsv:1: here or soon after, 'utf-16" in refusal(tmp_path, "x.tsv", "q\tp".encode("utf-16")[:-1])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
def test_lone_surrogates(tmp_path: Path, encoding: str) -> None:
    """Half a surrogate pair is no character, as bytes or as an escape in JSON."""
    raw = "q\tp\nq\tp\ud83d\n".encode(encoding, "surrogatepass")
    assert refusal(tmp_path, "x.tsv", raw).startswith("x.tsv:2: ")
    message = refusal(tmp_path, "x.jsonl", JSON % "" + JSON % "\\ud83d")
    assert message.startswith("x.jsonl:2: passage holds half a surrogate pair, \\ud83d")
    assert read(tmp_path, "x.jsonl", JSON % "\\ud83d\\ude00").pairs == (("q", "p😀"),)


def test_joined_files(tmp_path: Path) -> None:
    """A mark or the header once more shows that files were joined: neither becomes a pair."""
    once = HEADER + ROWS
    assert "x.tsv:4: begins with a byte-order mark" in refusal(tmp_path, "x.tsv", once + "\ufeff" + once)
    assert "x.tsv:4: the header again" in refusal(tmp_path, "x.tsv", once + once)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("name", ["x.tsv", "x.csv", "x.tsv.gz"])
def test_line_ends(tmp_path: Path, end: str, last: bool, name: str) -> None:  # noqa: FBT001
    """Lines end in LF, CR LF, or CR alone, the last one or not; no end is part of a text."""
    lines = (HEADER + "q\tp\t1\n" + "q\tp2\t0").replace("\n", end) + (end if last else "")
    pair_set = read(tmp_path, name, lines if ".tsv" in name else lines.replace("\t", ","))
    assert pair_set.pairs == (("q", "p"), ("q", "p2"))
    assert labels(pair_set) == [1, 0]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\r"])
@pytest.mark.parametrize("name", ["x.tsv", "x.csv"])
def test_what_ends_no_line(tmp_path: Path, character: str, name: str) -> None:
    """What ends a line for `str.splitlines` is a character of a text."""
    content = f"query\tpassage\nq\ta{character}b\nq\tc\n"
    pair_set = read(tmp_path, name, content if name == "x.tsv" else content.replace("\t", ","))
    assert pair_set.pairs == (("q", f"a{character}b"), ("q", "c"))


def test_gzip(tmp_path: Path) -> None:
    """A packed file is the same pair set; the name's case does not matter."""
    plain, packed = read(tmp_path, "x.tsv", ROWS), read(tmp_path, "X.TSV.gz", ROWS)
    assert packed.digest == plain.digest
    assert "UTF-8, gzip;" in packed.reading


def test_packed_wrongly(tmp_path: Path) -> None:
    """What is packed and not called so, called so and not packed, or cut off, is said to be."""
    packed = gzip.compress(ROWS.encode())
    assert "x.tsv: packed with gzip; name it x.tsv.gz" in refusal(tmp_path, "x.tsv", packed)
    (tmp_path / "y.tsv.gz").write_bytes(ROWS.encode())
    (tmp_path / "z.tsv.gz").write_bytes(packed[:-12])
    for name in ("y.tsv.gz", "z.tsv.gz"):
        with pytest.raises(RecipeError, match=rf"{name}: cannot be read: "):
            load_pairs(str(tmp_path / name))


def test_a_line_without_end(tmp_path: Path) -> None:
    """A line that no pair has is refused before the rest is unpacked."""
    content = gzip.compress(b"q\tp\nq\t" + b"p" * (1 << 25))
    assert len(content) < 100_000
    path = tmp_path / "x.tsv.gz"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"x\.tsv\.gz:2: a line of more than 16777216 characters"):
        load_pairs(str(path))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "a pointer of Git LFS; .*git lfs pull",
        ),
        (b"PAR1....", r"the content of a \.parquet file"),
        (b"PK\x03\x04....", r"the content of a \.xlsx"),
    ],
)
@pytest.mark.parametrize("name", ["x.tsv", "x.jsonl", "x.csv"])
def test_what_is_another_file(tmp_path: Path, raw: bytes, message: str, name: str) -> None:
    """Files that are often there by mistake are named."""
    assert re.search(message, refusal(tmp_path, name, raw))


def test_name_of_a_file_with_nothing_in_it(tmp_path: Path) -> None:
    """No pairs at all is said to be empty, in every format of text."""
    for name in ("x.tsv", "x.csv", "x.jsonl", "x.csv.gz"):
        for content in ("", "\n\n", "\ufeff", "\r\n"):
            assert "empty; wanted at least two" in refusal(tmp_path, name, content)
    assert written(tmp_path / "x.tsv", "").read_bytes() == b""
