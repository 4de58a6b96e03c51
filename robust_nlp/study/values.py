"""What answers to test texts say: a value for each text and measure, and their means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Radii of the certified accuracies, where a recipe names none.
RADII = (0, 1, 2, 3)

#: A row of `ANSWERS`, as plain values.
Answer = Mapping[str, Any]


def certified_name(radius: int) -> str:
    """Name the certified accuracy at a radius."""
    return f"certified_accuracy_{radius}"


def text_values(answer: Answer, radii: Sequence[int] = RADII) -> dict[str, float]:
    """Return what one text of the held-out domain contributes to each measure it counts in.

    Args:
        answer: What the classifier made of it; see `robust_nlp.study.measured.ANSWERS`.
        radii: Radii of the certified accuracies.

    Returns:
        `accuracy`, 1 if the answer is right; `deleted_accuracy`, the share of right answers to its
        versions with missing words; `robustness_score`, the difference of the two;
        `certified_accuracy_<radius>`, 1 if the smoothed answer is right and certified that far;
        `attacked_accuracy`, 1 if the answer is right and the attack found nothing against it.
    """
    label = answer["label"]
    right = float(answer["answer"] == label)
    values = {"accuracy": right}
    if answer["deleted_answers"]:
        kept = float(np.mean([each == label for each in answer["deleted_answers"]]))
        values |= {"deleted_accuracy": kept, "robustness_score": right - kept}
    if answer["certified"]:
        radius = answer["radius"] if answer["smoothed_answer"] == label else None
        for wanted in radii:
            reached = radius is not None and radius >= wanted
            values[certified_name(wanted)] = float(reached)
    if answer["attack"] is not None:
        values["attacked_accuracy"] = right * (answer["attack"] != "success")
    return values


def run_measures(answers: Sequence[Answer], radii: Sequence[int] = RADII) -> dict[str, float]:
    """Return the measures of a run.

    Args:
        answers: What the classifier made of each test text.
        radii: Radii of the certified accuracies.

    Returns:
        The means of `text_values` over the texts of the held-out domain that count in them;
        `seen_accuracy`, the mean over the accuracies in the domains that training saw, and
        `worst_seen_accuracy`, the lowest of them.
    """
    columns: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        if answer["held_out"]:
            for name, value in text_values(answer, radii).items():
                columns[name].append(value)
    measures = {name: float(np.mean(values)) for name, values in columns.items()}
    seen = list(seen_accuracies(answers).values())
    if seen:
        measures |= {
            "seen_accuracy": float(np.mean(seen)),
            "worst_seen_accuracy": min(seen),
        }
    return measures


def seen_accuracies(answers: Sequence[Answer]) -> dict[str, float]:
    """Return the accuracy in each domain that training saw, in alphabetical order."""
    right: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        if not answer["held_out"]:
            right[answer["domain"]].append(answer["answer"] == answer["label"])
    return {name: float(np.mean(right[name])) for name in sorted(right)}
