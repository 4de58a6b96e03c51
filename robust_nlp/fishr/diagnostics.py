"""Whether a batch can tell domains apart: its noise, its rows, its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from robust_nlp.fishr.batch import DomainBatch, Reduce, one_process
from robust_nlp.fishr.moments import half_variances, membership
from robust_nlp.fishr.penalty import spread


@dataclass(frozen=True, kw_only=True)
class BatchDiagnosis:
    """What a batch says about domains, over all processes.

    Attributes:
        rows: Rows of each domain in the batch.
        effective_rows: How many rows with gradients of equal size would vary as much in size; far
            below `rows` where few rows have large losses.
        single_label: Domains with two rows or more, all of one label. Their residuals hardly vary,
            so that their variances are those of features.
        penalty: Penalty of this batch alone, where a domain's variance is the mean of the unbiased
            variances of its halves; `None` with fewer than two domains of four rows.
        noise: What this penalty would be, in expectation, if domains were alike; or `None`.
    """

    rows: dict[str, int]
    effective_rows: dict[str, float]
    single_label: tuple[str, ...]
    penalty: float | None
    noise: float | None


@torch.no_grad()
def diagnose(
    batch: DomainBatch, names: Sequence[str], *, reduce: Reduce = one_process
) -> BatchDiagnosis:
    """Describe a batch.

    The noise is estimated from how much the variances of two halves of each domain differ. Both
    numbers vary much from batch to batch; take their means over many.

    Args:
        batch: The rows of this process.
        names: Names of the domains.
        reduce: Sums over processes; called three times.

    Raises:
        ValueError: If a domain index is too large.
    """
    groups = batch.groups(len(names))
    member = membership(groups, len(names), batch.losses.dtype)
    classes = max(batch.logits.shape[1], 2)
    labels = membership(torch.where(groups < 0, -1, batch.labels), classes, member.dtype).T
    sizes = torch.zeros_like(batch.losses)  # squared norms of rows' gradients
    for layer in batch.layers:
        of_inputs = layer.inputs.square().sum(dim=1) + float(layer.bias)
        sizes = sizes + layer.gradients.square().sum(dim=1) * of_inputs
    columns = torch.cat([labels, sizes[:, None], sizes[:, None].square()], dim=1)
    totals = reduce(member @ columns).double().cpu()
    counts = totals[:, :classes]
    here = [domain for domain, count in enumerate(counts.sum(dim=1).tolist()) if count]
    effective = totals[:, -2].square() / totals[:, -1]
    first, second = half_variances(batch, len(names), reduce=reduce)
    e = len(first.domains)
    penalty = noise = None
    if e >= 2:
        mean = (first.values + second.values) / 2.0
        penalty = float(spread(mean, mean))
        squares = ((first.values - second.values) / 2.0).square()  # the variance of `mean`
        noise = float((e - 1) / e * squares.mean())
    return BatchDiagnosis(
        rows={names[i]: int(counts[i].sum()) for i in here},
        effective_rows={names[i]: float(effective[i].nan_to_num()) for i in here},
        single_label=tuple(
            names[i] for i in here if counts[i].sum() >= 2 and (counts[i] > 0).sum() == 1
        ),
        penalty=penalty,
        noise=noise,
    )


def penalty_to_noise(penalty: float, noise: float, *, gamma: float = 0.0) -> float:
    """Return the ratio of a penalty to what of it is noise: 1 if domains are alike.

    Below 2, the penalty mostly lowers gradient variances everywhere.

    Args:
        penalty: Mean of `BatchDiagnosis.penalty` over batches, at least 0.
        noise: Mean of `BatchDiagnosis.noise`, above 0.
        gamma: Weight of the past in a moving average of variances, which lowers the noise to
            (1 - gamma) / (1 + gamma) of it.

    Raises:
        ValueError: If a number is not as described.
    """
    if not (penalty >= 0.0 and noise > 0.0 and 0.0 <= gamma < 1.0):
        raise ValueError(
            "expected penalty >= 0, noise > 0 and 0 <= gamma < 1; got "
            f"penalty={penalty}, noise={noise}, gamma={gamma}"
        )
    averaged = noise * (1.0 - gamma) / (1.0 + gamma)
    return (max(penalty - noise, 0.0) + averaged) / averaged
