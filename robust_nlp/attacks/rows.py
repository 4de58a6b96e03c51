"""One row an example and attack: how it ended, what it cost, and how far the text moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from rapidfuzz.distance import Levenshtein

from robust_nlp.base_classifier import Side, Text, split_pair

#: How an attack on an example ended.
#: "success": the judge confirms another class. "failed": the search ended without one.
#: "skipped": the clean text is wrong already, or the smoothed classifier abstains on it.
#: "budget": the search would have used more forwards than it may; "timeout": more seconds.
#: "uncertain": the search found a text of another class, and the judge could not tell.
#: "error": TextAttack failed.
Outcome = Literal["success", "failed", "skipped", "budget", "timeout", "uncertain", "error"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, kw_only=True)
class AttackRow:
    """What an attack made of an example.

    All but `seconds` depend on classifier, settings, seed and example alone.

    Attributes:
        attack: Name of the attack.
        example_id: Which example.
        label: Its class index.
        outcome: How it ended; see `Outcome`.
        text: The clean text, or the first of a pair.
        pair: The second text of a pair.
        found: The adversarial text, after a success; for pairs, the text that was open to edits.
        clean_predicted: The judge's class of the clean text; `None` for abstention.
        found_predicted: The judge's class of the adversarial text.
        queries: Questions as TextAttack counts them.
        forwards: Forwards of the base classifier, without repetitions, the judge's included.
        judge_forwards: Forwards of the judge among them.
        flips: Texts of another class that the search believed to have found and had judged.
        edits: Fewest words inserted, deleted or substituted from the clean to the found text.
        edit_rate: Edits over the words of the clean text.
        characters: The same for characters.
        asked: Different texts that the search asked for.
        blind: Whether the scores of these, where there were three or more, lie so close together
            that the search had nothing to climb; texts of another class are left out.
        null_flip: How often an attack that changes nothing would have seen another class at least
            once, in `[0, 1]`; `None` without noise.
        seconds: Seconds, those shared with other examples in part.
        error: What went wrong.
    """

    attack: str
    example_id: int
    label: int
    outcome: Outcome
    text: str
    pair: str | None = None
    found: str | None = None
    clean_predicted: int | None = None
    found_predicted: int | None = None
    queries: int = 0
    forwards: int = 0
    judge_forwards: int = 0
    flips: int = 0
    edits: int | None = None
    edit_rate: float | None = None
    characters: int | None = None
    asked: int = 0
    blind: bool = False
    null_flip: float | None = None
    seconds: float = 0.0
    error: str = ""

    @property
    def attacked(self) -> bool:
        """Whether there was anything to attack."""
        return self.outcome != "skipped"


def distances(clean: Text, found: Text, protected: Side) -> dict[str, Any]:
    """Return how far an adversarial text is from the clean one, in edits.

    Departs: TextAttack compares words place by place, so that one inserted word counts as many.
    """
    before, after = split_pair(clean, protected)[0], split_pair(found, protected)[0]
    words = before.split()
    edits = int(Levenshtein.distance(words, after.split()))
    return {
        "edits": edits,
        "edit_rate": edits / max(1, len(words)),
        "characters": int(Levenshtein.distance(before, after)),
    }
