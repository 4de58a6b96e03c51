"""The search: all texts of a small ball, else a beam from the clean text and from far ones."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from robust_nlp.audit.ball import Ball, Coverage, Units
from robust_nlp.audit.oracle import Oracle, Score, mean
from robust_nlp.base_classifier import Text

#: Candidates of one step of a beam: as many as the budget allows, between these.
FEWEST, MOST = 6, 64

#: One part of so many of the passes is kept back: the best candidates are scored again under new
#: noise, fewer of them each time, since the best of many scores is good by chance as well.
KEPT_BACK = 4

#: Candidates that are returned.
FINALISTS = 8

#: A search ends after so many passes, one after the other, in which nothing new was tried.
IDLE = 5

#: The first pass, from the clean text, may spend one part of so many.
PASSES = 2

#: Steps of a beam that goes on from the best text.
LATER_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        coverage: "ball" if all texts of the ball were tried, "words" if all whose new units are in
            the list, else "sample".
        exact: Whether no score rests on drawn votes.
        candidates: How many different texts were tried.
        margin: The lowest mean margin of a text that was tried; `None` if none was.
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
    candidates: int,
    beam: int,
) -> Found:
    """Look for the text of a ball on which the certified class does worst.

    Args:
        ball: The ball.
        oracle: Scores candidates; what is left of its passes is spent.
        write: Turns units into a text; `None` if that is none of the ball.
        rng: Draws the candidates.
        votes: Votes of the oracle per candidate.
        candidates: Texts of the ball to be tried at most; one with no more is tried whole.
        beam: Candidates from which the next step goes on.
    """
    seen: dict[Units, list[Score]] = {}

    def score(wanted: list[Units]) -> list[Units]:
        """Score candidates; return those that the passes sufficed for, the most promising first."""
        pairs = [(units, write(units)) for units in dict.fromkeys(wanted)]
        legal = [(units, text) for units, text in pairs if text is not None]
        scores = oracle.scores([text for _, text in legal])
        found = {units: each for (units, _), each in zip(legal, scores, strict=False)}
        for units, each in found.items():
            seen.setdefault(units, []).append(each)
        return sorted(found, key=lambda units: found[units])

    def best(size: int) -> list[Units]:
        """Return the most promising of all candidates, each by the mean of its scores."""
        return sorted(seen, key=lambda units: mean(seen[units]))[:size]

    oracle.exact = True
    kept_back = oracle.left // KEPT_BACK
    oracle.left -= kept_back
    coverage: Coverage = "sample"
    listed = ball.texts(candidates)
    if listed is not None:
        for_beams = oracle.left // 2
        oracle.left -= for_beams
        score(listed)
        oracle.left += for_beams
        if len(seen) == len(listed):
            coverage = "ball" if ball.closed else "words"
    if coverage == "sample":
        _beams(ball, oracle, score, best, rng, votes=votes, beam=beam, seen=seen, most=candidates)
    oracle.left += kept_back
    left = min(MOST, kept_back // (2 * votes))
    while not oracle.exact and left > 1:
        oracle.redraw()
        score(best(left))
        left //= 2
    ranked = best(FINALISTS)
    return Found(
        coverage=coverage,
        exact=oracle.exact,
        candidates=len(seen),
        margin=mean(seen[ranked[0]]).margin if ranked else None,
        best=ranked,
    )


def _beams(
    ball: Ball,
    oracle: Oracle,
    score: Callable[[list[Units]], list[Units]],
    best: Callable[[int], list[Units]],
    rng: np.random.Generator,
    *,
    seen: Collection[Units],
    votes: int,
    beam: int,
    most: int,
) -> None:
    """Go from the clean text to the end of the ball, then on until enough is tried or all spent.

    Later starts are the best text so far and a random one, in turn. Units that leading candidates
    have taken up are tried more often from then on.
    """
    start, steps = ball.clean, max(1, ball.radius)
    size = min(MOST, max(FEWEST, oracle.left // (votes * steps * PASSES)))
    score([start])
    passes = idle = 0
    while idle < IDLE and len(seen) < most:
        before = len(seen)
        leading = [start]
        for _ in range(steps):
            oracle.redraw()
            share = max(FEWEST, size // len(leading))
            nearby = [other for units in leading for other in ball.sample(units, share, rng)]
            ranked = score(nearby[: max(0, most - len(seen))])
            if not ranked:
                break
            leading = ranked[:beam]
            taken_up = dict.fromkeys(unit for units in leading for unit in units)
            known = set(ball.words)
            favoured = [unit for unit in taken_up if unit in known]
            ball = replace(ball, words=tuple(dict.fromkeys([*favoured, *ball.words])))
        passes, idle = passes + 1, idle + 1 if len(seen) == before else 0
        if passes % 2 and best(1):
            start, steps = best(1)[0], LATER_STEPS
        else:
            steps = int(rng.integers(1, max(1, ball.radius) + 1))
            start = ball.walk(ball.radius - steps, rng)
