"""What strangers write stays text in every format that we write; what people write stays as it is."""

from __future__ import annotations

import json
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from exporter.cli.screen import show
from exporter.escape import code, markdown, no_command, one_line, terminal, terminal_json
from exporter.gate import Check
from exporter.publish.card import card
from exporter.publish.licence import Licence, find_licence
from exporter.report.html import html
from exporter.report.junit import junit
from exporter.report.machines import Reports
from exporter.report.plots import draw_figures
from exporter.report.table import md_table
from exporter.report.text import findings
from exporter.report.text import markdown as report_markdown
from tests.factories import a_fidelity, a_manifest, a_report, a_variant_report
from tests.payloads import PAYLOADS

ORDINARY = (
    "阿司匹林能预防中风吗？“可以”，他说。",
    "naïve café, l’été: “déjà vu” – 50 %",
    "He said: it's 3.5 mg/kg (n = 12); p < 0.05?",
    "Привет, мир; שלום עולם; مرحبا بالعالم",
    "می‌خواهم",
    "👩‍👩‍👧 emoji ✅",
    "nDCG@10 and MRR@10, snake_case, a-b, C++, 1.5, -0.5, +0.1%",
)
hostile = st.lists(
    st.one_of(
        st.sampled_from(PAYLOADS),
        st.text(max_size=12),
        st.text("|\\`*_@#:/.<>&$[]()!-+=~ \n\rw1", max_size=8),
    ),
    max_size=4,
).map("".join)
PAGE = MarkdownIt("commonmark").enable(["table", "strikethrough"])
# What GitHub makes live in a page's text once it is rendered.
# Source: https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting
LIVE = re.compile(
    r"(?<![\w@])@\w|[\w.+-]@[\w-]+\.\w|\w@[0-9a-f]{7}|#\d|\bGH-\d|\w+://|\bwww\.\w|mailto:|xmpp:",
    re.IGNORECASE,
)


class Tags(HTMLParser):
    """Collects a page's tags and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")

    def handle_data(self, data: str) -> None:
        self.text += data


def words(text: str) -> str:
    """Return what a reader sees of a text: blanks as one, and nothing of what only breaks links."""
    return re.sub(r"\s+", " ", text.replace("\u200b", "")).strip()


def examples(function: object) -> object:
    """Try every payload, whatever hypothesis draws."""
    for payload in PAYLOADS:
        function = example(payload)(function)  # type: ignore[arg-type] # a decorator
    return function


@settings(deadline=None)
@examples
@given(hostile)
def test_text_in_a_paragraph_of_markdown(text: str) -> None:
    """A paragraph holds the text, and no tag, link, mention or reference; a reader sees what was written."""
    for escaped, before in ((markdown(text), ""), (f"Note: {markdown(text)}", "Note: ")):
        page = Tags(PAGE.render(escaped))
        assert set(page.tags) <= {"p"}, escaped
        assert words(page.text) == words(before + one_line(text))
        assert not LIVE.search(page.text), page.text


@settings(deadline=None)
@examples
@given(hostile)
def test_text_in_a_table_of_markdown(text: str) -> None:
    """A cell holds the text, and stays one cell."""
    page = Tags(PAGE.render("\n".join(md_table(("a", text), ((text, "b"),)))))
    cells = [tag for tag in page.tags if tag not in ("table", "thead", "tbody", "tr")]
    assert cells == ["th", "th", "td", "td"]
    assert words(page.text) == words(f"a {one_line(text)} {one_line(text)} b")
    assert not LIVE.search(page.text), page.text


@settings(deadline=None)
@examples
@given(hostile)
def test_text_on_a_terminal(text: str) -> None:
    """Nothing moves a cursor or turns text, and no line is a command to a CI system."""
    shown = terminal(text)
    assert all(c.isprintable() or c in "\n\u200c\u200d" for c in shown)
    shown.encode()
    for row in shown.split("\n"):
        assert not re.match(r"\s*::", row)
        assert not re.search(r"##(\[|vso\[|teamcity\[)", row, re.IGNORECASE)
    assert terminal(shown) == shown
    assert no_command(shown) == shown


@settings(deadline=None)
@examples
@given(hostile)
def test_json_on_a_terminal(text: str) -> None:
    """The same value, in characters that can be seen."""
    shown = terminal_json(json.dumps({"a": text}, ensure_ascii=False, indent=1))
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert json.loads(shown) == {"a": text}
    assert not re.search(r"##(\[|vso\[|teamcity\[)|^\s*::", shown, re.IGNORECASE | re.MULTILINE)


def test_json_of_a_path_that_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder's name may be any bytes; JSON has it as Python has."""
    show({"artifact": "x\udc80\x1b"}, "", as_json=True)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"artifact": "x\udc80\x1b"}


