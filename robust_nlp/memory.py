"""What is remembered, within bounds."""

from __future__ import annotations

from itertools import islice
from typing import Any


def forget(known: dict[Any, Any], limit: int) -> None:
    """Drop the oldest entries beyond the limit."""
    for key in list(islice(known, max(0, len(known) - limit))):
        del known[key]
