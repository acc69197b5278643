"""TSV and CSV: quoting, headers, columns, and what others write without a header."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.pairs import load_pairs
from tests.pairs.files import HEADER, labels, read, refusal

# --- quoting ---


def test_quoted_tsv(tmp_path: Path) -> None:
    """As pandas and csv write it: doubled marks are one, tabs and line ends inside quotes are text."""
    content = HEADER + 'q\t"He said ""a force""."\t1\nq\t"one\ttwo"\t0\n"q"\t"three\r\nfour"\t0\n'
    pair_set = read(tmp_path, "x.tsv", content)
    assert [passage for _, passage in pair_set.pairs] == ['He said "a force".', "one\ttwo", "three\r\nfour"]
    assert "quoted as CSV (1 of its rows over several lines)" in pair_set.reading


@pytest.mark.parametrize(
    "passage",
    ['"half a quote', '"Lift" is a force', '"a" and "b"', '"', '"""'],
)
def test_raw_tsv(tmp_path: Path, passage: str) -> None:
    """One field that begins with a mark and is not well-formed makes every mark of the file a character."""
    pair_set = read(tmp_path, "x.tsv", f'q\t"whole"\nq\t{passage}\n')
    assert pair_set.pairs == (("q", '"whole"'), ("q", passage))
    assert "TSV, not quoted" in pair_set.reading


def test_marks_inside_a_field_decide_nothing(tmp_path: Path) -> None:
    """A mark that does not begin a field is a character under either reading."""
    pair_set = read(tmp_path, "x.tsv", 'q\tsay "lift"\nq\t"say ""lift"" twice"\n')
    assert [passage for _, passage in pair_set.pairs] == ['say "lift"', 'say "lift" twice']


def test_lines_are_counted_over_quotes(tmp_path: Path) -> None:
    """A row's line is the one it begins on, also after rows that run over several."""
    content = HEADER + 'q\t"one\n\ntwo"\t1\n\nq\t"three\nfour"\tgood\n'
    assert refusal(tmp_path, "x.tsv", content).startswith("x.tsv:6: label 'good'")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('q,"a "b" c",1\n', ":3: column 2: 'b\" c\",1' after the closing quotation mark"),
        ('q,5" pipe,1\n', ":3: column 2: a quotation mark in a field that does not begin with one"),
        ('q, "spaced",1\n', ":3: column 2: a quotation mark in a field that does not begin with one"),
        ('q,"open,1\nq,p,1\n', ": the field that begins on line 3 is never closed"),
        ("q,a, b,1\n", ":3: 4 columns, line 1 has 3"),
    ],
)
def test_csv_that_is_not_well_formed(tmp_path: Path, row: str, message: str) -> None:
    """In CSV a mark that breaks RFC 4180 is refused with its line: half of the readers read it otherwise."""
    assert message in refusal(tmp_path, "x.csv", "query,passage,label\nq,p,0\n" + row)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_by_another_delimiter(tmp_path: Path, delimiter: str) -> None:
    """What makes the header's names separates the columns, as Excel writes them where a comma is decimal."""
    content = f'query{delimiter}"passage"\nq{delimiter}"a, b; c\td"\n'
    assert read(tmp_path, "x.csv", content).pairs == (("q", "a, b; c\td"),)


def test_csv_without_a_header_is_by_comma(tmp_path: Path) -> None:
    """Without a header only a comma separates, and a line that something else could is refused."""
    assert read(tmp_path, "x.csv", 'q,"a; b",1\n').pairs == (("q", "a; b"),)
    assert "x.csv:1: columns by comma or by semicolon?" in refusal(tmp_path, "x.csv", "q;a, b;1\n")


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=12)
WORDS = TEXT.filter(lambda text: text.strip().lower() not in ("", "nan", "none", "null", "<na>", "nat"))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    passages=st.lists(WORDS, min_size=1, max_size=5, unique=True),
    query=WORDS,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    kind=st.sampled_from([(".csv", ","), (".csv", ";"), (".tsv", "\t"), (".csv.gz", ",")]),
)
def test_what_csv_writes_comes_back(
    tmp_path: Path, *, passages: list[str], query: str, quoting: int, end: str, kind: tuple[str, str]
) -> None:
    """Whatever `csv.writer`, and so `DataFrame.to_csv`, writes with a header is read back equal."""
    suffix, delimiter = kind
    file = io.StringIO(newline="")
    rows = [["query", "passage", "label", "query_id"], *([query, p, 0.5, 7] for p in passages)]
    csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(rows)  # type: ignore[arg-type] # any int
    pair_set = read(tmp_path, f"x{suffix}", file.getvalue())
    assert pair_set.pairs == tuple((query, passage) for passage in passages)
    assert labels(pair_set) == [0.5] * len(passages)
    assert pair_set.query_ids == ("7",)


@pytest.mark.parametrize("row", ["q" + "\tp" * 500_000, 'q\t"p"' + "\tp" * 500_000])
def test_no_end_of_columns(tmp_path: Path, row: str) -> None:
    """A line of nothing but columns is refused at the first thousand."""
    assert "x.tsv:2: 1001 columns, line 1 has 2" in refusal(tmp_path, "x.tsv", "query\tpassage\n" + row)
    found = refusal(tmp_path, "x.csv", "query,passage\n" + row.replace("\t", ","))
    assert "x.csv:2: " in found


# --- headers ---


@pytest.mark.parametrize(
    "header",
    ["Query\tPassage", "QUERY\tPASSAGE", " query \tpassage ", '"query"\t"passage"', "\ufeffQuery\tpassage"],
)
def test_header_however_written(tmp_path: Path, header: str) -> None:
    """Names count in any case, with spaces around them, quoted or not, and never are a pair."""
    assert read(tmp_path, "x.tsv", header + "\nq\tp\n").pairs == (("q", "p"),)


