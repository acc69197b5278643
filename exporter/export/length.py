"""How many tokens of a pair a model reads: as sentence-transformers does by itself, or as a recipe says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from exporter.errors import RecipeError
from exporter.recipe.schema import MAX_LENGTH, MIN_LENGTH

if TYPE_CHECKING:
    from exporter.export.settings import Settings

_IN_SETTINGS = "its sentence-transformers config (max_seq_length)"


def said_length(where: str, settings: Settings, config: Any, tokenizer: Any) -> float:
    """Return how many tokens of a pair CrossEncoder reads without being told.

    That is what its settings name, else the lesser of the tokenizer's limit and of the positions of its
    config. Infinite or very large where nothing limits it.
    Source: https://github.com/huggingface/sentence-transformers/blob/main/sentence_transformers/base/modules/transformer.py

    Args:
        where: how errors name the folder.
        settings: of the folder.
        config: of transformers.
        tokenizer: of transformers.

    Raises:
        RecipeError: the folder names a length that is none.
    """
    said: object = settings.max_length
    place = _IN_SETTINGS
    if said is None:
        place = "its tokenizer_config.json (model_max_length)"
        said = tokenizer.model_max_length
        positions = getattr(config, "max_position_embeddings", None)
        if _is_number(said) and _is_number(positions) and positions != -1:
            said = min(said, positions)
    if not _is_number(said) or not said >= MIN_LENGTH or (said <= MAX_LENGTH and said != int(said)):
        raise RecipeError(
            f"{where}: {place} says {str(said)[:80]!a} tokens a pair; "
            f"wanted a whole number, {MIN_LENGTH} or more"
        )
    return said


def own_length(said: float, settings: Settings, n_positions: int) -> tuple[float, tuple[str, ...]]:
    """Return a model's own length, and a note where it says more: PyTorch fails on tokens without a position.

    Args:
        said: see `said_length`.
        settings: of the folder.
        n_positions: tokens that the weights have positions for; 0 if any number.
    """
    if not n_positions or said <= n_positions:
        return said, ()
    if settings.max_length is None:
        return n_positions, ()
    note = f"{_IN_SETTINGS} says {said:g} tokens a pair, its weights have positions for {n_positions}"
    return n_positions, (note,)


def chosen_length(
    where: str, wanted: int | None, own: float, n_positions: int
) -> tuple[int, tuple[str, ...]]:
    """Return how many tokens of a pair an artifact reads, and a note where that is not the model's own.

    Args:
        where: how errors name the folder.
        wanted: what the recipe says; None is the model's own.
        own: see `own_length`.
        n_positions: tokens that the weights have positions for; 0 if any number.

    Raises:
        RecipeError: the recipe wants more tokens than there are positions, or nobody names a number.
    """
    if wanted is None:
        if own > MAX_LENGTH:
            raise RecipeError(
                f"{where}: names no length of its own; set model.max_length to the tokens of a pair it is to "
                f"read, {MAX_LENGTH} at most"
            )
        return int(own), ()
    if n_positions and wanted > n_positions:
        raise RecipeError(f"model.max_length is {wanted}, {where} has {n_positions} positions")
    if wanted == own:
        return wanted, ()
    theirs = f"the model's own is {own:g}" if own <= MAX_LENGTH else "the model names none of its own"
    differ = min(wanted, own)
    return wanted, (
        f"the recipe sets max_length {wanted}, {theirs}: pairs of more than {differ:g} tokens "
        "score otherwise than in sentence-transformers",
    )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
