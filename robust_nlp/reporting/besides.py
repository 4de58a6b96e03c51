"""What certificates prove besides the radius: quantities of their own, and safe mixes of edits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from robust_nlp.mechanisms import TextMechanism
from robust_nlp.reporting import words
from robust_nlp.reporting.breakdown import quote, ranked
from robust_nlp.reporting.texts import CertifiedText
from robust_nlp.threats import parse_attacker

#: Mixes of edits that are listed, in all and in a sentence.
MIXES, MIXES_SAID = 12, 6


def details(texts: Iterable[CertifiedText], mechanism: TextMechanism) -> list[dict[str, Any]]:
    """Return the quartiles of each quantity that certificates prove besides the radius.

    Counted are right answers whose certificates say something; see `CertifiedText.trivial`.

    Args:
        texts: The texts.
        mechanism: Its `detail_names` say what is there to show.
    """
    found = [text.first.details for text in texts if text.right and not text.trivial]
    rows = []
    for name, meaning in mechanism.detail_names.items():
        values = [each[name] for each in found if name in each]
        if not values:
            continue
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75), method="inverted_cdf")
        rows.append(
            {
                "name": name,
                "meaning": meaning,
                "texts": len(values),
                "lower_quartile": float(low),
                "median": float(median),
                "upper_quartile": float(high),
                "largest": max(values),
            }
        )
    return rows


def frontiers(
    texts: Iterable[CertifiedText],
    mechanism: TextMechanism,
    labels: Sequence[str],
    *,
    attacker: str,
    with_text: bool,
) -> list[dict[str, Any]]:
    """Return the safe mixes of edits of the most stable and of a middling right text.

    Empty for mechanisms whose certificates do not tell mixes apart, and without a right text that
    has a radius of 1 or more.
    """
    stable = [text for text in ranked(texts) if text.right and text.first.radius]
    # Of equally stable texts the longer one is the better example: it allows for more deletions.
    stable.sort(key=lambda text: (-(text.first.radius or 0), -text.first.n_units))
    examples = []
    for text in dict.fromkeys([0, len(stable) // 2]) if stable else ():
        certificate = stable[text].first
        mixes = mechanism.frontier(
            certificate.p_lower,
            certificate.p_runner_up,
            n_units=certificate.n_units,
            attacker=parse_attacker(attacker),
        )
        if not mixes:
            return []
        shown = sorted({round(i) for i in np.linspace(0, len(mixes) - 1, min(MIXES, len(mixes)))})
        examples.append(
            {
                **quote(stable[text], labels, with_text=with_text),
                "mixes": [mixes[i]._asdict() for i in shown],
                "mixes_in_all": len(mixes),
            }
        )
    return examples


def sentences(facts: Mapping[str, Any]) -> list[str]:
    """Say what a report holds of `details` and `frontiers`; empty if it holds none."""
    lines = [
        f"{row['meaning']}: median {row['median']:.3g}, quartiles {row['lower_quartile']:.3g} and "
        f"{row['upper_quartile']:.3g}, largest {row['largest']:.3g} "
        f"({words.count(row['texts'], 'right answer' if facts['labelled'] else 'answer')})"
        for row in facts["details"]
    ]
    if facts["frontiers"]:
        lines.append(_mixes(facts["frontiers"][-1], facts["unit"]))
    return lines


def _mixes(example: Mapping[str, Any], unit: str) -> str:
    """Say the safe mixes of one text in a sentence."""
    mixes = example["mixes"]
    places = np.linspace(0, len(mixes) - 1, min(MIXES_SAID, len(mixes)))
    shown = [mixes[i] for i in sorted({round(place) for place in places})]
    said = [
        " + ".join(words.count(number, move[:-1]) for move, number in mix.items() if number)
        for mix in shown
    ]
    rest = example["mixes_in_all"] - len(said)
    return (
        f"Safe mixes of edits in a middling text ({words.count(example['n_units'], unit)}, radius "
        f"{example['radius']}): {'; '.join(said)}" + (f"; and {rest:,} more" if rest else "")
    )
