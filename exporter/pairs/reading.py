"""What is found out about a pair file while it is read: said in messages, and shown to people at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

# The number of a line or row, from 1, and its values by column: `query`, `passage`, `label`, ...
Row: TypeAlias = tuple[int, dict[str, object]]

# Characters of a pair; far more than any model reads.
MAX_LINE = 1 << 24
# Characters of a whole file: a million pairs of a thousand. A .gz or .parquet file can say it holds more.
MAX_FILE = 1 << 30

_SHOWN = 40
_MAX_NAMED = 5


@dataclass(slots=True)
class Reading:
    """How one file is read: `notes` as they were found, `ignored` columns in order of appearance.

    `limit` is of the file's characters, or None. `address` names a file that is not on this machine, and
    `open` opens it.
    """

    path: Path
    unit: Literal["line", "row"]
    notes: list[str] = field(default_factory=list)
    ignored: dict[str, None] = field(default_factory=dict)
    limit: int | None = MAX_FILE
    address: str = ""
    open: Callable[[], BinaryIO] | None = None

    @property
    def name(self) -> str:
        """Return the file's path or address."""
        return self.address or str(self.path)

    def place(self, number: int) -> str:
        """Return where a row stands, as messages begin."""
        return f"{self.name}:{number}" if self.unit == "line" else f"{self.name}: row {number}"

    def text(self) -> str:
        """Return the notes as one line."""
        names = [shown(name) if name.strip() else "one without a name" for name in self.ignored]
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        ignored = [f"ignored: {', '.join(names[:_MAX_NAMED])}{more}"] if names else []
        return "; ".join([*self.notes, *ignored])


def shown(value: object) -> str:
    """Return a value of a file as messages quote it: escaped, and cut where it is long."""
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}..."
