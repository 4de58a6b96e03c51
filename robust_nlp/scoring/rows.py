"""Ask classifiers about texts and their perturbed versions, one row an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein

from robust_nlp.augmentation.importance import put_back
from robust_nlp.base_classifier import CallableClassifier, Side, Text, parts, split_pair
from robust_nlp.certification.plan import SamplingPlan
from robust_nlp.denoising.reading import protected_side
from robust_nlp.errors import DataError, ModelError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.scoring.answers import Classifier, answers_of, plain
from robust_nlp.scoring.base import Perturbation
from robust_nlp.scoring.importance import base_scores, gradient_x_embedding, leave_one_out
from robust_nlp.scoring.perturbations import DEFAULT
from robust_nlp.scoring.tables import CLEAN, RobustnessScores
from robust_nlp.units import keyed_rng, text_key


class Version(NamedTuple):
    """A text, or one version of it, and how it was made."""

    perturbation: str
    rate: float
    draw: int
    text: Text
    n_words: int
    edits: int


def score(
    classifiers: Classifier | Mapping[str, Classifier],
    texts: Sequence[Text],
    labels: Sequence[int],
    perturbations: Sequence[Perturbation] = DEFAULT,
    *,
    seed: int = 0,
    plan: SamplingPlan | None = None,
    protected: Side | None = None,
) -> RobustnessScores:
    """Measure by how much accuracy falls under perturbations.

    The robustness score is clean accuracy less accuracy under a perturbation: smaller is better.

    Args:
        classifiers: A classifier, or several by name, which then answer for the same texts and, of
            perturbations at random, for the same versions of them.
        texts: Texts, or pairs of texts of which one is protected.
        labels: One class index a text.
        perturbations: What is done to the texts.
        seed: Seed of perturbations and votes.
        plan: Votes of smoothed classifiers; `None` takes up to 500 at alpha 0.01.
        protected: Which text of a pair is never perturbed; `None` takes what a classifier says,
            else "second".

    Raises:
        DataError: If there are no texts, or not one label a text.
        ModelError: If a classifier cannot be used.
    """
    named = classifiers if isinstance(classifiers, Mapping) else {"classifier": classifiers}
    rows = score_rows(
        named, texts, labels, perturbations, seed=seed, plan=plan, protected=protected
    )
    return RobustnessScores.from_rows(rows)


def score_rows(
    classifiers: Mapping[str, Classifier],
    texts: Sequence[Text],
    labels: Sequence[int],
    perturbations: Sequence[Perturbation],
    *,
    seed: int = 0,
    plan: SamplingPlan | None = None,
    protected: Side | None = None,
    first_id: int = 0,
) -> list[dict[str, Any]]:
    """Return one row for each text, classifier, perturbation, rate and draw; see `score`.

    Versions of a text depend on the seed and the text alone, those in an order of importance on
    the base classifier as well. Equal versions are classified once.

    Args:
        classifiers: See `score`, as for what follows.
        texts: See `score`.
        labels: See `score`.
        perturbations: See `score`; their names must differ.
        seed: See `score`.
        plan: See `score`.
        protected: See `score`.
        first_id: Number of the first text.
    """
    if not texts or len(texts) != len(labels):
        raise DataError(
            f"expected one text at least, and one label a text; got {len(texts)} texts and "
            f"{len(labels)} labels"
        )
    names = [perturbation.name for perturbation in perturbations]
    if len(set(names)) < len(names):
        raise DataError(f"two perturbations have the same name: {', '.join(sorted(names))}")
    made: dict[int, list[list[Version]]] = {}  # classifiers with the same base share versions
    rows = []
    for name, classifier in classifiers.items():
        base = plain(classifier)
        if id(base) not in made:
            side = protected or _side(base)
            made[id(base)] = _all_versions(base, texts, labels, perturbations, seed, side)
        versions = made[id(base)]
        answer = answers_of(classifier, plan=plan, seed=seed)
        answers = iter(answer([version.text for each in versions for version in each]))
        side = protected or _side(base)
        for i, (text, label, each) in enumerate(zip(texts, labels, versions, strict=True)):
            for version in each:
                predicted = next(answers)
                rows.append(
                    {
                        "example_id": first_id + i,
                        "text_hash": text_key(*parts(text)),
                        "classifier": name,
                        **version._asdict(),
                        "text": split_pair(version.text, side)[0],
                        "label": label,
                        "predicted": predicted,
                        "right": predicted == label,
                    }
                )
    # By text: what is made in parts is then the same as what is made at once.
    return sorted(rows, key=lambda row: int(row["example_id"]))


def versions_of(
    text: Text,
    perturbations: Sequence[Perturbation],
    *,
    seed: int,
    protected: Side = "second",
    importance: Mapping[str, FloatArray] | None = None,
) -> Iterator[Version]:
    """Yield a text as it is, and all its perturbed versions.

    Args:
        text: The text, or pair of texts.
        perturbations: What is done to it.
        seed: Seed of the run, at least 0.
        protected: Which text of a pair stays as it is.
        importance: Importance of the words of the text, by the name of how it was measured.
    """
    body, _ = split_pair(text, protected)
    words, key = body.split(), text_key(*parts(text))
    yield Version(CLEAN, 0.0, 0, text, len(words), 0)
    for perturbation in perturbations:
        known = None
        if perturbation.needs_importance:
            known = (importance or {}).get(getattr(perturbation, "importance", ""))
        for rate in perturbation.rates:
            for draw in range(perturbation.draws):
                # The same for all rates, so that versions build on each other.
                rng = keyed_rng(seed, "score", perturbation.kind, key, draw)
                changed = perturbation.perturb(body, rate, rng, known)
                edits = Levenshtein.distance(words, changed.split())
                whole = put_back(changed, text, protected)
                yield Version(perturbation.name, rate, draw, whole, len(words), edits)


def _all_versions(
    base: Any,
    texts: Sequence[Text],
    labels: Sequence[int],
    perturbations: Sequence[Perturbation],
    seed: int,
    protected: Side,
) -> list[list[Version]]:
    kinds = {
        str(getattr(each, "importance", "")) for each in perturbations if each.needs_importance
    }
    found = {kind: _importance(base, kind, texts, labels, protected) for kind in sorted(kinds)}
    return [
        list(
            versions_of(
                text,
                perturbations,
                seed=seed,
                protected=protected,
                importance={kind: each[i] for kind, each in found.items()},
            )
        )
        for i, text in enumerate(texts)
    ]


def _importance(
    base: Any, kind: str, texts: Sequence[Text], labels: Sequence[int], protected: Side
) -> list[FloatArray]:
    if kind == "leave_one_out":
        known = isinstance(base, HuggingFaceClassifier | CallableClassifier)
        scores = base_scores(base) if known else base
        return leave_one_out(scores, texts, labels, protected=protected)
    if not isinstance(base, HuggingFaceClassifier):
        raise ModelError(
            f"{kind} needs the gradients of a HuggingFaceClassifier; use importance: leave_one_out "
            "with a function of texts"
        )
    return gradient_x_embedding(base, texts, labels)


def _side(base: Any) -> Side:
    known = isinstance(base, HuggingFaceClassifier | CallableClassifier)
    return protected_side(base) if known else "second"
