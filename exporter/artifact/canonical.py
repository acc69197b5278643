"""Canonical JSON, for what is hashed, signed or compared as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.packages import missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue


def canonical_json(content: Mapping[str, JsonValue]) -> bytes:
    """Return JSON in RFC 8785's canonical form: equal content gives equal bytes.

    Source: https://www.rfc-editor.org/rfc/rfc8785

    Raises:
        BackendMissing: rfc8785 is not installed.
    """
    try:
        import rfc8785
    except ImportError as error:
        raise missing(error, what="canonical JSON") from error
    return rfc8785.dumps(content)
