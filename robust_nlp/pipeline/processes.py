"""Which of how many processes this one is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robust_nlp.recipe import Recipe

#: How long a process that has done its parts waits for the others.
PATIENCE = timedelta(days=1)


def processes(recipe: Recipe) -> Any:
    """Return which of how many processes this one is."""
    from accelerate import PartialState

    return PartialState(cpu=recipe.model.device == "cpu", timeout=PATIENCE)
