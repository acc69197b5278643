r"""Escape text from outside where it is written: one function a format, and nobody else escapes.

Names, paths, texts of pairs, notes and what libraries raise come from strangers. In whatever we write they
are text and nothing else: no markup, no link, no mention, no command to a terminal or to a CI system. What
people write in (any script, accents, quotation marks) stays as it is.

A line is text without line breaks and without characters that cannot be seen: control characters, those that
turn the direction of text, lone surrogates. They are shown as Python writes them, for example `\x1b`.
"""

from __future__ import annotations

import json
import re
import unicodedata

# They join letters in Persian, in scripts of India and in emoji, and change nothing around them.
_JOINERS = "\u200c\u200d"
_BREAKS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029")
# What CI systems take for a command in the log of a job: at the start of a line, blanks passed over, or
# anywhere in it.
# Source: https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
# Source: https://learn.microsoft.com/en-us/azure/devops/pipelines/scripts/logging-commands
# Source: https://www.jetbrains.com/help/teamcity/service-messages.html
_AT_START = re.compile(r"^([^\S\n]*):(?=:)", re.MULTILINE)
_ANYWHERE = re.compile(r"#(?=#(?:\[|vso\[|teamcity\[))", re.IGNORECASE)
# Shown as nothing, and enough for a mention or a link not to be one: those are looked for in the text of a
# page, after its entities and backslashes were read.
# Source: https://github.com/renovatebot/renovate/blob/main/lib/util/markdown.ts (sanitizeMarkdown)
_NOTHING = "&#8203;"
_MARKDOWN = re.compile(
    r"""
    (?P<slash> [\\`*\[\]~$|] | (?<![^\W_])_ | _(?![^\W_]) )
    | (?P<entity> [<>&] )
    # A mention, an address, a commit of another repository; `nDCG@10` is none of these.
    | (?P<after> @ (?! (?<=\w@) \d{1,3} (?![\w-]|\.\w) ) | \# | \bGH(?=-\d) )
    | (?P<link> :(?=//) | \bwww(?=\.) | (?:mailto|xmpp)(?=:) )
    # At the start: an item of a list, a rule, the line under a title.
    | (?P<start> \A(?: [-+=](?=[\s=-]|\Z) | \d+(?=[.)](?:\s|\Z)) ) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def one_line(text: str) -> str:
    """Return text as one line: blanks for line breaks, escapes for what cannot be seen.

    XML and SVG hold no control characters, not even escaped, and UTF-8 no lone surrogates: this leaves none.
    What else has a meaning in XML, HTML or SVG is escaped by the library that writes it.
    """
    return text if text.isprintable() else "".join(map(_seen, text.replace("\r\n", "\n")))


def terminal(text: str) -> str:
    """Return text for a terminal or a log: as `one_line`, but with its line breaks.

    Nothing in it is a command, neither to the terminal nor to the CI system that keeps the log.
    """
    return no_command("\n".join(map(one_line, text.replace("\r\n", "\n").split("\n"))))


def no_command(text: str) -> str:
    """Return a log's text with a blank within what a CI system would take for a command."""
    return _ANYWHERE.sub("# ", _AT_START.sub(r"\1: ", text))


def terminal_json(text: str) -> str:
    """Return JSON for a terminal or a log: the same values, with JSON's escapes instead of Python's."""
    seen = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    return _ANYWHERE.sub(r"\\u0023", seen)


def markdown(text: str) -> str:
    """Return text for a line of Markdown, or a cell of a table: no markup, HTML, link, mention or reference.

    Source: https://github.github.com/gfm/
    """
    return _MARKDOWN.sub(_plain, one_line(text).strip(" "))


def code(text: str) -> str:
    """Return text as a string of Python, JavaScript and JSON alike, for a block of code in Markdown or HTML.

    ASCII, and without the characters that would end the block.
    """
    quoted = json.dumps(text)
    for char in "`<>&":
        quoted = quoted.replace(char, f"\\u{ord(char):04x}")
    return quoted


def _seen(char: str) -> str:
    if char.isprintable() or char in _JOINERS:
        return char
    if char in _BREAKS or unicodedata.category(char) == "Zs":
        return " "
    return ascii(char)[1:-1]


def _plain(found: re.Match[str]) -> str:
    text = found[0]
    if found["slash"]:
        return f"\\{text}"
    if found["entity"]:
        return _ENTITIES[text]
    if found["start"]:
        return f"{text}{_NOTHING}" if text.isdecimal() else f"\\{text}"
    return f"{text}{_NOTHING}"