@settings(deadline=None)
@examples
@given(hostile)
def test_text_in_a_block_of_code(text: str) -> None:
    """A string of JSON, hence of Python and JavaScript, which neither ends the block nor the script."""
    assert json.loads(code(text)) == text
    assert not re.search("[`<>&]", code(text))
    assert code(text).isascii()


def outside(text: str) -> dict[str, object]:
    """Return what of a report comes from outside, all of it being this text."""
    report = a_report()
    reference = report.reference.__class__(
        **{
            **{name: getattr(report.reference, name) for name in report.reference.__slots__},
            "source": text,
            "revision": text,
            "notes": (text,),
        }
    )
    parity = a_fidelity().parity.__class__(
        **{
            **{name: getattr(a_fidelity().parity, name) for name in a_fidelity().parity.__slots__},
            "worst_query": text,
            "farthest_query": text,
        }
    )
    fidelity = a_fidelity(worst_query=text, parity=parity)
    pair = fidelity.worst_pairs[0].__class__(1, text, text, text, 12, 1.0, 1.25)
    fidelity = a_fidelity(worst_query=text, parity=parity, worst_pairs=(pair,))
    check = Check(text, 0.1, text, "fail", why=text, note=text)
    row = a_variant_report(kind=text, facts=(text,), fidelity=fidelity, checks=(check,))
    pairs = report.pairs.__class__(text, "2" * 64, 4, 2, (text, "b"), (0, 0, 1, 1), None)
    return {"name": text, "reference": reference, "variants": (row,), "pairs": pairs, "left_out": (text,)}


@settings(max_examples=40, deadline=None)
@examples
@given(hostile)
def test_report_as_markdown(text: str) -> None:
    """Whatever comes from outside, a report's page has the tags that a harmless one has."""
    wanted = Tags(PAGE.render(report_markdown(a_report(**outside("x"))))).tags
    page = Tags(PAGE.render(report_markdown(a_report(**outside(text)))))
    assert page.tags == wanted
    assert not LIVE.search(page.text), LIVE.search(page.text)


@settings(max_examples=40, deadline=None)
@examples
@given(hostile)
def test_report_as_junit(text: str) -> None:
    """Well-formed XML of the same elements, whose texts are what was written."""
    found = ET.fromstring(junit(a_report(**outside(text))).encode())
    wanted = ET.fromstring(junit(a_report(**outside("x"))))
    assert [one.tag for one in found.iter()] == [one.tag for one in wanted.iter()]
    assert found.attrib["name"] == one_line(text)


@settings(max_examples=30, deadline=None)
@examples
@given(hostile)
def test_report_as_html(text: str) -> None:
    """A page of the same tags; plots are tried below, since they take a second each."""
    changes = {**outside(text), "variants": ()}
    page, wanted = html(a_report(**changes)), html(a_report(**{**outside("x"), "variants": ()}))
    assert Tags(page).tags == Tags(wanted).tags
    assert page.encode()
    assert all(c.isprintable() or c in "\n\u200c\u200d" for c in page)


@pytest.mark.parametrize(
    "text", ["<b>&]]> $\\frac{1}{0}$ $x \x1b\x00\udc80\ufffe a\nb\u202e 阿司匹林", "_hidden"]
)
def test_report_with_plots(text: str) -> None:
    """A label is text in an SVG, well-formed whatever it holds; no formula is parsed."""
    figures = draw_figures(a_report(**outside(text)))
    assert len(figures) == 7
    for _, svg, _ in figures:
        drawn = ET.fromstring(svg.encode())
        assert not [one for one in drawn.iter() if one.tag.endswith(("script", "foreignObject"))]
    frontier = ET.fromstring(figures[0][1].encode())
    assert words(one_line(text)) in words("".join(frontier.itertext()))


