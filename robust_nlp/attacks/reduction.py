"""How few words leave a prediction as it is: not robustness, but a sign of what a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from robust_nlp.attacks.needs import Given
from robust_nlp.attacks.plans import check
from robust_nlp.attacks.recipes import COLUMNS
from robust_nlp.augmentation.attacks import attack_text
from robust_nlp.augmentation.importance import Scores
from robust_nlp.augmentation.textattack_import import own_randomness, textattack
from robust_nlp.augmentation.victim import Victim
from robust_nlp.base_classifier import Side, Text
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.units import keyed_rng


class Reduced(NamedTuple):
    """What is left of a text.

    Attributes:
        method: "input-reduction", with the name of a stop-word list of our own where it was used.
        text: The text.
        left: What is left of it, with the same prediction; the text itself if no word could go.
        predicted: Class index of both.
        queries: Questions to the classifier, as TextAttack counts them.
        error: What went wrong in TextAttack, as it does for some texts.
    """

    method: str
    text: Text
    left: Text
    predicted: int
    queries: int
    error: str = ""


def reduce_inputs(
    classifier: HuggingFaceClassifier | Scores,
    texts: Sequence[Text],
    *,
    seed: int = 0,
    scores: Literal["logits", "probabilities"] = "logits",
    protected: Side = "second",
) -> list[Reduced]:
    """Leave out words, the least important first, as long as the prediction stays.

    This is input reduction of TextAttack. Its goal is the same class for fewer words, so that its
    results say nothing about robustness, and no suite of attacks takes it.

    Args:
        classifier: The classifier; see `robust_nlp.augmentation.Victim`.
        texts: The texts, or pairs.
        seed: Seed, at least 0.
        scores: What a function returns.
        protected: Which text of a pair stays as it is.

    Raises:
        MissingExtraError: If TextAttack cannot be imported.
        ModelError: If the classifier cannot be used.

    Source: Feng et al., "Pathologies of Neural Models Make Interpretations Difficult" (2018).
    """
    victim = Victim(classifier, scores=scores)
    recipe = textattack("attack_recipes").InputReductionFeng2018
    method = check("input-reduction", recipe.__name__, Given()).title("input-reduction")
    with own_randomness(0):
        attack = recipe.build(victim)
    columns = textattack("constraints.pre_transformation").InputColumnModification
    hidden = COLUMNS[0] if protected == "first" else COLUMNS[1]
    attack.pre_transformation_constraints.append(columns(list(COLUMNS), {hidden}))
    found = []
    for i, text in enumerate(texts):
        predicted = int(victim([text])[0].argmax())
        drawn = int(keyed_rng(seed, "reduction", i).integers(2**63))
        row = attack_text(attack, text, predicted, seed=drawn)
        found.append(Reduced(method, text, row.text, predicted, row.queries, row.error))
    return found
