"""The search: all texts of a small ball, else a beam from the clean text and from far ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robust_nlp.audit.ball import Ball, Coverage, Units
from robust_nlp.audit.oracle import Oracle, Score
from robust_nlp.base_classifier import Text

#: Candidates of one step of a beam: as many as the budget allows, between these.
FEWEST, MOST = 6, 64

#: Candidates that are scored once more, under new noise, before the best of them are judged.
FINALISTS = 8

#: By how much equal noisy texts may cut the passes of the base classifier, at a guess.
REPEATED = 4

#: The first pass, from the clean text, may spend one part of so many.
PASSES = 2

#: Steps of a beam that goes on inside the ball from one of its far texts.
LATER_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        coverage: "ball" if all texts of the ball were tried, "words" if all whose new units are in
            the list, else "sample".
        exact: Whether no score rests on drawn votes.
        candidates: How many different texts were tried.
        margin: The lowest margin that was seen; `None` if nothing was tried.
        best: The most promising texts that were tried, the best first.
    """

    coverage: Coverage
    exact: bool
    candidates: int
    margin: float | None
    best: list[Units]


def search(
    ball: Ball,
    oracle: Oracle,
    write: Callable[[Units], Text | None],
    rng: np.random.Generator,
    *,
    votes: int,
    exhaustive: int,
    beam: int,
) -> Found:
    """Look for the text of a ball on which the certified class does worst.

    Args:
        ball: The ball.
        oracle: Scores candidates; what is left of its passes is spent.
        write: Turns units into a text; `None` if that is none of the ball.
        rng: Draws the candidates.
        votes: Votes of the oracle per candidate.
        exhaustive: Texts of the ball at most for all of them to be tried.
        beam: Candidates from which the next step goes on.
    """
    scored: dict[Units, Score] = {}

    def score(candidates: list[Units]) -> list[Units]:
        """Score candidates; return those that the passes sufficed for, the most promising first."""
        pairs = [(units, write(units)) for units in dict.fromkeys(candidates)]
        legal = [(units, text) for units, text in pairs if text is not None]
        scores = oracle.scores([text for _, text in legal])
        found = {units: each for (units, _), each in zip(legal, scores, strict=False)}
        scored.update(found)
        return sorted(found, key=lambda units: found[units])

    oracle.exact = True
    kept_back = min(FINALISTS * votes, oracle.left // 4)
    oracle.left -= kept_back
    coverage: Coverage = "sample"
    listed = ball.texts(exhaustive)
    if listed is not None and len(listed) * votes <= REPEATED * oracle.left:
        score(listed)
        if len(scored) == len(listed):
            coverage = "ball" if ball.closed else "words"
    if coverage == "sample":
        _beams(ball, oracle, score, rng, votes=votes, beam=beam)
    oracle.left += kept_back
    best = sorted(scored, key=lambda units: scored[units])[:FINALISTS]
    lowest = min((each.margin for each in scored.values()), default=None)
    if not oracle.exact and len(best) > 1:
        oracle.redraw()
        again = score(best)
        best = [*again, *(units for units in best if units not in again)]
    return Found(
        coverage=coverage,
        exact=oracle.exact,
        candidates=len(scored),
        margin=lowest,
        best=best,
    )


def _beams(
    ball: Ball,
    oracle: Oracle,
    score: Callable[[list[Units]], list[Units]],
    rng: np.random.Generator,
    *,
    votes: int,
    beam: int,
) -> None:
    """Go from the clean text to the end of the ball, then on from far texts, until all is spent."""
    start, steps = ball.clean, max(1, ball.radius)
    size = min(MOST, max(FEWEST, oracle.left // (votes * steps * PASSES)))
    score([start])
    left = -1
    while oracle.left != left:
        left = oracle.left
        leading = [start]
        for _ in range(steps):
            oracle.redraw()
            share = max(FEWEST, size // len(leading))
            nearby = [other for units in leading for other in ball.sample(units, share, rng)]
            ranked = score(nearby)
            if not ranked:
                break
            leading = ranked[:beam]
        start, steps = ball.far(rng), min(LATER_STEPS, max(1, ball.radius))
