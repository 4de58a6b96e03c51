"""Attacks of TextAttack: built by name, by class or by the user, and copied for many examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from robust_nlp.attacks.lockstep import ask
from robust_nlp.attacks.settings import NAMES
from robust_nlp.augmentation.attacks import build_attack
from robust_nlp.augmentation.settings import Adversarial
from robust_nlp.augmentation.textattack_import import (
    need_flair,
    need_nltk,
    own_randomness,
    textattack,
)
from robust_nlp.base_classifier import Side
from robust_nlp.errors import DataError, RobustNLPError, did_you_mean
from robust_nlp.swaps import SwapSetting

#: An attack as a user may name it: our name or the name of TextAttack's class, such a class, a
#: function that builds an attack on a victim, or an attack.
AnyAttack = Any

#: What recipes ask for only when they attack the first text.
_TAGGER = ("taggers/averaged_perceptron_tagger_eng", "taggers/universal_tagset")
_NLTK = {
    "A2TYoo2021": _TAGGER,
    "BAEGarg2019": _TAGGER,
    "TextFoolerJin2019": _TAGGER,
    "PWWSRen2019": ("corpora/wordnet",),
    "LEAP2023": ("corpora/wordnet",),
}
_FLAIR = {"CheckList2020": "ner", "CLARE2020": "upos-fast", "PSOZang2020": "upos-fast"}

#: Names of the two texts of a pair in TextAttack.
COLUMNS = ("first", "second")

#: Sentences that an encoder is given at a time.
ENCODED = 256


def attack_name(attack: AnyAttack) -> str:
    """Return the name that results carry."""
    if isinstance(attack, str):
        return next((ours for ours, theirs in NAMES.items() if theirs == attack), attack)
    kind = attack if isinstance(attack, type) else type(attack)
    if isinstance(attack, type) or kind.__name__ not in ("Attack", "function", "method"):
        return next(
            (ours for ours, theirs in NAMES.items() if theirs == kind.__name__), kind.__name__
        )
    return str(getattr(attack, "__name__", "attack"))


def attack_text(attack: AnyAttack, built: Any) -> str:
    """Say what an attack is made of; a name says it all.

    Args:
        attack: The attack as the user named it.
        built: What was built of it.
    """
    if isinstance(attack, str | type):
        return attack_name(attack)
    return re.sub(r" at 0x[0-9a-f]+", "", repr(built))


def cost_rank(attack: AnyAttack) -> int:
    """Return where an attack stands among all, the cheapest first; unknown ones come last."""
    names = list(NAMES)
    name = attack_name(attack)
    return names.index(name) if name in names else len(names)


def build(
    attack: AnyAttack, victim: Any, *, swaps: SwapSetting | None = None, protected: Side = "second"
) -> Any:
    """Return TextAttack's attack on a victim.

    Args:
        attack: Our name of a recipe, the name of TextAttack's class, a class with a `build` method,
            a function that takes the victim, or an attack, which is used as it is.
        victim: What TextAttack calls a model wrapper.
        swaps: For "a2t".
        protected: Which text of a pair is never attacked.

    Raises:
        MissingExtraError: If TextAttack cannot be imported.
        DataError: If there is no such recipe, if it lacks data or a model, or if its goal is not
            another class.
    """
    recipes = textattack("attack_recipes")
    if isinstance(attack, textattack().Attack):
        built = attack
    else:
        builder, known = _builder(attack, recipes, swaps), attack_name(attack)
        need_nltk(*_NLTK.get(NAMES.get(known, known), ()))
        if NAMES.get(known, known) in _FLAIR:
            need_flair(_FLAIR[NAMES.get(known, known)])
        try:
            with own_randomness(0):
                built = builder(victim)
        except RobustNLPError:
            raise
        except Exception as error:  # a recipe may fail in any way on what it tries to download
            raise DataError(
                f"TextAttack cannot build the attack {known!r}: {type(error).__name__}: {error}. "
                "It lacks a model or data that it downloads; without a network, use a2t, "
                "deepwordbug or pruthi"
            ) from error
    _check_goal(built, attack_name(attack))
    columns = textattack("constraints.pre_transformation").InputColumnModification
    hidden = COLUMNS[0] if protected == "first" else COLUMNS[1]
    built = copy_attack(built, built.goal_function)
    built.pre_transformation_constraints.append(columns(list(COLUMNS), {hidden}))
    for constraint in built.constraints:
        if isinstance(constraint, _encoder_class()):
            constraint.encode = CachedEncoder(constraint.encode)
    return built


def copy_attack(attack: Any, goal: Any) -> Any:
    """Return an attack with a goal and a state of its own; models and tables are shared.

    Args:
        attack: The attack.
        goal: The goal function of the copy.
    """
    new = _shallow(attack)
    textattack().Attack.__init__(
        new,
        goal,
        [_shallow(c) for c in (*attack.constraints, *attack.pre_transformation_constraints)],
        _copy_transformation(attack.transformation),
        _shallow(attack.search_method),
        transformation_cache_size=attack.transformation_cache_size,
        constraint_cache_size=attack.constraint_cache_size,
    )
    return new


class CachedEncoder:
    """A sentence encoder that meets each sentence once, and those of many examples together.

    Args:
        encode: Takes sentences, and returns a vector for each.
    """

    def __init__(self, encode: Callable[[list[str]], Any]) -> None:
        self._encode = encode
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, sentences: Sequence[str]) -> torch.Tensor:
        """Return vectors; shape `(sentences, dimensions)`."""
        return torch.stack(ask(self.vectors, sentences))

    def vectors(self, sentences: list[str]) -> list[torch.Tensor]:
        """Return a vector for each sentence."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._known]
        new.sort(key=len)
        for start in range(0, len(new), ENCODED):
            part = new[start : start + ENCODED]
            found = self._encode(part)
            if not isinstance(found, torch.Tensor):
                found = torch.from_numpy(np.asarray(found))
            self._known.update(zip(part, found.detach().cpu(), strict=True))
        return [self._known[sentence] for sentence in sentences]


