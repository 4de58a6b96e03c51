"""Breakdowns of a run: by outcome, length and class, and the texts at both ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from robust_nlp.reporting.accuracy import interval
from robust_nlp.reporting.same_answer import SameAnswer
from robust_nlp.reporting.texts import CertifiedText

#: Length classes, texts at each end of the list, and characters quoted.
LENGTH_BINS = 5
EXTREMES = 5
QUOTED = 300


def class_name(labels: Sequence[str], label: int | None) -> str | None:
    """Name a class; a class that the classifier does not know goes by its number."""
    if label is None:
        return None
    return labels[label] if 0 <= label < len(labels) else str(label)


def outcomes(texts: Sequence[CertifiedText]) -> list[dict[str, Any]]:
    """Sort all texts into disjoint outcomes against the first attacker."""
    answer = "certified" if texts[0].label is None else "right"

    def outcome(text: CertifiedText) -> str:
        certificate = text.first
        if certificate.dead_zone:
            return "dead zone"
        if certificate.radius is None:
            return "abstention"
        if not text.right:
            return "wrong"
        if text.vacuous:
            return f"{answer}, nothing to swap"
        return f"{answer}, radius 1 or more" if certificate.radius else f"{answer}, radius 0"

    names = [f"{answer}, radius 1 or more", f"{answer}, radius 0"]
    names += [f"{answer}, nothing to swap"] if any(text.vacuous for text in texts) else []
    names += ["wrong"] if answer == "right" else []
    names += ["abstention", "dead zone"]
    found = [outcome(text) for text in texts]
    return [
        {"name": name, "count": found.count(name), "share": found.count(name) / len(texts)}
        for name in names
    ]


def quantile(values: Iterable[int], share: float) -> int | None:
    """Return a quantile that is one of the values, `None` without values."""
    ordered = list(values)
    return int(np.quantile(ordered, share, method="inverted_cdf")) if ordered else None


def by_length(texts: Sequence[CertifiedText]) -> list[dict[str, Any]]:
    """Return radii against the first attacker in classes of length with about as many texts each.

    Quartiles are those of the texts with an answer, right or wrong; the ceiling is the largest
    radius that unanimous votes would have given one of the texts. Both leave out texts without
    anything to swap.
    """
    lengths = np.array([text.first.n_units for text in texts])
    shares = np.arange(1, LENGTH_BINS) / LENGTH_BINS
    edges = np.unique(np.quantile(lengths, shares, method="inverted_cdf"))
    member = np.searchsorted(edges, lengths)
    rows = []
    for index in np.unique(member):
        group = [text for text, m in zip(texts, member, strict=True) if m == index]
        sizes = [text.first.n_units for text in group]
        open_ = [text.first for text in group if not text.vacuous]
        radii = [certificate.radius for certificate in open_ if certificate.radius is not None]
        rows.append(
            {
                "shortest": min(sizes),
                "longest": max(sizes),
                "texts": len(group),
                "right": sum(text.right for text in group),
                "abstentions": sum(text.first.abstains for text in group),
                "lower_quartile": quantile(radii, 0.25),
                "median": quantile(radii, 0.5),
                "upper_quartile": quantile(radii, 0.75),
                "ceiling": max((certificate.ceiling for certificate in open_), default=None),
            }
        )
    return rows


def by_class(
    texts: Sequence[CertifiedText], labels: Sequence[str], *, attacker: str, radius: int
) -> list[dict[str, Any]]:
    """Return accuracy and certified accuracy, and the answers given, per class."""
    known = {label for text in texts for label in (text.label, text.first.predicted)} - {None}
    rows = []
    for label in sorted(known | set(range(len(labels))), key=lambda each: each or 0):
        group = [text for text in texts if text.label == label]
        right = sum(text.right for text in group)
        certified = sum(text.survives(attacker, radius) for text in group)
        low, high = interval(right, len(group)) if group else (0.0, 1.0)
        rows.append(
            {
                "class": class_name(labels, label),
                "texts": len(group),
                "answers": sum(text.first.predicted == label for text in texts),
                "abstentions": sum(text.first.abstains for text in group),
                "right": right,
                "accuracy": right / len(group) if group else None,
                "low": low,
                "high": high,
                "certified": certified,
                "certified_accuracy": certified / len(group) if group else None,
            }
        )
    return rows


def same_answer(texts: Sequence[CertifiedText], labels: Sequence[str]) -> dict[str, Any] | None:
    """Return the class that nearly all texts are given although they are of others, if any.

    Such a classifier is easy to certify and says little about a text. Texts in the dead zone and
    abstentions are left out. Without labels, every class that is given nearly always counts.
    """
    answered = [t for t in texts if not (t.first.dead_zone or t.first.abstains)]
    true = None if texts[0].label is None else [t.label for t in answered]
    found = SameAnswer.of([t.first.predicted for t in answered], true)  # type: ignore[misc,arg-type]
    if found is None or not found.hardly_reads:
        return None
    return {
        "class": class_name(labels, found.label),
        "answers": found.answers,
        "answered": found.answered,
        "true": found.true,
    }


def quote(text: CertifiedText, labels: Sequence[str], *, with_text: bool) -> dict[str, Any]:
    """Describe one text and its certificate against the first attacker."""
    certificate = text.first
    return {
        "example_id": text.example_id,
        "text": shortened(text.text) if with_text else None,
        "pair": shortened(text.pair) if with_text and text.pair is not None else None,
        "label": class_name(labels, text.label),
        "predicted": class_name(labels, certificate.predicted),
        "right": None if text.label is None else text.right,
        "radius": certificate.radius,
        "ceiling": certificate.ceiling,
        "p_lower": certificate.p_lower,
        "n_units": certificate.n_units,
        "swappable": certificate.swappable,
        "details": certificate.details,
        "dead_zone": certificate.dead_zone,
    }


def ranked(texts: Iterable[CertifiedText]) -> list[CertifiedText]:
    """Sort the texts whose certificates say something, the most stable first."""

    def stability(text: CertifiedText) -> tuple[int, float, int]:
        radius = -1 if text.first.radius is None else text.first.radius
        return (-radius, -text.first.p_lower, text.example_id)

    return sorted((text for text in texts if not text.trivial), key=stability)


def extremes(
    texts: Iterable[CertifiedText],
) -> tuple[list[CertifiedText], list[CertifiedText]]:
    """Return the most stable and the most fragile texts, none of them in both."""
    order = ranked(texts)
    size = min(EXTREMES, (len(order) + 1) // 2)
    return order[:size], order[size:][-EXTREMES:][::-1]


def shortened(text: str) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= QUOTED else text[: QUOTED - 1].rstrip() + "…"
