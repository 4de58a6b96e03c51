"""Attacks as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_nlp.attacks.wording import sentences, tables


def attacked(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables and sentences about attacks.

    Args:
        facts: See `robust_nlp.attacks.wording.attack_facts`.
    """
    return {
        "tables": [
            {"title": title, "head": head, "rows": rows} for title, head, rows in tables(facts)
        ],
        "sentences": sentences(facts),
        "methods": facts["methods"],
    }
