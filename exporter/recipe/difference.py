"""Where two recipes of one artifact differ: in what is built, in how it is measured, or in how it is judged.

Only the first asks for a new build. New bars ask for a new measurement only where none was made.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.recipe.schema import Recipe

_MISSING = object()


class Differences(NamedTuple):
    """Keys that differ: `built` of model, pairs and variants; `measured` of `reference`.

    `judged` are bars, and what spoils no measurement that was made: how long it may take, and what is
    demanded of a publication.
    """

    built: tuple[str, ...]
    measured: tuple[str, ...]
    judged: tuple[str, ...]


def differences(recorded: Recipe, current: Recipe) -> Differences:
    """Return the keys by which a recipe differs from the one that an artifact was built from.

    Files and folders are compared by name: an artifact may be judged in another checkout, and what they hold
    has digests of its own in the manifest.
    """
    old, new = dict(_leaves(recorded)), dict(_leaves(current))
    keys = [key for key in {**old, **new} if not _alike(old.get(key, _MISSING), new.get(key, _MISSING))]
    judged = tuple(key for key in keys if ".bars." in key or key.startswith(("measure.", "publish.")))
    measured = tuple(key for key in keys if key.startswith("reference."))
    built = tuple(key for key in keys if key not in {*judged, *measured})
    return Differences(built, measured, judged)


def _leaves(recipe: Recipe) -> Iterator[tuple[str, object]]:
    """Yield every value of a recipe with its key; a variant is called by its kind, wherever it stands."""
    content = recipe.model_dump(mode="json")
    content["variants"] = {variant["kind"]: variant for variant in content["variants"]}
    yield from _flat(content, "")


def _flat(value: object, key: str) -> Iterator[tuple[str, object]]:
    if not isinstance(value, dict):
        yield key, value
        return
    for name, part in value.items():
        yield from _flat(part, f"{key}.{name}" if key else name)


def _alike(one: object, other: object) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        paths = PurePath(one), PurePath(other)
        if all(path.is_absolute() for path in paths):
            return paths[0].name == paths[1].name
    return one == other
