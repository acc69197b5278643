"""Which place an address means: a folder, a Hub repository, a tag in an OCI registry, a prefix in a bucket.

Only the text is judged, and what folders are here: no network is asked, and no address may hold a secret.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from exporter.artifact.bare import HUB_ID, means_hub
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
# Names and tags as the registries have them.
# Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
_HOST = r"((localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(:\d+)?|[A-Za-z0-9-]+:\d+)"
_OCI = re.compile(
    rf"(?P<where>{_HOST}(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+)"
    r"(:(?P<tag>\w[\w.-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))",
    re.ASCII,
)
_BUCKET = re.compile(r"(?P<where>[a-z0-9][a-z0-9.-]*(/(?!\.\.?(/|$))[\w.=+-]+)+)/?", re.ASCII)

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
# user:password@, which may have a slash in it; but for what stands at the end of an address.
_CREDENTIALS = re.compile(r"://([^/]*|(?!.*@sha256:)[^@/]*:[^@]*)@")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an artifact lies, or is to lie.

    `where` is the folder, `org/name`, `registry/name` or `bucket/prefix`. `version` is the branch, tag or
    digest; None where the address names none.
    """

    kind: PlaceKind
    where: str
    version: str | None = None

    @property
    def text(self) -> str:
        """Return the whole address."""
        if self.kind == "dir":
            return self.where
        mark = ":" if self.kind == "oci" and not (self.version or "").startswith("sha256:") else "@"
        return f"{self.kind}://{self.where}" + (f"{mark}{self.version}" if self.version else "")


def is_loopback(host: str) -> bool:
    """Return whether a host name means this machine."""
    return _LOOPBACK.fullmatch(host) is not None


def is_remote(text: str) -> bool:
    """Return whether a text is an address with `://`, not a path."""
    return "://" in text


def parse_place(text: str) -> Place:
    """Parse an address to read from into the place it means.

    Args:
        text: a path, `dir:PATH`, `hf://org/name[@branch]`, `oci://registry/name:tag` or `s3://bucket/prefix`;
            or `org/name[@branch]`, which is a folder or on the Hub, see `exporter.artifact.bare`.

    Raises:
        RecipeError: the text has none of these forms, or holds credentials, which the message leaves out.
    """
    if means_hub(text):
        return parse_place(f"hf://{text}")
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else "dir"
    if _CREDENTIALS.search(text):
        raise RecipeError(
            f"{_without_password(text)}: credentials do not belong in an address; "
            "use the environment or log in"
        )
    rest = text.removeprefix(f"{found[0]}") if found else text

    match scheme:
        case "dir" if rest and rest.isprintable():
            return Place("dir", rest)
        case "hf" if match := re.fullmatch(HUB_ID, rest.removeprefix("//")):
            return _with_slashes(text, rest, Place("hf", match["where"], match["version"]))
        case "oci" if match := re.fullmatch(_OCI, rest.removeprefix("//")):
            return _with_slashes(text, rest, Place("oci", match["where"], match["tag"] or match["digest"]))
        case "s3" if match := re.fullmatch(_BUCKET, rest.removeprefix("//")):
            return _with_slashes(text, rest, Place("s3", match["where"]))
        case "dir" | "hf" | "oci" | "s3":
            raise RecipeError(f"{_without_password(text)}: wanted {_FORMS[scheme]}")
        case _:
            pass

    near = difflib.get_close_matches(scheme, _FORMS, n=1, cutoff=0.5)
    meant = f"did you mean {_FORMS[near[0]]}?" if near else f"known are {', '.join(_FORMS.values())}"
    raise RecipeError(f"{_without_password(text)}: no {scheme}: address is known here, {meant}")


def parse_destination(text: str) -> Place:
    """Parse an address to write to into the place it means; where that is not certain, ask.

    Raises:
        RecipeError: see `parse_place`; or the text may mean a folder or a repository of the Hub.
    """
    if means_hub(text):
        raise RecipeError(
            f"{text!r} may be a folder or a repository of the Hub; write ./{text} or hf://{text}"
        )
    return parse_place(text)


def _with_slashes(text: str, rest: str, place: Place) -> Place:
    if not rest.startswith("//"):
        raise RecipeError(f"{_without_password(text)}: did you mean {place.text}?")
    return place


def _without_password(text: str) -> str:
    """Return an address, quoted, without what stands before an @: that may be a password."""
    return repr(re.sub(r":(//)?.*@", r":\1...@", text))
