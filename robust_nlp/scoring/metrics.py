"""Robustness as `evaluate.Metric`, for `Trainer(compute_metrics=...)` and whatever takes one.

Nothing is downloaded. An abstention is a prediction of `None`, and counts as wrong where a metric
does not say otherwise. Ends of intervals at 95 % are called `..._low` and `..._high`.

    accuracy = WorstGroupAccuracy()
    trainer = Trainer(..., compute_metrics=for_trainer(accuracy, groups=validation["domain"]))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import datasets
import evaluate  # type: ignore[import-untyped]
import numpy as np

from robust_nlp.errors import DataError
from robust_nlp.scoring.estimates import Estimate, difference, mean

if TYPE_CHECKING:
    from robust_nlp.base_classifier import Text
    from robust_nlp.certification import SamplingPlan
    from robust_nlp.smoothing import SmoothedClassifier

_INT = datasets.Value("int64")


class _Metric(evaluate.Metric):  # type: ignore[misc]
    """A metric whose inputs are columns: predictions, references, and those of `columns`."""

    columns: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **kwargs: Any) -> None:
        # Inputs of a metric are small: nothing needs a cache on disk.
        super().__init__(**{"keep_in_memory": True, **kwargs})

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": _INT, "references": _INT, **self.columns}
        description = (type(self).__doc__ or "").strip()
        return evaluate.MetricInfo(
            description=description,
            citation="",
            inputs_description=description,
            features=datasets.Features(features),
        )


class RobustnessScore(_Metric):
    """Clean accuracy less accuracy on perturbed texts: smaller is better.

    `predictions` are those of the perturbed texts, `clean_predictions` those of the same texts as
    they are, in the same order.

    Returns `robustness_score`, `clean_accuracy` and `accuracy`, with intervals; that of the score
    pairs the texts.
    """

    columns: ClassVar[Mapping[str, Any]] = {"clean_predictions": _INT}

    def _compute(
        self,
        *,
        predictions: Sequence[int | None],
        references: Sequence[int],
        clean_predictions: Sequence[int | None],
    ) -> dict[str, float]:
        clean, right = _right(clean_predictions, references), _right(predictions, references)
        return {
            **_named("robustness_score", difference(clean, right)),
            **_named("clean_accuracy", mean(clean)),
            **_named("accuracy", mean(right)),
        }


class CertifiedAccuracy(_Metric):
    """Share of texts whose answer is right and certified at least up to a radius.

    `certified_radii` are the radii of the certificates, `None` where the classifier abstains.
    `radii`, an argument of `compute`, are those of interest, in whole edits from 0.

    Returns `certified_accuracy_at_<radius>` for each, with intervals.
    """

    columns: ClassVar[Mapping[str, Any]] = {"certified_radii": _INT}

    def _compute(
        self,
        *,
        predictions: Sequence[int | None],
        references: Sequence[int],
        certified_radii: Sequence[int | None],
        radii: Sequence[int] = (0, 1),
    ) -> dict[str, float]:
        right = _right(predictions, references)
        found: dict[str, float] = {}
        if any(not isinstance(radius, Integral) or radius < 0 for radius in radii):
            raise ValueError(f"radii are whole numbers from 0; got {list(radii)}")
        for radius in map(int, radii):
            far = [each is not None and each >= radius for each in certified_radii]
            found |= _named(f"certified_accuracy_at_{radius}", mean(right * np.array(far)))
        return found


class AbstentionAwareAccuracy(_Metric):
    """Accuracy of a classifier that may abstain, counted both ways.

    Returns `accuracy`, where an abstention is wrong, `accuracy_of_answers`, where it is left out
    (`None` if there is no answer at all), both with intervals, and `abstention_rate`. The second
    rises when a classifier abstains on what is hard: read it with the rate.
    """

    def _compute(
        self, *, predictions: Sequence[int | None], references: Sequence[int]
    ) -> dict[str, float | None]:
        right = _right(predictions, references)
        answered = np.array([each is not None for each in predictions])
        found: dict[str, float | None] = dict(_named("accuracy", mean(right)))
        if answered.any():
            found |= _named("accuracy_of_answers", mean(right[answered]))
        else:
            found["accuracy_of_answers"] = None
        return {**found, "abstention_rate": float(1.0 - answered.mean())}


class AttackSuccessRate(_Metric):
    """Share of the right answers that an attack made wrong.

    `predictions` are those of the attacked texts, `clean_predictions` those of the same texts
    before. Texts that were wrong before count neither way. An attack that makes a smoothed
    classifier abstain has succeeded.

    Returns `attack_success_rate`, with an interval, `None` if nothing was right before; and
    `robust_accuracy`, the share of all texts that were right and stayed so.
    """

    columns: ClassVar[Mapping[str, Any]] = {"clean_predictions": _INT}

    def _compute(
        self,
        *,
        predictions: Sequence[int | None],
        references: Sequence[int],
        clean_predictions: Sequence[int | None],
    ) -> dict[str, float | None]:
        clean, after = _right(clean_predictions, references), _right(predictions, references)
        found: dict[str, float | None] = {"attack_success_rate": None}
        if clean.any():
            found |= _named("attack_success_rate", mean(1.0 - after[clean > 0.0]))
        return {**found, **_named("robust_accuracy", mean(clean * after))}


class WorstGroupAccuracy(_Metric):
    """Accuracy in the group of texts where it is lowest, such as a domain or a class.

    `groups` is the group of each text, a name or a number; texts with `None` or "" are of no group,
    and count in `accuracy` alone.

    Returns `worst_group_accuracy` with an interval, `worst_group`, `average_group_accuracy` (the
    mean over groups) and `accuracy` (of all texts). The interval is that of the one group: that
    the lowest of many was picked makes it look worse than it is.
    """

    columns: ClassVar[Mapping[str, Any]] = {"groups": datasets.Value("string")}

    def add_batch(self, *, groups: Sequence[Any], **columns: Any) -> None:
        """Take a batch; see `evaluate.Metric.add_batch`."""
        super().add_batch(groups=["" if g is None else str(g) for g in groups], **columns)

    def _compute(
        self,
        *,
        predictions: Sequence[int | None],
        references: Sequence[int],
        groups: Sequence[str],
    ) -> dict[str, float | str]:
        right, member = _right(predictions, references), np.array(list(groups))
        names = sorted(set(groups) - {""})
        if not names:
            raise DataError("the worst group needs one text at least with the name of its group")
        each = {name: mean(right[member == name]) for name in names}
        worst = min(each, key=lambda name: each[name].value)
        return {
            **_named("worst_group_accuracy", each[worst]),
            "worst_group": worst,
            "average_group_accuracy": float(np.mean([found.value for found in each.values()])),
            "accuracy": float(right.mean()),
        }


def for_trainer(metric: evaluate.Metric, **columns: Any) -> Callable[[Any], dict[str, float]]:
    """Return a function for `Trainer(compute_metrics=...)` that takes the largest logit as answer.

    Args:
        metric: The metric.
        columns: What it needs besides predictions and references, in the order of the evaluation
            texts, such as `groups=...` or `clean_predictions=...`. What changes as the model
            learns is given as a function without arguments, which is called at each evaluation,
            such as `certified_radii=lambda: [...]`. `predictions` may be given in this way, too.

    Returns:
        From `EvalPrediction` to numbers; what is no number, such as a name, is left out.
    """

    def compute_metrics(prediction: Any) -> dict[str, float]:
        given = {name: list(col() if callable(col) else col) for name, col in columns.items()}
        if "predictions" not in given:
            logits = prediction.predictions
            logits = logits[0] if isinstance(logits, tuple) else logits
            given["predictions"] = np.argmax(logits, axis=-1).tolist()
        found = metric.compute(references=np.asarray(prediction.label_ids).tolist(), **given)
        return {name: value for name, value in found.items() if isinstance(value, float)}

    return compute_metrics


def certified_for_trainer(
    smoothed: SmoothedClassifier, texts: Sequence[Text], plan: SamplingPlan, *, seed: int = 0
) -> Callable[[Any], dict[str, float]]:
    """Return a function for `Trainer(compute_metrics=...)` that certifies at each evaluation.

    It returns what `CertifiedAccuracy` does, of radii 0, 1, 2 and 4, and `abstention_rate`, of the
    smoothed classifier around the model as it is then. Whoever picks a checkpoint by these numbers
    certifies it anew afterwards, with another seed and other texts.

    Args:
        smoothed: The smoothed classifier, whose base classifier holds the trainer's model.
        texts: The evaluation texts, in their order.
        plan: How many votes, at which alpha.
        seed: Seed of the noise.
    """

    def compute_metrics(prediction: Any) -> dict[str, float]:
        certificates = smoothed.certify(texts, plan, seed=seed)
        predictions = [each.predicted for each in certificates]
        found: dict[str, float] = CertifiedAccuracy().compute(
            predictions=predictions,
            references=np.asarray(prediction.label_ids).tolist(),
            certified_radii=[each.radius for each in certificates],
            radii=(0, 1, 2, 4),
        )
        return {**found, "abstention_rate": float(np.mean([each is None for each in predictions]))}

    return compute_metrics


def _right(predictions: Sequence[int | None], references: Sequence[int]) -> Any:
    if not references:
        raise DataError("a metric needs one text at least; got none")
    pairs = zip(predictions, references, strict=True)
    return np.array([float(answer is not None and answer == label) for answer, label in pairs])


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    return {
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
    }
