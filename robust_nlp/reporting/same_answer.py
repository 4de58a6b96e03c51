"""Whether a classifier gives nearly all texts the same answer, and so hardly reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

#: Answers from which on, share of one class among them, and by how much that must exceed the
#: class's own share, for saying that a classifier gives nearly always the same answer.
ANSWERS, SHARE, EXCESS = 20, 0.9, 0.2


@dataclass(frozen=True, kw_only=True)
class SameAnswer:
    """The class that a classifier gives most often.

    Attributes:
        label: Its index; the lower of two that are given as often.
        answers: Texts that it is given.
        answered: Texts that are given any class.
        true: Texts among the answered that are of that class; `None` without labels.
    """

    label: int
    answers: int
    answered: int
    true: int | None

    @classmethod
    def of(cls, predicted: Sequence[int], labels: Sequence[int] | None) -> SameAnswer | None:
        """Count the answers of a classifier; `None` if there are none.

        Args:
            predicted: Class index of each answer, abstentions left out.
            labels: True class index of each, if known.
        """
        if not len(predicted):
            return None
        found = Counter(predicted)
        label = min(found, key=lambda each: (-found[each], each))
        return cls(
            label=label,
            answers=found[label],
            answered=len(predicted),
            true=None if labels is None else sum(each == label for each in labels),
        )

    @property
    def hardly_reads(self) -> bool:
        """Whether nearly all answers are of one class although the texts are not.

        Such a classifier is hard to fool and easy to certify, and says little about a text. Without
        labels, every class that is given nearly always counts.
        """
        excess = self.answers - (self.true or 0)
        return (
            self.answered >= ANSWERS
            and self.answers >= SHARE * self.answered
            and excess >= EXCESS * self.answered
        )
