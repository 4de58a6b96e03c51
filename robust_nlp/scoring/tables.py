"""Robustness scores: what rows of answers say, without any classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from robust_nlp.errors import DataError
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.scoring.estimates import (
    BoolArray,
    difference,
    difference_of_differences,
    mean,
    sign_flip_test,
)
from robust_nlp.scoring.measured import (
    CLEAN,
    Cell,
    Measured,
    area,
    clean_point,
    curve_answers,
    point,
)

__all__ = ["CLEAN", "RobustnessScores", "compare"]

#: Version of the layout of the facts.
SCHEMA = 1

#: Classes of length.
QUARTERS = 4


@dataclass(frozen=True, kw_only=True)
class RobustnessScores:
    """What classifiers answer to the same texts, clean and perturbed.

    Attributes:
        measured: The answers of each classifier, one at least.
        labels: Names of the classes, where they are known.
    """

    measured: tuple[Measured, ...]
    labels: tuple[str, ...] = ()

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, Any]], labels: Sequence[str] = ()
    ) -> RobustnessScores:
        """Arrange rows; see `robust_nlp.scoring.rows.score_rows`.

        Raises:
            DataError: If there are none, or classifiers did not answer for the same texts.
        """
        by: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            by.setdefault(row["classifier"], []).append(row)
        if not by:
            raise DataError("there are no rows to score; run `robust-nlp score` first")
        measured = tuple(Measured.from_rows(name, each) for name, each in by.items())
        for other in measured[1:]:
            _check_paired(measured[0], other)
        return cls(measured=measured, labels=tuple(labels))

    def to_dict(self) -> dict[str, Any]:
        """Return accuracies, scores, areas, groups and comparisons as plain values."""
        first = self.measured[0]
        return {
            "schema": SCHEMA,
            "texts": len(first.examples),
            "classifiers": [each.classifier for each in self.measured],
            "perturbations": list(first.curves),
            "labels": list(self.labels),
            "clean": {each.classifier: clean_point(each.clean) for each in self.measured},
            "scores": [
                self._curve(each, name, curve)
                for each in self.measured
                for name, curve in each.curves.items()
            ],
            "comparisons": [
                row for pair in combinations(self.measured, 2) for row in compare(*pair)
            ],
        }

    def _curve(self, measured: Measured, name: str, curve: Mapping[float, Cell]) -> dict[str, Any]:
        areas, answers = area(measured.clean, curve), curve_answers(curve)
        return {
            "classifier": measured.classifier,
            "perturbation": name,
            "draws": next(iter(curve.values())).draws,
            "largest_rate": max(curve),
            "area": dataclasses.asdict(mean(areas, answers=answers)),
            "mean_score": dataclasses.asdict(
                difference(measured.clean.shares, areas, answers=answers)
            ),
            "points": [
                {"rate": rate, **point(measured.clean, cell)} for rate, cell in curve.items()
            ],
            "lengths": [
                {"shortest": low, "longest": high, **_group(measured, curve, members)}
                for low, high, members in _quarters(measured)
            ],
            "classes": [
                {"class": self._class(label), **_group(measured, curve, measured.labels == label)}
                for label in np.unique(measured.labels).tolist()
            ],
        }

    def _class(self, label: int) -> str:
        return self.labels[label] if 0 <= label < len(self.labels) else str(label)


def compare(first: Measured, second: Measured) -> list[dict[str, Any]]:
    """Compare two classifiers on the same texts, perturbation by perturbation and rate by rate.

    `accuracy` is that of the first less that of the second, `score` the same of the robustness
    scores; each with its interval and the exact p-value of no difference. The p-values are not
    corrected for how many they are. `area` compares whole curves, without a rate.

    Args:
        first: Answers of one classifier.
        second: Answers of the other; the texts must be the same.

    Raises:
        DataError: If the texts differ.
    """
    _check_paired(first, second)
    rows: list[dict[str, Any]] = []

    def row(perturbation: str, rate: float | None, **values: Any) -> None:
        names = {"first": first.classifier, "second": second.classifier}
        rows.append({**names, "perturbation": perturbation, "rate": rate, **values})

    a, b = first.clean, second.clean
    row(CLEAN, 0.0, **_accuracies(a, b))
    for name in first.curves:
        curves = first.curves[name], second.curves.get(name, {})
        for rate in curves[0]:
            if rate not in curves[1] or curves[0][rate].draws != curves[1][rate].draws:
                continue
            x, y = curves[0][rate], curves[1][rate]
            lost = [
                cell.draws * clean.right[:, 0].astype(np.int64) - cell.right.sum(axis=1)
                for clean, cell in ((a, x), (b, y))
            ]
            scores = difference_of_differences(
                (a.shares, x.shares), (b.shares, y.shares), answers=x.draws
            )
            row(
                name,
                rate,
                **_accuracies(x, y),
                score=dataclasses.asdict(scores),
                score_p_value=sign_flip_test(lost[0] - lost[1]),
            )
        if list(curves[0]) == list(curves[1]):
            areas: list[FloatArray] = [area(a, curves[0]), area(b, curves[1])]
            found = difference(*areas, answers=curve_answers(curves[0]))
            row(name, None, area=dataclasses.asdict(found))
    return rows


def _accuracies(x: Cell, y: Cell) -> dict[str, Any]:
    return {
        "accuracy": dataclasses.asdict(difference(x.shares, y.shares, answers=x.draws)),
        "accuracy_p_value": sign_flip_test(x.right.sum(axis=1) - y.right.sum(axis=1)),
    }


def _check_paired(first: Measured, second: Measured) -> None:
    same = first.examples == second.examples and (first.labels == second.labels).all()
    if not same:
        raise DataError(
            f"{first.classifier} and {second.classifier} did not answer for the same texts with "
            "the same labels, so that nothing can be paired; score both on the same split and limit"
        )


def _group(measured: Measured, curve: Mapping[float, Cell], members: BoolArray) -> dict[str, Any]:
    clean = measured.clean.of(members)
    return {
        "texts": int(members.sum()),
        "clean_accuracy": dataclasses.asdict(mean(clean.shares)),
        "points": [
            {
                "rate": rate,
                "accuracy": dataclasses.asdict(mean(shares, answers=cell.draws)),
                "score": dataclasses.asdict(difference(clean.shares, shares, answers=cell.draws)),
            }
            for rate, cell in curve.items()
            for shares in [cell.of(members).shares]
        ],
    }


def _quarters(measured: Measured) -> list[tuple[int, int, BoolArray]]:
    """Cut the texts into classes of length with about as many texts each."""
    lengths = measured.n_words
    shares = np.arange(1, QUARTERS) / QUARTERS
    edges = np.unique(np.quantile(lengths, shares, method="inverted_cdf"))
    member = np.searchsorted(edges, lengths)
    groups = [member == index for index in np.unique(member)]
    return [(int(lengths[g].min()), int(lengths[g].max()), g) for g in groups]
