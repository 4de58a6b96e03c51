"""The training set of a recipe: its texts, rewritten copies, attacks, environments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset
from transformers import TrainerCallback

from robust_nlp.augmentation.adversarial import AdversarialRows
from robust_nlp.augmentation.copies import augment_rows
from robust_nlp.augmentation.refresh import RefreshRows
from robust_nlp.augmentation.rows import AugmentedRows, DrawnRows, EnvironmentRows, next_id
from robust_nlp.augmentation.settings import Copies
from robust_nlp.data import Split
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.recipe import Recipe


def examples(split: Split) -> list[dict[str, Any]]:
    """Return the rows of a split as `NoisyCollator` takes them, with their domains if any."""
    rows = []
    for i, (text, label) in enumerate(zip(split.texts, split.labels or [], strict=True)):
        first, second = (text, None) if isinstance(text, str) else text
        row = {"text": first, "pair": second, "label": label, "example_id": i}
        if split.domains is not None:
            row["domain"] = split.domains[i]
        rows.append(row)
    return rows


def training_rows(
    recipe: Recipe, split: Split, classifier: HuggingFaceClassifier, folder: Path
) -> tuple[Any, list[TrainerCallback]]:
    """Return the training set that a recipe asks for, and the callbacks that renew it.

    Args:
        recipe: The experiment.
        split: The texts.
        classifier: The classifier in training.
        folder: Where dear things are kept: copies that are made once, attacks, importance.
    """
    options, protected = recipe.train, recipe.data.protected
    rows = examples(split)
    parts: list[Any] = [rows]
    settings: dict[str, Any] = {"seed": recipe.seed, "protected": protected}
    if options.environments is not None:
        parts = [EnvironmentRows(rows, options.environments, **settings)]
    elif options.augmentation is not None:
        parts = _augmented(recipe, rows, folder / "copies", settings)
    if options.attacks is not None:
        (before,) = parts
        first_id = before.next_id if isinstance(before, DrawnRows) else next_id(before)
        attacks = AdversarialRows(
            rows, options.attacks, folder=folder / "attacks", first_id=first_id, **settings
        )
        parts.append(attacks)
    changing: Sequence[Any] = [
        part for part in parts if isinstance(part, (DrawnRows, AdversarialRows))
    ]
    callbacks: list[TrainerCallback] = []
    if changing:
        callbacks.append(RefreshRows(changing, classifier, folder=folder / "importance"))
    return parts[0] if len(parts) == 1 else ConcatDataset(parts), callbacks


def _augmented(
    recipe: Recipe, rows: list[dict[str, Any]], folder: Path, settings: dict[str, Any]
) -> list[Any]:
    wanted = recipe.train.augmentation
    assert wanted is not None
    if wanted.once:
        (augmenter,) = wanted.augmenters
        made = augment_rows(rows, augmenter, copies=wanted.copies, folder=folder, **settings)
        return [rows + made]
    copies = Copies(augmenters=wanted.augmenters, copies=wanted.copies, every=wanted.every)
    return [AugmentedRows(rows, copies, **settings)]
