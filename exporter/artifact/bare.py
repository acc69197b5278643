"""What `org/name` means where nothing says whether it is a folder or a repository of the Hub: one rule.

It is a folder where it, or the folder `org`, is here; else it is a repository of the Hub. Whoever writes to
such a name has to say which: `./org/name` or `hf://org/name`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

HUB_ID = re.compile(r"(?P<where>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<version>[^@\s:?*\[\\^~]+))?", re.ASCII)


def means_hub(text: str, here: Path | None = None) -> bool:
    """Return whether a text without a scheme means a repository of the Hub, see above.

    Args:
        text: as a user wrote it.
        here: the folder that a relative path is taken from, by default the working directory.
    """
    if not HUB_ID.fullmatch(text):
        return False
    path = (here or Path()) / text
    # Not Path's own methods, which raise on a name that is too long.
    return not os.path.exists(path) and not os.path.isdir(path.parent)  # noqa: PTH110, PTH112
