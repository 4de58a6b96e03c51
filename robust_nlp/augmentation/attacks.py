"""TextAttack's recipes against a victim, one text at a time, with randomness of its own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import torch

from robust_nlp.augmentation.settings import Adversarial
from robust_nlp.augmentation.textattack_import import (
    need_flair,
    need_nltk,
    neighbours,
    own_randomness,
    textattack,
)
from robust_nlp.augmentation.victim import Victim
from robust_nlp.base_classifier import Side, Text
from robust_nlp.errors import DataError, RobustNLPError
from robust_nlp.swaps import load_swaps

#: Our names of TextAttack's recipes.
_RECIPES = {
    "bae": "BAEGarg2019",
    "bert-attack": "BERTAttackLi2020",
    "checklist": "CheckList2020",
    "clare": "CLARE2020",
    "deepwordbug": "DeepWordBugGao2018",
    "iga": "IGAWang2019",
    "pruthi": "Pruthi2019",
    "pwws": "PWWSRen2019",
    "textbugger": "TextBuggerLi2018",
    "textfooler": "TextFoolerJin2019",
}

#: What recipes ask for only when they attack the first text.
_TAGGER = ("taggers/averaged_perceptron_tagger_eng", "taggers/universal_tagset")
_NLTK = {
    "a2t": _TAGGER,
    "bae": _TAGGER,
    "textfooler": _TAGGER,
    "pwws": ("corpora/wordnet",),
}
_FLAIR = {"checklist": "ner", "clare": "upos-fast"}

#: How an attack can end; "skipped" texts were misclassified as they are.
Outcome = Literal["success", "failed", "skipped", "error"]

_COLUMNS = ("first", "second")


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
    """Build the attack that the settings name.

    "a2t" is that of Yoo and Qi (EMNLP Findings 2021): words in the order of the gradient, up to 20
    swaps each, the same part of speech, a tenth of the words or four at most. Words are ranked by
    leaving them out if the victim gives no gradient.

    Args:
        settings: What to build.
        victim: The classifier.
        protected: Which text of a pair is never attacked.

    Raises:
        MissingExtraError: If TextAttack cannot be imported.
        DataError: If the recipe lacks data or a model; the message says what TextAttack says.

    Departs: Without A2T's sentence encoder, and with allowed swaps in place of word vectors.
    """
    recipes = textattack("attack_recipes")
    need_nltk(*_NLTK.get(settings.recipe, ()))
    if settings.recipe in _FLAIR:
        need_flair(_FLAIR[settings.recipe])
    try:
        with own_randomness(0):
            if settings.recipe == "a2t":
                attack = _a2t(settings, victim)
            else:
                attack = getattr(recipes, _RECIPES[settings.recipe]).build(victim)
    except RobustNLPError:
        raise
    except Exception as error:  # a recipe may fail in any way on what it tries to download
        raise DataError(
            f"TextAttack cannot build the recipe {settings.recipe!r}: "
            f"{type(error).__name__}: {error}. It lacks a model or data that it downloads; without "
            "a network, use a2t, deepwordbug or pruthi"
        ) from error
    columns = textattack("constraints.pre_transformation").InputColumnModification
    hidden = _COLUMNS[0] if protected == "first" else _COLUMNS[1]
    attack.pre_transformation_constraints.append(columns(list(_COLUMNS), {hidden}))
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
    example = text if isinstance(text, str) else OrderedDict(zip(_COLUMNS, text, strict=True))
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
        "SkippedAttackResult": "skipped",
    }
    outcome = outcomes.get(type(result).__name__, "failed")
    found = result.perturbed_result.attacked_text.tokenizer_input
    return AttackedRow(found if outcome == "success" else text, outcome, int(result.num_queries))


def _a2t(settings: Adversarial, victim: Victim) -> Any:
    assert settings.swaps is not None
    before = textattack("constraints.pre_transformation")
    speech = textattack("constraints.grammaticality").PartOfSpeech
    swap = textattack("transformations").WordSwapEmbedding(
        max_candidates=20, embedding=neighbours(load_swaps(settings.swaps))
    )
    goal = textattack("goal_functions").UntargetedClassification(victim, model_batch_size=32)
    ranking = "gradient" if victim.gives_gradients else "delete"
    return textattack().Attack(
        goal,
        [
            before.RepeatModification(),
            before.StopwordModification(),
            speech(allow_verb_noun_swap=False),
            before.MaxModificationRate(max_rate=0.1, min_threshold=4),
        ],
        swap,
        textattack("search_methods").GreedyWordSwapWIR(wir_method=ranking),
    )
