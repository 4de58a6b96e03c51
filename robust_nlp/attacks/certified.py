"""Attacks beside certificates: what was proved of the attacked texts, and whether it held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_nlp.attacks.rows import AttackRow
from robust_nlp.audit.writing import Writer
from robust_nlp.base_classifier import Text
from robust_nlp.reporting.accuracy import wrong_certificates
from robust_nlp.reporting.texts import CertifiedText
from robust_nlp.smoothing import SmoothedClassifier


def beside_certificates(
    smoothed: SmoothedClassifier,
    rows: Mapping[str, Sequence[AttackRow]],
    certified: Sequence[CertifiedText],
    *,
    alpha: float,
) -> dict[str, Any] | None:
    """Compare what attacks found with the certificates of the same texts.

    A text of another class inside a certified radius contradicts the certificate. Certificates
    that rest on votes fail with probability alpha each, and the judge errs as well, so that a few
    contradictions prove nothing; more than `allowed` of them do, or more of exact certificates than
    the judge alone explains. Right certificates fail this with probability 10 % at most.

    Args:
        smoothed: The smoothed classifier that was attacked and certified.
        rows: Rows by attack.
        certified: Certificates, with the classes that votes predicted.
        alpha: Probability that the judge confirms a wrong text in an attack on an example.

    Returns:
        `texts`, how many attacked texts have certificates; `certified_accuracy` of these by
        attacker and radius; `compared`, how many confirmed finds were held against a certificate;
        `contradictions`, those inside the certified radius; `allowed`; and `held`. `None` if no
        attacked text has a certificate.
    """
    by_id = {each.example_id: each for each in certified}
    labels = {row.example_id: row.label for part in rows.values() for row in part}
    texts = [by_id[i] for i in sorted(labels) if i in by_id]
    if not texts:
        return None
    won = [
        row
        for part in rows.values()
        for row in part
        if row.outcome == "success"
        and row.example_id in by_id
        and not by_id[row.example_id].first.abstains
    ]
    found = [each for row in won for each in _inside(smoothed, row, by_id[row.example_id])]
    wrong = {each["example_id"] for each in found}
    errs = len(rows) * alpha  # by the judge, in the attacks on a text
    allowed = wrong_certificates(len(texts), alpha=max(c.first.alpha for c in texts) + errs)
    exact = [each.example_id for each in texts if each.first.alpha == 0.0]
    by_judge = wrong_certificates(len(exact), alpha=errs)
    return {
        "texts": len(texts),
        "certified_accuracy": {
            name: _accuracies(texts, name, labels) for name in texts[0].certificates
        },
        "compared": len(won),
        "contradictions": found,
        "allowed": allowed,
        "held": len(wrong) <= allowed and len(wrong.intersection(exact)) <= by_judge,
    }


def _inside(
    smoothed: SmoothedClassifier, row: AttackRow, certified: CertifiedText
) -> list[dict[str, Any]]:
    """Return the certificates of a text that a confirmed find contradicts."""
    text: Text = row.text if row.pair is None else (row.text, row.pair)
    writer = Writer(smoothed, text)
    assert row.found is not None
    attacked = writer.split(row.found)
    found = []
    for name, certificate in certified.certificates.items():
        if certificate.abstains or certificate.predicted == row.found_predicted:
            continue
        distance = writer.ball(certificate).threat.distance(writer.units, attacked)
        assert certificate.radius is not None
        if distance <= certificate.radius:
            found.append(
                {
                    "attack": row.attack,
                    "example_id": row.example_id,
                    "attacker": name,
                    "distance": int(distance),
                    "radius": certificate.radius,
                    "text": writer.body,
                    "found": row.found,
                }
            )
    return found


def _accuracies(
    texts: Sequence[CertifiedText], attacker: str, labels: Mapping[int, int]
) -> dict[str, float]:
    """Return the certified accuracy at each radius up to the largest."""
    radii = np.array(
        [
            -1 if radius is None or certificate.predicted != labels[each.example_id] else radius
            for each in texts
            for certificate in [each.certificates[attacker]]
            for radius in [certificate.radius]
        ]
    )
    largest = max(0, int(radii.max()))
    return {str(r): float(np.mean(radii >= r)) for r in range(largest + 1)}
