"""Accuracy and loss by domain, in evaluations of a Trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import EvalPrediction

from robust_nlp.fishr.domains import DomainNames

FloatArray = npt.NDArray[np.float64]

#: Scores a row: takes logits and labels, returns losses, whether right, and whether it counts.
Score = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def domain_metrics(
    right: FloatArray, losses: FloatArray, domains: npt.NDArray[np.int64], names: Sequence[str]
) -> dict[str, float]:
    """Return accuracy and mean loss of each domain that has rows, and of the worst.

    Args:
        right: 1 where the answer is right, else 0; shape `(rows,)`.
        losses: Loss of each row.
        domains: Index of each row's domain; rows of unknown domains are in `accuracy` alone.
        names: The names of the domains.

    Returns:
        `accuracy`, and for each domain `<name>_accuracy` and `<name>_loss`; with a domain,
        `worst_domain_accuracy`, `worst_domain_loss` and `mean_domain_accuracy`, the mean in which
        domains count alike. Nothing without rows.
    """
    if not len(right):
        return {}
    metrics = {"accuracy": float(right.mean())}
    by_domain = []
    for index in np.unique(domains[domains >= 0]):
        rows = domains == index
        by_domain.append((float(right[rows].mean()), float(losses[rows].mean())))
        name = names[index]
        metrics[f"{name}_accuracy"], metrics[f"{name}_loss"] = by_domain[-1]
    if by_domain:
        accuracies, mean_losses = zip(*by_domain, strict=True)
        metrics["worst_domain_accuracy"] = min(accuracies)
        metrics["worst_domain_loss"] = max(mean_losses)
        metrics["mean_domain_accuracy"] = sum(accuracies) / len(accuracies)
    return metrics


class DomainMetrics:
    """The two functions of an evaluation, `compute_metrics` and what goes before it.

    They add metrics by domain to those of the user, whose functions see what they would see in a
    plain Trainer. Values of the user go before values of the same name.

    Args:
        domains: The names of the domains.
        score: Scores rows.
        preprocess: The user's `preprocess_logits_for_metrics`.
        compute: The user's `compute_metrics`.
    """

    def __init__(
        self,
        domains: DomainNames,
        score: Score,
        preprocess: Callable[[Any, Any], Any] | None,
        compute: Callable[..., dict[str, Any]] | None,
    ) -> None:
        self._domains, self._score = domains, score
        self._preprocess, self._compute = preprocess, compute
        self._rows: list[FloatArray] = []

    def preprocess(self, logits: Any, labels: Any) -> Any:
        """Score the rows of a batch, beside what the user makes of their logits."""
        theirs = logits
        if labels is None:
            return theirs if self._preprocess is None else self._preprocess(logits, None)
        own = without_domains(labels)
        if self._preprocess is not None:
            theirs = self._preprocess(logits, own)
        scores = logits[0] if isinstance(logits, (tuple, list)) else logits
        given = own[0] if isinstance(own, tuple) else own
        losses, right, counts = self._score(scores, given)
        table = torch.stack([losses.float(), right.float(), counts.float()], dim=1)
        return theirs, table

    def compute(self, prediction: EvalPrediction, compute_result: bool | None = None) -> Any:
        """Return the metrics, or take up the rows of a batch if more are to come."""
        labels: Any = prediction.label_ids
        both: Any = prediction.predictions
        theirs, table = both
        domains = torch.as_tensor(labels[-1]).cpu().numpy()[:, None]
        self._rows.append(np.concatenate([torch.as_tensor(table).cpu().numpy(), domains], axis=1))
        metrics: dict[str, Any] = {}
        if self._compute is not None:
            given = EvalPrediction(
                predictions=theirs,
                label_ids=without_domains(labels),
                losses=prediction.losses,
                inputs=prediction.inputs,
            )
            more = {} if compute_result is None else {"compute_result": compute_result}
            metrics = self._compute(given, **more)
        if compute_result is False:
            return metrics
        rows = np.concatenate(self._rows)
        self._rows = []
        rows = rows[rows[:, 2] > 0.0]
        own = domain_metrics(rows[:, 1], rows[:, 0], rows[:, 3].astype(int), self._domains.names)
        return {**own, **metrics}


def without_domains(labels: Any) -> Any:
    """Take the domains, which come last, from the labels of an evaluation."""
    rest = labels[:-1]
    return rest[0] if len(rest) == 1 else rest