@settings(max_examples=40, deadline=None)
@examples
@given(hostile)
def test_card(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """The front matter is the YAML that was meant, and the page below it has a harmless one's tags."""
    folder = tmp_path_factory.mktemp("card")
    harmless = card(a_manifest(folder), Reports(a_report()), Licence("mit", "x", "x", (), "README.md"))
    changes = {key: value for key, value in outside(text).items() if key != "variants"}
    row = a_variant_report(facts=(text,), checks=(Check(text, 0.1, text, "pass", why=text, note=text),))
    report = a_report(**changes, variants=(row, a_report().variants[1]))
    _, front, page = card(
        a_manifest(folder), Reports(report), Licence("mit", text or "x", "x", (), text)
    ).split("---\n", 2)
    assert yaml.safe_load(front)["license_name"] == one_line(text or "x")
    wanted = Tags(PAGE.render(harmless.split("---\n", 2)[2]))
    found = Tags(PAGE.render(page))
    assert set(found.tags) == set(wanted.tags)
    assert [tag for tag in found.tags if tag in ("a", "img")] == [
        tag for tag in wanted.tags if tag in ("a", "img")
    ]


@pytest.mark.parametrize(
    ("link", "kept"),
    [
        ("https://example.org/licence", True),
        ("LICENSE.md", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("file:///etc/passwd", False),
        ("//evil.example", False),
        ("https://x/`<b>", False),
    ],
)
def test_link_to_a_licence(tmp_path: Path, link: str, *, kept: bool) -> None:
    """A card links to a page or to a file beside it, and to nothing else."""
    front = yaml.safe_dump({"license": "other", "license_name": "x", "license_link": link})
    (tmp_path / "README.md").write_text(f"---\n{front}---\n", encoding="utf-8")
    assert find_licence(tmp_path).link == (link if kept else None)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    """Any script, accents, quotation marks, joiners and emoji are written as they are, and read so."""
    assert one_line(text) == text
    assert terminal(text) == text
    assert words(Tags(PAGE.render(markdown(text))).text) == text
    raw = re.sub(r"&lt;|&gt;|&amp;", "<", markdown(text))
    assert raw == text.replace(">", "<").replace("&", "<")


def test_blanks_of_any_width_are_blanks() -> None:
    """A no-break space, an ideographic one and a tab are no escapes."""
    assert one_line("a\u00a0b\u3000c\td") == "a b c d"


@given(st.characters())
def test_a_line_of_any_character(char: str) -> None:
    """One line, in UTF-8, of characters that XML holds."""
    found = one_line(char)
    found.encode()
    assert "\n" not in found
    assert not {unicodedata.category(c) for c in found} & {"Cc", "Cs", "Zl", "Zp"}
    ET.fromstring(f"<x>{found.replace('&', '&amp;').replace('<', '&lt;')}</x>".encode())


def test_only_one_file_prints() -> None:
    """What is printed is escaped in one place, so nothing else prints; a worker prints to its parent."""
    source = Path(__file__).parent.parent / "exporter"
    prints = re.compile(r"typer\.(echo|secho)\(|(?<![\w.])print\(|sys\.std(out|err)\.write\(")
    found = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        for row in path.read_text(encoding="utf-8").splitlines()
        if prints.search(row) and not row.lstrip().startswith("#")
    }
    # app.py prints the version, diagnose.py a schema, ending.py the help: all of it our own text.
    own = {"cli/app.py", "cli/diagnose.py", "cli/ending.py", "sample/train.py", "worker/__main__.py"}
    assert found <= {"cli/screen.py", "__main__.py", "__init__.py", *own}


def test_findings_of_a_comparison() -> None:
    """The table of `compare --to` is text too."""
    from exporter.report.compare import Comparison, Finding

    found = Comparison("worse", "<b>@x", (Finding("|", "`", 1.0, None, "worse", "http://x"),))
    page = Tags(PAGE.render(findings(found)))
    assert not {"a", "b", "code"} & set(page.tags)
    assert not LIVE.search(page.text)
