"""What a card says of a run without certificates: scores, and what attacks left."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from robust_nlp.attacks.wording import attack_facts
from robust_nlp.errors import DataError
from robust_nlp.results import RunDirectory
from robust_nlp.scoring.run import load_scores


def uncertified_facts(run: str | Path) -> dict[str, Any]:
    """Return the robustness scores and attacks of a run, as a report with certificates has them.

    They are those of the plain classifier where it was measured, else of the smoothed one.

    Args:
        run: The run directory.

    Raises:
        DataError: If neither was measured.
    """
    directory = RunDirectory(run)
    recipe, manifest = directory.recipe(), directory.manifest()
    found = load_scores(run)
    scores, attacks = None if found is None else found.to_dict(), attack_facts(run)
    known = {
        *(scores["classifiers"] if scores else ()),
        *(attacks["classifiers"] if attacks else ()),
    }
    if not known:
        raise DataError(
            f"{run} holds nothing that a card could say: neither certificates, nor scores, nor "
            "attacks; certify, score or attack its recipe first"
        )
    split = recipe.certify.split
    if recipe.score is not None and recipe.score.split is not None:
        split = recipe.score.split
    return {
        "name": recipe.name,
        "of": "plain" if "plain" in known else "smoothed",
        "labelled": True,
        "attackers": [],
        "scores": scores,
        "attacks": attacks,
        "methods": {
            "data": {**dataclasses.asdict(recipe.data), "split": split},
            "seed": recipe.seed,
            "versions": manifest.get("versions", {}),
        },
    }
