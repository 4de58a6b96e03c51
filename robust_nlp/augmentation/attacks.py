"""TextAttack's recipes against a victim, one text at a time, with randomness of its own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import torch

from robust_nlp.attacks.needs import Given
from robust_nlp.attacks.recipes import COLUMNS, build
from robust_nlp.augmentation.settings import Adversarial
from robust_nlp.augmentation.textattack_import import own_randomness
from robust_nlp.augmentation.victim import Victim
from robust_nlp.base_classifier import Side, Text
from robust_nlp.errors import RobustNLPError

#: How an attack can end; "skipped" texts were misclassified as they are.
Outcome = Literal["success", "failed", "skipped", "error"]


class AttackedRow(NamedTuple):
    """What an attack made of a text.

    Attributes:
        text: The adversarial text; after any other outcome than "success", the text as it was.
        outcome: How the attack ended.
        queries: Questions to the classifier, as TextAttack counts them.
        error: What went wrong, for the outcome "error".
    """

    text: Text
    outcome: Outcome
    queries: int
    error: str = ""


def build_attack(settings: Adversarial, victim: Victim, *, protected: Side = "second") -> Any:
    """Build the attack that the settings name; see `robust_nlp.attacks.recipes.build`.

    Args:
        settings: What to build.
        victim: The classifier.
        protected: Which text of a pair is never attacked.

    Raises:
        MissingExtraError: If TextAttack cannot be imported.
        DataError: If the recipe lacks data or a model; the message says what brings it.
    """
    attack = build(settings.recipe, victim, given=Given(swaps=settings.swaps), protected=protected)
    if settings.max_queries is not None:
        attack.goal_function.query_budget = settings.max_queries
    return attack


def attack_text(attack: Any, text: Text, label: int, *, seed: int) -> AttackedRow:
    """Attack one text.

    The result depends on the arguments alone, not on what was attacked before.

    Args:
        attack: See `build_attack`.
        text: The text, or a pair.
        label: Its class index.
        seed: Seed of the attack, at least 0.

    Raises:
        RobustNLPError: If the victim fails. What fails in TextAttack itself, as it does for some
            texts, is an outcome.
    """
    example = text if isinstance(text, str) else OrderedDict(zip(COLUMNS, text, strict=True))
    with own_randomness(seed):
        try:
            result = attack.attack(example, int(label))
        except (RobustNLPError, MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # texts of odd characters end in errors of many kinds
            attack.clear_cache()
            return AttackedRow(text, "error", 0, f"{type(error).__name__}: {error}")
    outcomes: dict[str, Outcome] = {
        "SuccessfulAttackResult": "success",
        "MaximizedAttackResult": "success",  # of goals that are reached more or less
        "SkippedAttackResult": "skipped",
    }
    outcome = outcomes.get(type(result).__name__, "failed")
    found = result.perturbed_result.attacked_text.tokenizer_input
    return AttackedRow(found if outcome == "success" else text, outcome, int(result.num_queries))
