"""Everything that can go wrong on purpose, and the exit code it ends with.

* ExporterError
  x GateRefused      1   measured, and not good enough to publish
  x RecipeError      2   the recipe, or what was typed, cannot be carried out as written
  x BackendError     3   torch, onnxruntime, openvino, the hub or the disk failed
    + BackendMissing     the package that would do it is not installed
  x IntegrityError   4   the files on disk are not the files the manifest names
  x NoVerdict        5   the measurement cannot be trusted; measure again

1 and 5 are apart for a reason: CI may retry a 5; retrying a 1 until it passes is fishing.
"""

from __future__ import annotations

from typing import ClassVar


class ExporterError(Exception):
    """Base of every error this package raises on purpose. Its text is one line or a list of findings."""

    exit_code: ClassVar[int] = 3


class GateRefused(ExporterError):
    """Measured, and not good enough to publish."""

    exit_code = 1


class RecipeError(ExporterError):
    """The recipe, or what was typed, cannot be carried out as written."""

    exit_code = 2


class BackendError(ExporterError):
    """A library, the hub or the disk failed."""

    exit_code = 3


class BackendMissing(BackendError):
    """The package that would do it is not installed."""


class IntegrityError(ExporterError):
    """The files on disk are not the files the manifest names."""

    exit_code = 4


class NoVerdict(ExporterError):
    """The measurement cannot be trusted; measure again."""

    exit_code = 5