def test_header_in_any_order(tmp_path: Path) -> None:
    """Columns go by their names; what is not known is ignored and said to be, an index without a name too."""
    content = "\tQuery ID\tpassage\tscore\tlabel\tquery\n0\t7\tp\t3.5\t1\tq\n1\t7\tr\t3.5\t0\tq\n"
    pair_set = read(tmp_path, "x.tsv", content)
    assert pair_set.pairs == (("q", "p"), ("q", "r"))
    assert (labels(pair_set), pair_set.query_ids) == ([1, 0], ("7",))
    assert pair_set.reading == (
        "TSV, not quoted, UTF-8; header: query_id, passage, label, query; 2 pairs of 1 queries by query_id; "
        "labels 0 to 1; ignored: one without a name, 'score'"
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("query\tpassage\tpassage", "two columns are called passage; leave one"),
        ("query\tpassage\tPassage ", "two columns are called passage; leave one"),
        ("query\tpasage", "unknown column 'pasage', did you mean 'passage'?"),
        ("querry\tpasage", "unknown column 'querry', did you mean 'query'?"),
        ("query\tpassage\tlables", "unknown column 'lables', did you mean 'label'?"),
        ("query\tdocument", "unknown column: rename 'document' to 'passage'"),
        ("Question\tText", "unknown columns: rename 'Question' to 'query', rename 'Text' to 'passage'"),
        ("sentence1\tsentence2\tscore", "rename 'sentence1' to 'query', rename 'sentence2' to 'passage'"),
        ("query\tpassage\trelevance", "rename 'relevance' to 'label', or drop it"),
        ("qid\tquery\tpassage", "rename 'qid' to 'query_id', or drop it"),
        ("query\tpositive\tnegative", "wanted the columns query and passage; found"),
        ("query\tpositive\tnegative", "write each triple as two pairs, labelled 1 and 0"),
        ("label\tpassage", "wanted the columns query and passage; found 'label', 'passage'"),
        ("0\t1\t2", "a header of numbers, as pandas gives columns without names"),
        ("\t0\t1", "a header of numbers, as pandas gives columns without names"),
        ("query\tpassage" + "\tx" * 1000, "1001 columns"),
    ],
)
def test_bad_header(tmp_path: Path, header: str, message: str) -> None:
    """A header that is nearly one is refused with what to write, and never becomes a pair."""
    row = "\t".join("a" for _ in header.split("\t"))
    found = refusal(tmp_path, "x.tsv", f"{header}\n{row}\n")
    assert found.startswith("x.tsv:1: ")
    assert message in found


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("what is lift\ta force\ta house", "'a house' is no label; name the columns"),
        ("188714\t1000052\tfoods to lower\twatch the carbs", "begins with the number '188714'"),
        ("1\t7187158\t7187157", "begins with the number '1'"),
        ("1185869\t)what was the impact", "begins with the number '1185869'"),
        ("0\twhat is lift\ta force\t1", "begins with the number '0'"),
        ("1 Q0 3 1", "one column, no tab; wanted query and passage at least"),
        ("q,p,1", "one column, no tab"),
    ],
)
def test_what_others_write_without_header(tmp_path: Path, row: str, message: str) -> None:
    """No id of MS MARCO's triples, top1000, qidpidtriples, queries and qrels is read as a text."""
    found = refusal(tmp_path, "x.tsv", row + "\n" + row + "\n")
    assert found.startswith("x.tsv:1: ")
    assert message in found


def test_top1000_with_a_header(tmp_path: Path) -> None:
    """MS MARCO's candidates are read as the message says: with one line before them."""
    rows = '1\t2\twhat is lift\t"Lift is\n1\t3\twhat is lift\ta "house"\n'
    pair_set = read(tmp_path, "x.tsv", "query_id\tpassage_id\tquery\tpassage\n" + rows)
    assert pair_set.pairs == (("what is lift", '"Lift is'), ("what is lift", 'a "house"'))


# --- recorded: pandas 3.1 and datasets 5.2, `to_csv` of one table ---

RECORDED = {
    "pandas.tsv": (
        '\tquery\tpassage\tlabel\tquery_id\n0\twhat is lift?\t"He said ""a force""."\t2.0\t1\n'
        '1\twhat is lift?\t"tab\there"\t0.0\t1\n2\twhat is lift?\t"line\nbreak, comma"\t0.0\t1\n'
    ),
    "pandas.csv": (
        'query,passage,label,query_id\nwhat is lift?,"He said ""a force"".",2.0,1\n'
        'what is lift?,tab\there,0.0,1\nwhat is lift?,"line\nbreak, comma",0.0,1\n'
    ),
    "pandas.jsonl": (
        '{"query":"what is lift?","passage":"He said \\"a force\\".","label":2.0,"query_id":1}\n'
        '{"query":"what is lift?","passage":"tab\\there","label":0.0,"query_id":1}\n'
        '{"query":"what is lift?","passage":"line\\nbreak, comma","label":0.0,"query_id":1}\n'
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded(tmp_path: Path, name: str) -> None:
    """One table written in several ways is one pair set."""
    pair_set = read(tmp_path, name, RECORDED[name])
    assert [passage for _, passage in pair_set.pairs] == [
        'He said "a force".',
        "tab\there",
        "line\nbreak, comma",
    ]
    assert (labels(pair_set), pair_set.query_ids) == ([2, 0, 0], ("1",))


def test_sample_is_what_it_was() -> None:
    """The sample's digests stand in published manifests and may not change with how files are read."""
    assert load_pairs("sample/verify").digest.startswith("1191915f2f1fb11a")
    assert load_pairs("sample/calibrate").digest.startswith("e62b5b2a173d8825")