def _builder(attack: AnyAttack, recipes: Any, swaps: SwapSetting | None) -> Callable[[Any], Any]:
    if attack == "a2t":
        return lambda victim: build_attack(Adversarial(recipe="a2t", swaps=swaps), victim)
    if isinstance(attack, str):
        theirs = NAMES.get(attack, attack)
        if not hasattr(recipes, theirs):
            raise DataError(
                f"there is no attack {attack!r}; known are {', '.join(NAMES)}, and the classes of "
                f"textattack.attack_recipes.{did_you_mean(attack, NAMES)}"
            )
        attack = getattr(recipes, theirs)
    if hasattr(attack, "build"):
        builder: Callable[[Any], Any] = attack.build
        return builder
    if callable(attack):
        builder = attack
        return builder
    raise DataError(
        "an attack is a name, a recipe of TextAttack (a class with a `build` method), a function "
        f"that builds an attack on a victim, or a textattack.Attack; got {type(attack).__name__}"
    )


def _check_goal(attack: Any, name: str) -> None:
    if not isinstance(attack, textattack().Attack):
        raise DataError(f"{name} built a {type(attack).__name__}, not a textattack.Attack")
    goals = textattack("goal_functions")
    goal = attack.goal_function
    if not isinstance(goal, (goals.UntargetedClassification, goals.TargetedClassification)):
        raise DataError(
            f"the goal of {name} is {type(goal).__name__}, not another class: its results say "
            "nothing about robustness. Use an attack with UntargetedClassification or "
            "TargetedClassification"
        )
    if goal.maximizable:
        raise DataError(
            f"{name} goes on after its goal is reached (maximizable=True); leave it out"
        )


def _copy_transformation(transformation: Any) -> Any:
    new = _shallow(transformation)
    if hasattr(new, "transformations"):
        new.transformations = [_copy_transformation(part) for part in new.transformations]
    return new


def _shallow(thing: Any) -> Any:
    """Copy without the detours that classes of TextAttack take when they are pickled."""
    new = object.__new__(type(thing))
    new.__dict__.update(thing.__dict__)
    return new


@cache
def _encoder_class() -> Any:
    return textattack("constraints.semantics.sentence_encoders").SentenceEncoder
