"""What was proved and what was broken of the same texts, at each radius: the truth lies between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from robust_nlp.attacks.rows import AttackRow
from robust_nlp.base_classifier import Side, Text, split_pair
from robust_nlp.compare.facts import threat_name
from robust_nlp.compare.results import Comparison, MethodResults
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.threats import ThreatModel
from robust_nlp.units import split_units

#: Radii that a picture shows at most, unless certificates reach further.
SHOWN = 12

#: How far a text is certified, -1 if its answer is wrong, and the fewest edits that broke it.
Reach = tuple[int | None, float]


def sandwiches(found: Comparison) -> dict[str, Any]:
    """Return certified accuracy and accuracy under attack by threat, radius and method.

    Both are shares of the texts that were attacked and, of a smoothed method, certified. A text
    counts as broken at a radius if its clean answer is confirmed to be wrong, or if an attack has
    a confirmed find within so many edits of the threat; abstentions and doubts do not count. So a
    right certificate is never broken, and the share that is not broken bounds the true one from
    above, up to the failure probabilities of certificates and judge.

    Returns:
        By threat, `radii` and for each method: `texts`; `certified`, a share for each radius,
        `None` for a method without such certificates; `unbroken`, the same; `counted`, whether
        edits of this threat can be counted without the classifier: if not, no find is; `beyond`,
        how many texts are broken by more edits than the radii; `inside`, the texts that are broken
        within their certified radius; and `doubts`, how many texts the judge leaves in doubt, or
        have no answer. Empty if nothing was attacked.
    """
    sides = {method.name: method.run.recipe.data.protected for method in found.methods}
    attacked = [method for method in found.methods if method.attacked is not None]
    threats: dict[str, ThreatModel] = {}
    for method in attacked:
        for name, (_, threat) in certified_threats(method).items():
            threats.setdefault(name, threat)
    pictures = {}
    for name, shared in threats.items():
        reached = {}
        for method in attacked:
            own = certified_threats(method).get(name)
            if own is None and shared.substitutes is not None:
                continue  # its substitutes are those of other methods
            attacker, threat = (None, shared) if own is None else own
            counted = countable(method, threat)
            broken = broken_at(_rows(method), threat if counted else None, sides[method.name])
            reached[method.name] = (counted, _reaches(method, attacker, broken), _doubts(method))
        pictures[name] = _picture(reached)
    return pictures


def certified_threats(method: MethodResults) -> dict[str, tuple[str, ThreatModel]]:
    """Return the attackers that a method has certificates against, by the name of the threat."""
    if method.report is None:
        return {}
    return {
        threat_name(
            attacker,
            unit=certificate.threat.unit,
            allowed_only=certificate.threat.substitutes is not None,
        ): (attacker, certificate.threat)
        for attacker, certificate in method.report.texts[0].certificates.items()
    }


def countable(method: MethodResults, threat: ThreatModel) -> bool:
    """Tell whether edits can be counted without the classifier: not if its tokens matter."""
    if threat.substitutes is not None and method.run.method.smoothed:
        return not isinstance(method.run.recipe.mechanism, GaussianEmbedding)
    return threat.unit != "token"


def broken_at(
    rows: Iterable[AttackRow], threat: ThreatModel | None, protected: Side
) -> dict[int, float]:
    """Return the fewest edits at which each attacked text is known to be broken.

    Args:
        rows: Rows of attacks, several for a text.
        threat: The edits that count; `None` counts no find.
        protected: Which text of a pair was not attacked.

    Returns:
        By example: 0 if the clean answer is confirmed to be wrong, infinity if nothing is known
        to break it.
    """
    found: dict[int, float] = {}
    for row in rows:
        at = math.inf
        if row.outcome == "skipped":
            wrong = row.clean_predicted is not None and row.clean_predicted != row.label
            at = 0.0 if wrong else math.inf
        elif row.outcome == "success" and threat is not None:
            text: Text = row.text if row.pair is None else (row.text, row.pair)
            clean, _ = split_pair(text, protected)
            assert row.found is not None
            at = threat.distance(
                split_units(clean, threat.unit), split_units(row.found, threat.unit)
            )
        found[row.example_id] = min(at, found.get(row.example_id, math.inf))
    return found


def _rows(method: MethodResults) -> list[AttackRow]:
    assert method.attacked is not None
    return [row for part in method.attacked.rows.values() for row in part]


def _reaches(
    method: MethodResults, attacker: str | None, broken: Mapping[int, float]
) -> dict[int, Reach]:
    """Return what is known of each attacked text; of those with a certificate, if there are any."""
    if attacker is None or method.report is None:
        return {i: (None, at) for i, at in broken.items()}
    found: dict[int, Reach] = {}
    for text in method.report.texts:
        if text.example_id in broken:
            radius = text.certificates[attacker].radius if text.right else None
            found[text.example_id] = (-1 if radius is None else radius, broken[text.example_id])
    return found


def _doubts(method: MethodResults) -> set[int]:
    """Return the texts that the judge leaves in doubt, and those without an answer."""
    assert method.attacked is not None
    return {
        row.example_id
        for row in method.attacked.worst()
        if row.outcome == "uncertain" or (row.outcome == "skipped" and row.clean_predicted is None)
    }


def _picture(
    reached: Mapping[str, tuple[bool, Mapping[int, Reach], Set[int]]],
) -> dict[str, Any]:
    texts = [reach for _, by_text, _ in reached.values() for reach in by_text.values()]
    proved = max((radius for radius, _ in texts if radius is not None), default=0) + 1
    broken = max((at for _, at in texts if math.isfinite(at)), default=0.0)
    radii = list(range(max(proved, min(SHOWN, int(broken))) + 1))
    return {
        "radii": radii,
        "methods": [
            {
                "method": name,
                "counted": counted,
                **_shares(by_text, radii),
                "doubts": len(doubts & by_text.keys()),
            }
            for name, (counted, by_text, doubts) in reached.items()
            if by_text
        ],
    }


def _shares(by_text: Mapping[int, Reach], radii: Sequence[int]) -> dict[str, Any]:
    proved = [radius for radius, _ in by_text.values() if radius is not None]
    broken = [at for _, at in by_text.values()]
    n = len(by_text)
    inside = [i for i, (radius, at) in by_text.items() if radius is not None and at <= radius]
    return {
        "texts": n,
        "certified": [sum(radius >= r for radius in proved) / n for r in radii] if proved else None,
        "unbroken": [sum(at > r for at in broken) / n for r in radii],
        "beyond": sum(radii[-1] < at < math.inf for at in broken),
        "inside": sorted(inside),
    }
