"""The rows of a run as texts with their certificates, computed anew from the votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robust_nlp.certification import Certificate, VoteCounts, certificate_from_votes
from robust_nlp.mechanisms import TextMechanism


@dataclass(frozen=True, kw_only=True)
class CertifiedText:
    """One text of a run.

    Attributes:
        example_id: Position in the split.
        text_hash: Key of the text; texts with the same key have the same votes.
        text: The text itself.
        pair: Its partner text, if inputs are pairs.
        label: The true class; `None` in a run that is reported without labels.
        certificates: The certificate against each attacker, by the attacker's name.
        votes_asked: Noisy texts drawn or enumerated.
        votes_classified: Noisy texts that were classified first for this text.
        seconds: Time of one process.
    """

    example_id: int
    text_hash: str
    text: str
    pair: str | None
    label: int | None
    certificates: Mapping[str, Certificate]
    votes_asked: int
    votes_classified: int
    seconds: float

    @property
    def first(self) -> Certificate:
        """The certificate against the first attacker of the recipe."""
        return next(iter(self.certificates.values()))

    @property
    def right(self) -> bool:
        """Whether the text has an answer and, if its label is known, the right one."""
        return not self.first.abstains and self.label in (None, self.first.predicted)

    @property
    def vacuous(self) -> bool:
        """Whether certificates are about nothing, as no word has a substitute that is covered.

        Texts of the dead zone are counted as such.
        """
        return self.first.vacuous and not self.first.dead_zone

    @property
    def trivial(self) -> bool:
        """Whether certificates are true by necessity, and so say nothing about the text."""
        return self.first.vacuous or self.first.dead_zone

    def survives(self, attacker: str, radius: int) -> bool:
        """Tell whether the answer is right and provably stays so under `radius` edits."""
        certified = self.certificates[attacker].radius
        return self.right and certified is not None and certified >= radius


def certify_rows(
    rows: Sequence[Mapping[str, Any]],
    mechanism: TextMechanism,
    *,
    alpha: float,
    attackers: Sequence[str],
) -> list[CertifiedText]:
    """Return the certificates that follow from stored votes.

    Labels are left out altogether if one of them is missing: a share of right answers would then
    be none of the run.

    Args:
        rows: Certificate rows of a run directory.
        mechanism: The mechanism under which the votes were cast.
        alpha: Failure probability of one text; 0 if all votes were enumerated.
        attackers: Names of attackers that the mechanism covers; one at least.
    """
    labelled = all(row["label"] is not None for row in rows)
    return [
        CertifiedText(
            example_id=row["example_id"],
            text_hash=row["text_hash"],
            text=row["text"],
            pair=row["pair"],
            label=row["label"] if labelled else None,
            certificates={
                name: certificate_from_votes(votes, mechanism, alpha=alpha, attacker=name)
                for name in attackers
            },
            votes_asked=row["votes_asked"],
            votes_classified=row["votes_classified"],
            seconds=row["seconds"],
        )
        for row in rows
        for votes in [votes_of_row(row)]
    ]


def votes_of_row(row: Mapping[str, Any]) -> VoteCounts:
    """Read the votes of a certificate row."""
    return VoteCounts(
        n_units=row["n_units"],
        exact=tuple(row["exact"]),
        remainder=row["remainder"],
        selection=tuple(row["selection"]),
        looks=tuple(tuple(counts) for counts in row["looks"]),
        schedule=tuple(row["schedule"]),
        profile=tuple(tuple(costs) for costs in row.get("profile") or ()),
    )
