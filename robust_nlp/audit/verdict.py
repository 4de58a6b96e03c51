"""The verdict: contradictions, and how many of them the certificates' own alpha allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from robust_nlp.audit.ball import Coverage
from robust_nlp.audit.records import AuditedBall, AuditedText, JudgedText
from robust_nlp.reporting.accuracy import DOUBT, wrong_certificates


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """A text inside a certified ball whose smoothed answer is not the certified class.

    Attributes:
        audited: The clean text.
        judged: The attacked text.
        attacker: Name of the attacker against whom the certificate is.
        radius: The certified radius.
        distance: Moves from the clean to the attacked text.
        rival: The class that is more probable there.
        bound: Lower bound of the rival's share of what it and the certified class have together,
            above one half; exact, or with the failure probability that each candidate is given.
    """

    audited: AuditedText
    judged: JudgedText
    attacker: str
    radius: int
    distance: float
    rival: int
    bound: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an audit says.

    Attributes:
        texts: Different certified texts that were audited; equal texts share their certificates
            and count once.
        drawn: Those of them whose certificates rest on drawn votes, and so may be wrong.
        balls: Certificates that were searched, of which `coverage` counts those by how far.
        confirmed: Certificates that the search confirms: all texts within the radius were tried,
            with all of their noisy texts, and none has another answer.
        candidates: Texts that were tried.
        judged: Texts that were judged.
        weighed: Those of them on which many votes were cast, as neither all noisy texts could be
            classified nor the certified class led clearly.
        alpha: Probability that any right certificate is called wrong.
        alpha_each: Its part for one weighed text.
        alpha_certificates: Failure probability of one text's certificates.
        allowed: Texts with a contradiction that the certificates' alpha makes no surprise.
        confidence: Probability with which right certificates have at most as many.
        contradictions: The contradictions, those of one clean text one after the other.
    """

    texts: int
    drawn: int
    balls: int
    coverage: dict[Coverage, int]
    confirmed: int
    candidates: int
    judged: int
    weighed: int
    alpha: float
    alpha_each: float
    alpha_certificates: float
    allowed: int
    confidence: float
    contradictions: tuple[Contradiction, ...]

    @property
    def wrong(self) -> int:
        """Different texts with a contradiction."""
        return len({each.audited.text_hash for each in self.contradictions})

    @property
    def wrong_exact(self) -> int:
        """Those of them whose certificates are exact, and so have no failure probability."""
        exact = (each.audited for each in self.contradictions if each.audited.alpha == 0.0)
        return len({audited.text_hash for audited in exact})

    @property
    def passed(self) -> bool:
        """Whether there is no contradiction beyond what alpha allows."""
        return not self.wrong_exact and self.wrong <= self.allowed


def verdict(audited: Sequence[AuditedText], *, alpha: float) -> Verdict:
    """Find the contradictions among audited texts.

    Every judged text on which many votes were cast gets an equal part of alpha, so that the
    probability of any false contradiction is at most alpha in all (Bonferroni; which texts these
    are does not depend on the votes that weigh them). Certificates fail with their own alpha, so
    that a binomial number of texts may have a true contradiction; with exact ones, none has.

    Args:
        audited: The audited texts.
        alpha: Probability that any right certificate is called wrong, in `(0, 1)`.
    """
    distinct = {row.text_hash: row for row in reversed(audited) if row.predicted is not None}
    rows = sorted(distinct.values(), key=lambda row: row.example_id)
    judged = [text.judgement for row in rows for text in row.judged]
    weighed = sum(each.exact is None and any(each.counts) for each in judged)
    each = alpha / max(1, weighed)
    drawn = [row.alpha for row in rows if row.alpha > 0.0]
    balls = [ball for row in rows for ball in row.balls]
    return Verdict(
        texts=len(rows),
        drawn=len(drawn),
        balls=len(balls),
        coverage=dict(Counter(ball.coverage for ball in balls)),
        confirmed=sum(map(_confirmed, balls)),
        candidates=sum(ball.candidates for ball in balls),
        judged=len(judged),
        weighed=weighed,
        alpha=alpha,
        alpha_each=each,
        alpha_certificates=max(drawn, default=0.0),
        allowed=wrong_certificates(len(drawn), alpha=max(drawn, default=0.0)),
        confidence=1.0 - DOUBT,
        contradictions=tuple(
            found
            for row in rows
            for text in row.judged
            for found in _contradictions(row, text, each)
        ),
    )


def _confirmed(ball: AuditedBall) -> bool:
    whole = ball.coverage == "ball" and ball.exact
    return whole and ball.margin is not None and ball.margin > 0.0


def _contradictions(row: AuditedText, text: JudgedText, alpha: float) -> list[Contradiction]:
    assert row.predicted is not None
    if not text.judgement.contradicts(row.predicted, alpha=alpha):
        return []
    radii = {ball.attacker: ball.radius for ball in row.balls}
    return [
        Contradiction(
            audited=row,
            judged=text,
            attacker=attacker,
            radius=radii[attacker],
            distance=distance,
            rival=text.judgement.rival(row.predicted),
            bound=text.judgement.rival_share(row.predicted, alpha=alpha),
        )
        for attacker, distance in text.distances.items()
        if distance <= radii[attacker]
    ]
