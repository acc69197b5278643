"""Which place an address means: a folder, a repository on the Hub, a tag in an OCI registry, a prefix in a bucket.

Only the text is judged; nothing is asked over the network, and nothing secret may stand in an address.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from exporter.errors import RecipeError

PlaceKind = Literal["dir", "hf", "oci", "s3"]

# What each address looks like, for people; the patterns below are what they are held against.
_FORMS = {
    "dir": "dir:PATH",
    "hf": "hf://org/name[@branch]",
    "oci": "oci://registry/name:tag",
    "s3": "s3://bucket/prefix",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HUB = re.compile(r"(?P<where>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<version>[^@\s:?*\[\\^~]+))?", re.ASCII)
# Names and tags as the registries have them.
# Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
_OCI = re.compile(
    r"(?P<where>((localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(:\d+)?|[A-Za-z0-9-]+:\d+)(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+)"
    r"(:(?P<tag>\w[\w.-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))",
    re.ASCII,
)
_BUCKET = re.compile(r"(?P<where>[a-z0-9][a-z0-9.-]*(/(?!\.\.?(/|$))[\w.=+-]+)+)/?", re.ASCII)

# user:password@, which may have a slash in it; but for what stands at the end of an address.
_CREDENTIALS = re.compile(r"://([^/]*|(?!.*@sha256:)[^@/]*:[^@]*)@")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an artifact lies, or is to lie.

    `where` is the folder, `org/name`, `registry/name` or `bucket/prefix`; `version` the branch, tag or digest, None where there
    is no such thing; `protocol` what stands before `://`.
    """

    kind: PlaceKind
    where: str
    version: str | None = None
    protocol: str = ""

    @property
    def text(self) -> str:
        """The whole address."""
        if self.kind == "dir":
            return self.where
        mark = ":" if self.kind == "oci" and not (self.version or "").startswith("sha256:") else "@"
        return f"{self.protocol}://{self.where}" + (f"{mark}{self.version}" if self.version else "")

    @property
    def url(self) -> str:
        """The bucket's prefix, for fsspec."""
        return f"{self.protocol}://{self.where}"


def is_remote(text: str) -> bool:
    """Tell an address with `://` from a path."""
    return "://" in text


def parse_place(text: str) -> Place:
    """Find out what an address means.

    Args:
        text: a path, `dir:PATH`, `hf://org/name[@branch]`, `oci://registry/name:tag` or `s3://bucket/prefix`.

    Raises:
        RecipeError: it is none of these, or has credentials in it, which are not repeated.
    """
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else "dir"
    if _CREDENTIALS.search(text):
        raise RecipeError(
            f"{_shown(text)}: credentials do not belong in an address; use the environment or log in"
        )
    rest = text.removeprefix(f"{found[0]}") if found else text
    match scheme:
        case "dir" if rest and rest.isprintable():
            return Place("dir", rest)
        case "hf" if match := re.fullmatch(_HUB, rest.removeprefix("//")):
            return _with_slashes(text, rest, Place("hf", match["where"], match["version"], "hf"))
        case "oci" if match := re.fullmatch(_OCI, rest.removeprefix("//")):
            return _with_slashes(
                text, rest, Place("oci", match["where"], match["tag"] or match["digest"], "oci")
            )
        case "s3" | "memory" if match := re.fullmatch(_BUCKET, rest.removeprefix("//")):
            return _with_slashes(text, rest, Place("s3", match["where"], None, scheme))
        case "dir" | "hf" | "oci" | "s3":
            raise RecipeError(f"{_shown(text)}: wanted {_FORMS[scheme]}")
        case _:
            pass
    near = difflib.get_close_matches(scheme, _FORMS, n=1, cutoff=0.5)
    meant = f"did you mean {_FORMS[near[0]]}?" if near else f"known are {', '.join(_FORMS.values())}"
    raise RecipeError(f"{_shown(text)}: no {scheme}: address is known here, {meant}")


def _with_slashes(text: str, rest: str, place: Place) -> Place:
    if not rest.startswith("//"):
        raise RecipeError(f"{_shown(text)}: did you mean {place.text}?")
    return place


def _shown(text: str) -> str:
    """Give an address without what stands before an @: that may be a password."""
    return repr(re.sub(r":(//)?.*@", r":\1...@", text))
