"""Attacks of TextAttack: built by name, by class or by the user, and copied for many examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from robust_nlp.attacks.lockstep import ask
from robust_nlp.attacks.needs import Given
from robust_nlp.attacks.plans import Plan, check
from robust_nlp.attacks.settings import NAMES
from robust_nlp.attacks.standins import building, finish, load_neighbours
from robust_nlp.augmentation.textattack_import import neighbours, own_randomness, textattack
from robust_nlp.base_classifier import Side
from robust_nlp.errors import DataError, RobustNLPError, did_you_mean

#: An attack as a user may name it: our name or the name of TextAttack's class, such a class, a
#: function that builds an attack on a victim, or an attack.
AnyAttack = Any

#: Names of the two texts of a pair in TextAttack.
COLUMNS = ("first", "second")

#: Sentences that an encoder is given at a time.
ENCODED = 256


def attack_name(attack: AnyAttack) -> str:
    """Return the name that results carry."""
    if isinstance(attack, str):
        return _ours(attack)
    kind = attack if isinstance(attack, type) else type(attack)
    if isinstance(attack, type) or kind.__name__ not in ("Attack", "function", "method"):
        return _ours(kind.__name__)
    return str(getattr(attack, "__name__", "attack"))


def plan_of(attack: AnyAttack, given: Given) -> Plan:
    """Return what an attack runs with, before anything is built.

    Args:
        attack: The attack as the user named it; what the user builds needs nothing that is known.
        given: What the user gives.

    Raises:
        DataError: If something is missing, with what brings it.
    """
    recipe = _recipe(attack)
    return Plan() if recipe is None else check(attack_name(attack), recipe, given)


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
    attack: AnyAttack, victim: Any, *, given: Given | None = None, protected: Side = "second"
) -> Any:
    """Return TextAttack's attack on a victim.

    "a2t" is that of Yoo and Qi (EMNLP Findings 2021): words in the order of the gradient, up to 20
    swaps each, the same part of speech, a tenth of the words or four at most. Words are ranked by
    leaving them out if the victim gives no gradient.

    Args:
        attack: Our name of a recipe, the name of TextAttack's class, a class with a `build` method,
            a function that takes the victim, or an attack, which is used as it is.
        victim: What TextAttack calls a model wrapper.
        given: What stands in for what is missing, and the swaps of "a2t"; `None` for neither.
        protected: Which text of a pair is never attacked.

    Raises:
        MissingExtraError: If TextAttack cannot be imported.
        DataError: If there is no such recipe, if it lacks data or a model, or if its goal is not
            another class.

    Departs: "a2t" is without A2T's sentence encoder, and with allowed swaps in place of word
        vectors. "bad-characters" wants any other class; TextAttack's recipe wants a given one.
    """
    given = given or Given()
    recipes = textattack("attack_recipes")
    plan = Plan()
    if isinstance(attack, textattack().Attack):
        built = attack
    else:
        builder, name = _builder(attack, recipes, given), attack_name(attack)
        plan = plan_of(attack, given)
        try:
            with (
                own_randomness(0),
                building(getattr(recipes, _recipe(attack) or "", None), plan, given),
            ):
                built = builder(victim)
        except RobustNLPError:
            raise
        except Exception as error:  # a recipe may fail in any way on what it tries to download
            raise DataError(
                f"TextAttack cannot build the attack {name!r}: {type(error).__name__}: {error}. "
                "What recipes need is said by: robust-nlp doctor"
            ) from error
    _check_goal(built, attack_name(attack))
    columns = textattack("constraints.pre_transformation").InputColumnModification
    hidden = COLUMNS[0] if protected == "first" else COLUMNS[1]
    built = copy_attack(built, built.goal_function)
    built.pre_transformation_constraints.append(columns(list(COLUMNS), {hidden}))
    finish(built, plan, given)
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


def _ours(theirs: str) -> str:
    """Return our name of a class of TextAttack; our A2T is not TextAttack's."""
    return next((ours for ours, name in NAMES.items() if name == theirs and ours != "a2t"), theirs)


def _recipe(attack: AnyAttack) -> str | None:
    """Return what the table of needs calls an attack; `None` for what TextAttack does not know."""
    if attack == "a2t":
        return "a2t"
    if isinstance(attack, str):
        return NAMES.get(attack, attack)
    own = isinstance(attack, type) and attack.__module__.startswith("textattack.")
    return attack.__name__ if own else None


def _builder(attack: AnyAttack, recipes: Any, given: Given) -> Callable[[Any], Any]:
    if attack == "a2t":
        return lambda victim: _a2t(given, victim)
    if isinstance(attack, str):
        theirs = NAMES.get(attack, attack)
        if not hasattr(recipes, theirs):
            raise DataError(
                f"there is no attack {attack!r}; known are {', '.join(NAMES)}, and the classes of "
                f"textattack.attack_recipes.{did_you_mean(attack, NAMES)}"
            )
        attack = getattr(recipes, theirs)
    if _recipe(attack) == "BadCharacters2021":
        return lambda victim: _bad_characters(attack, victim)
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


def _a2t(given: Given, victim: Any) -> Any:
    before = textattack("constraints.pre_transformation")
    speech = textattack("constraints.grammaticality").PartOfSpeech
    swap = textattack("transformations").WordSwapEmbedding(
        max_candidates=20, embedding=neighbours(load_neighbours(given.swaps))
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


def _bad_characters(kind: Any, victim: Any) -> Any:
    built = kind.build(victim, goal_function_type="targeted_classification")
    return copy_attack(built, textattack("goal_functions").UntargetedClassification(victim))


def _check_goal(attack: Any, name: str) -> None:
    if not isinstance(attack, textattack().Attack):
        raise DataError(f"{name} built a {type(attack).__name__}, not a textattack.Attack")
    goals = textattack("goal_functions")
    goal = attack.goal_function
    if isinstance(goal, goals.InputReduction):
        raise DataError(
            f"the goal of {name} is InputReduction, the same class for fewer words: its results "
            "say nothing about robustness. Use robust_nlp.attacks.reduce_inputs"
        )
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
