"""What an audit of one text found, as plain values: all that a verdict needs."""

from __future__ import annotations

from dataclasses import dataclass

from robust_nlp.audit.ball import Coverage
from robust_nlp.certification.confidence import lower_confidence_bound

#: Exact probabilities that differ by less count as a tie, which contradicts nothing.
TIE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The votes of the judge on one candidate.

    Attributes:
        exact: Probability of each class, where all noisy texts were classified; else `None`.
        selection: Votes that chose the rival of the certified class; `(classes,)`.
        counts: Votes after them that weigh the two; all zero where the certified class led
            clearly; `(classes,)`.
    """

    exact: tuple[float, ...] | None
    selection: tuple[int, ...]
    counts: tuple[int, ...]

    def rival(self, certified: int) -> int:
        """Return the most probable of the other classes, before any vote that weighs it."""
        found = self.selection if self.exact is None else self.exact
        return max((i for i in range(len(found)) if i != certified), key=lambda i: (found[i], -i))

    def rival_share(self, certified: int, *, alpha: float) -> float:
        """Bound from below the rival's share of what it and the certified class have together.

        Above one half, the certified class is not the most probable. If it is the most probable,
        the bound exceeds one half with probability at most alpha: given how many votes fell on
        one of the two, those for the rival are binomial. Exact probabilities have no failure
        probability.

        Args:
            certified: The certified class.
            alpha: Failure probability, in `(0, 1)`.
        """
        rival = self.rival(certified)
        if self.exact is not None:
            together = self.exact[rival] + self.exact[certified]
            return self.exact[rival] / together if together > 0.0 else 0.0
        trials = self.counts[rival] + self.counts[certified]
        return lower_confidence_bound(self.counts[rival], trials, alpha=alpha)

    def contradicts(self, certified: int, *, alpha: float) -> bool:
        """Tell whether the answer is certainly not the certified class; see `rival_share`."""
        if self.exact is not None:
            return self.exact[self.rival(certified)] > self.exact[certified] + TIE
        return self.rival_share(certified, alpha=alpha) > 0.5


@dataclass(frozen=True, kw_only=True)
class AuditedBall:
    """What the search did inside one certificate's ball.

    Attributes:
        attacker: The attacker's name.
        radius: The certified radius.
        coverage: Which of its texts were tried: "ball" (all), "words" (all whose new units are in
            the list of words) or "sample".
        exact: Whether no score of the search rests on drawn votes.
        candidates: How many different texts were tried.
        margin: The lowest margin of the certified class that the search saw, `None` if none.
    """

    attacker: str
    radius: int
    coverage: Coverage
    exact: bool
    candidates: int
    margin: float | None


@dataclass(frozen=True, kw_only=True)
class JudgedText:
    """A candidate that the judge saw.

    Attributes:
        attacked: The candidate: the text that is open to edits.
        units: It as units.
        distances: Its distance from the clean text, by the name of each attacker whose certificate
            covers it.
        judgement: The votes of the judge.
    """

    attacked: str
    units: tuple[str, ...]
    distances: dict[str, float]
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class AuditedText:
    """The audit of one text.

    Attributes:
        example_id: Position of the text.
        text_hash: Key of the text; texts with the same key have the same certificates.
        text: The clean text: that which is open to edits.
        units: It as units.
        pair: Its protected partner, if inputs are pairs.
        predicted: The certified class; `None` on abstention, where there is nothing to audit.
        alpha: Failure probability of the certificates; 0 if they are exact.
        balls: What the search did, one entry per certificate.
        judged: What the judge saw, the clean text first.
        forwards: Passes of the base classifier in the search.
        seconds: Time of one process.
    """

    example_id: int
    text_hash: str
    text: str
    units: tuple[str, ...]
    pair: str | None
    predicted: int | None
    alpha: float
    balls: tuple[AuditedBall, ...]
    judged: tuple[JudgedText, ...]
    forwards: int
    seconds: float
