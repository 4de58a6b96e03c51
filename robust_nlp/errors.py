"""What can go wrong for a user, by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobustNLPError(Exception):
    """Any error that robust_nlp raises on purpose."""


class RecipeError(RobustNLPError, ValueError):
    """A recipe, or an override of one, does not say what it has to say."""


class DataError(RobustNLPError, ValueError):
    """A data set lacks a file, a column or a usable value."""


class ModelError(RobustNLPError, ValueError):
    """A base classifier cannot be used: no head, bad scores, too few labels."""


class RunMismatchError(RobustNLPError):
    """A run directory holds results that were made with other settings."""


class MissingExtraError(RobustNLPError, ImportError):
    """An optional package is needed and is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} Install it with: pip install "robust-nlp[{extra}]".')


class RobustNLPWarning(UserWarning):
    """Something is legal but probably not what the user wants."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" when a known name is close to the given one, else ""."""
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
