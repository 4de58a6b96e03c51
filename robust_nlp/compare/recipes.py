"""The recipe of a comparison as a report shows it: methods, and what they change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_nlp.settings import to_yaml

#: Sections that methods change, and sections that say what is measured.
SECTIONS = ("model", "data", "mechanism", "denoiser", "train", "certify", "score", "attack")


def made_with(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the methods and the settings they have in common as YAML, and the host.

    Args:
        facts: Facts of the comparison.
    """
    recipe = facts["recipe"]
    shared = {name: recipe[name] for name in SECTIONS}
    compared = {**recipe["compare"], "methods": None}
    hosts = [method["cost"]["host"] for method in facts["methods"] if method["cost"]["host"]]
    return {
        "methods": to_yaml(recipe["compare"]["methods"]),
        "shared": to_yaml({**shared, "compare": compared}),
        "host": hosts[0] if hosts else {},
    }
