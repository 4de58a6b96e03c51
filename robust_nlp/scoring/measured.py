"""Rows of answers as arrays, and what they say at one rate and along a curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import trapezoid

from robust_nlp.mechanisms.base import FloatArray, IntArray
from robust_nlp.scoring.estimates import BoolArray, difference, exchange_test, mean

#: What rows call a text that is not perturbed.
CLEAN = "clean"

#: Stands for a class where there is no answer.
ABSTAINS = -1


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Answers to all texts under one perturbation at one rate.

    Attributes:
        right: Whether the answer is right; shape `(texts, draws)`. An abstention is not.
        predicted: Class index of the answer, -1 for an abstention; same shape.
        edits: Word edits from the text to its version; same shape.
        empty: Whether nothing is left of the text; same shape.
    """

    right: BoolArray
    predicted: IntArray
    edits: IntArray
    empty: BoolArray

    @property
    def answered(self) -> BoolArray:
        """Whether there is an answer; shape `(texts, draws)`."""
        return np.asarray(self.predicted != ABSTAINS)

    @property
    def draws(self) -> int:
        """Versions of a text."""
        return int(self.right.shape[1])

    @property
    def shares(self) -> FloatArray:
        """Share of the versions of each text that are answered right; shape `(texts,)`."""
        return np.asarray(self.right.mean(axis=1))

    def renumbered(self, place: IntArray) -> Cell:
        """Return the same with classes in another order.

        Args:
            place: New index of each class; shape `(classes,)`.
        """
        predicted = np.where(self.answered, place[self.predicted], ABSTAINS)
        return dataclasses.replace(self, predicted=predicted)

    def of(self, texts: BoolArray) -> Cell:
        """Return the same for some of the texts."""
        return Cell(
            right=self.right[texts],
            predicted=self.predicted[texts],
            edits=self.edits[texts],
            empty=self.empty[texts],
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All answers of one classifier.

    Attributes:
        classifier: Its name.
        examples: Number and key of each text, in order.
        labels: Class index of each text; shape `(texts,)`.
        n_words: Words of each text; shape `(texts,)`.
        clean: Answers to the texts as they are.
        curves: Answers by perturbation and rate, rates rising.
    """

    classifier: str
    examples: tuple[tuple[int, str], ...]
    labels: IntArray
    n_words: IntArray
    clean: Cell
    curves: Mapping[str, Mapping[float, Cell]]

    @classmethod
    def from_rows(cls, classifier: str, rows: Iterable[Mapping[str, Any]]) -> Measured:
        """Arrange the rows of one classifier; see `robust_nlp.scoring.rows.score_rows`.

        Raises:
            ValueError: If texts do not all have the same versions.
        """
        by: dict[tuple[str, float], dict[int, dict[int, Mapping[str, Any]]]] = {}
        for row in rows:
            cell = by.setdefault((row["perturbation"], row["rate"]), {})
            cell.setdefault(row["example_id"], {})[row["draw"]] = row
        ids = sorted(by.get((CLEAN, 0.0), {}))
        for (name, rate), found in by.items():
            draws = {tuple(sorted(each)) for each in found.values()}
            if sorted(found) != ids or len(draws) != 1:
                raise ValueError(
                    f"rows of {classifier} under {name} at rate {rate:g} are not those of all "
                    f"{len(ids)} texts, each with the same draws"
                )
        first = [by[CLEAN, 0.0][i][0] for i in ids]
        curves: dict[str, dict[float, Cell]] = {}
        for (name, rate), found in sorted(by.items(), key=lambda item: item[0][1]):
            if name != CLEAN:
                curves.setdefault(name, {})[rate] = _cell(found, ids)
        return cls(
            classifier=classifier,
            examples=tuple((i, row["text_hash"]) for i, row in zip(ids, first, strict=True)),
            labels=np.array([row["label"] for row in first]),
            n_words=np.array([row["n_words"] for row in first]),
            clean=_cell(by[CLEAN, 0.0], ids),
            # in the order of the rows
            curves={name: curves[name] for name, _ in by if name != CLEAN},
        )


def point(clean: Cell, cell: Cell) -> dict[str, Any]:
    """Say what a perturbation at one rate does to accuracy.

    `score` is clean accuracy less accuracy; an abstention counts as wrong in both. `p_value` is
    that of `exchange_test`. `attack_success` is the share of right answers that are lost, `None`
    without any. `answered_only` leaves abstentions out: a version without an answer, a text whose
    clean version has none, and a text none of whose versions has one; `None` if nothing is left.
    """
    c, p, draws = clean.shares, cell.shares, cell.draws
    right = float(c.sum())
    return {
        "accuracy": dataclasses.asdict(mean(p, answers=draws)),
        "score": dataclasses.asdict(difference(c, p, answers=draws)),
        "p_value": exchange_test(clean.right[:, 0], cell.right),
        "attack_success": float((c * (1.0 - p)).sum()) / right if right else None,
        "abstained": float(1.0 - cell.answered.mean()),
        "empty": float(cell.empty.mean()),
        "edits": float(cell.edits.mean()),
        "answered_only": _answered_only(clean, cell),
    }


def clean_point(clean: Cell) -> dict[str, Any]:
    """Say how accurate a classifier is on texts as they are, abstentions wrong and left out."""
    answered = clean.answered[:, 0]
    alone = clean.shares[answered]
    return {
        "accuracy": dataclasses.asdict(mean(clean.shares)),
        "abstained": float(1.0 - answered.mean()),
        "answered_only": dataclasses.asdict(mean(alone)) if len(alone) else None,
    }


def area(clean: Cell, curve: Mapping[float, Cell]) -> FloatArray:
    """Return the mean share of right answers of each text over rates from 0 to the largest.

    By the trapezoidal rule, over the largest rate: 1 for a text that is always answered right.
    """
    rates = np.array([0.0, *curve])
    values = np.array([clean.shares, *(cell.shares for cell in curve.values())])
    return np.asarray(trapezoid(values, rates, axis=0) / rates[-1])


def curve_answers(curve: Mapping[float, Cell]) -> int:
    """Count the answers that the area of a text averages."""
    return 1 + sum(cell.draws for cell in curve.values())


def _answered_only(clean: Cell, cell: Cell) -> dict[str, Any] | None:
    both = clean.answered[:, 0] & cell.answered.any(axis=1)
    if not both.any():
        return None
    c = clean.shares[both]
    p = cell.right[both].sum(axis=1) / cell.answered[both].sum(axis=1)
    return {
        "texts": int(both.sum()),
        "accuracy": dataclasses.asdict(mean(p, answers=cell.draws)),
        "score": dataclasses.asdict(difference(c, p, answers=cell.draws)),
    }


def _cell(found: Mapping[int, Mapping[int, Mapping[str, Any]]], ids: list[int]) -> Cell:
    rows = [[found[i][draw] for draw in sorted(found[i])] for i in ids]
    return Cell(
        right=np.array([[row["right"] for row in each] for each in rows], bool),
        predicted=np.array([[_class(row["predicted"]) for row in each] for each in rows], np.int64),
        edits=np.array([[row["edits"] for row in each] for each in rows], np.int64),
        empty=np.array([[not row["text"].split() for row in each] for each in rows], bool),
    )


def _class(predicted: int | None) -> int:
    return ABSTAINS if predicted is None else predicted
