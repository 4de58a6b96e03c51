"""How hard an audit looks, and how sure it must be."""

from __future__ import annotations

from dataclasses import dataclass

#: The judge draws at least so many times the votes of the search.
JUDGE_FACTOR = 10


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """How hard an audit looks for contradictions, and how sure it must be of one.

    Args:
        votes: Noisy texts of a candidate in the search; the same noise for all candidates of a
            round. Where a candidate has no more noisy texts than this, all are classified.
        forwards: Passes of the base classifier that the search may spend on one text, against all
            attackers together; the judge comes on top.
        words: Candidates for new units, where the attacker may write any.
        candidates: Texts of a certified ball to be tried at most; a ball with no more is tried
            whole, in place of a search.
        beam: Candidates from which a search goes on at each step.
        judged: Candidates per certificate that the judge sees, besides the clean text.
        judge_votes: Votes of the judge on one candidate, at least ten times `votes`. Where a
            candidate has no more noisy texts than this, all are classified.
        alpha: Probability that the audit calls any right certificate wrong, for all candidates
            together, in `(0, 1)`.
        seed: Seed of candidates and of all noise.
    """

    votes: int = 24
    forwards: int = 4_000
    words: int = 64
    candidates: int = 1_000
    beam: int = 2
    judged: int = 2
    judge_votes: int = 1_000
    alpha: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("votes", "forwards", "words", "candidates", "beam", "judged"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={getattr(self, name)}")
        if self.judge_votes < JUDGE_FACTOR * self.votes:
            raise ValueError(
                f"the judge needs at least {JUDGE_FACTOR} times the votes of the search, "
                f"judge_votes >= {JUDGE_FACTOR * self.votes}; got judge_votes={self.judge_votes}"
            )
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(
                f"alpha is a failure probability in (0, 1), such as 0.001; got {self.alpha!r}"
            )
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0; got {self.seed}")
