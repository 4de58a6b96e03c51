"""Slow and obvious ways to what robust_nlp.fishr computes, and processes that are threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap


def batch_of(rows=24, hidden=6, classes=3, domains=3, *, seed=0, dtype=torch.float64, scale=1.0):
    """Features, weight, bias, labels and domains (uneven) of a random batch."""
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return torch.tensor(rng.standard_normal(shape) * scale, dtype=dtype)

    features = (numbers(rows, hidden) + 0.5).requires_grad_()
    weight, bias = numbers(classes, hidden).requires_grad_(), numbers(classes).requires_grad_()
    labels = torch.tensor(rng.integers(classes, size=rows))
    of = torch.tensor(rng.permutation(np.minimum(np.arange(rows) % (domains + 1), domains - 1)))
    return features, weight, bias, labels, of


# --- per-example gradients -----------------------------------------------------------------------


def per_example_gradients(head: nn.Module, features, labels, loss) -> Tensor:
    """Gradients of each row's loss by all of the head's parameters; shape `(rows, parameters)`."""
    parameters = dict(head.named_parameters())

    def of_one(values, x, y):
        return loss(functional_call(head, values, (x[None],)), y[None]).sum()

    each = vmap(grad(of_one), in_dims=(None, 0, 0))(parameters, features, labels)
    return torch.cat([each[name].flatten(1) for name in parameters], dim=1)


def linear_gradients(features, weight, bias, labels, loss) -> Tensor:
    """Gradients of each row's loss by a linear head; differentiable in everything."""

    def of_one(w, b, x, y):
        logits = x @ w.T if b is None else x @ w.T + b
        return loss(logits[None], y[None]).sum()

    by = 0 if bias is None else (0, 1)
    each = vmap(grad(of_one, argnums=by), in_dims=(None, None, 0, 0))(
        weight, bias, features, labels
    )
    parts = (each,) if bias is None else each
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def variances(gradients: Tensor, domains: Tensor, *, centred=True, unbiased=False) -> list[Tensor]:
    """The variance of each domain that occurs, one row after the other."""
    found = []
    for domain in sorted(set(domains.tolist()) - {-1}):
        rows = gradients[domains == domain]
        mean = sum(rows) / len(rows) if centred else torch.zeros_like(rows[0])
        squares = sum((row - mean) ** 2 for row in rows)
        found.append(squares / (len(rows) - (1 if unbiased and centred else 0)))
    return found


def penalty_of(values: list[Tensor]) -> Tensor:
    """The mean over domains and parameters of squared deviations from the mean domain."""
    mean = sum(values) / len(values)
    return sum(((value - mean) ** 2).mean() for value in values) / len(values)


def largest_error(found, expected) -> float:
    """The largest error, relative to the largest expected number."""
    found, expected = (torch.as_tensor(x).detach() for x in (found, expected))
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-300))


# --- objectives, in NumPy loops ------------------------------------------------------------------


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def row_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array([-np.log(softmax(z)[y]) for z, y in zip(logits, labels, strict=True)])


def risks_of(logits, labels, domains) -> dict[int, float]:
    losses = row_losses(logits, labels)
    return {e: float(np.mean(losses[domains == e])) for e in sorted(set(domains.tolist()))}


def vrex(features, logits, labels, domains, weight) -> float:
    risks = list(risks_of(logits, labels, domains).values())
    mean = sum(risks) / len(risks)
    return mean + weight * sum((r - mean) ** 2 for r in risks) / len(risks)


def irm(features, logits, labels, domains, weight) -> float:
    """Derivatives by a factor of the logits, by central differences."""
    step, products = 1e-5, []
    for e in sorted(set(domains.tolist())):
        z, y = logits[domains == e], labels[domains == e]
        slopes = [
            np.mean(row_losses((1 + step) * z[half::2], y[half::2]))
            - np.mean(row_losses((1 - step) * z[half::2], y[half::2]))
            for half in (0, 1)
        ]
        products.append(slopes[0] * slopes[1] / (2 * step) ** 2)
    risks = list(risks_of(logits, labels, domains).values())
    return float(np.mean(risks) + weight * np.mean(products))


def coral(features, logits, labels, domains, weight) -> float:
    found = sorted(set(domains.tolist()))
    total = 0.0
    for i, e in enumerate(found):
        for f in found[i + 1 :]:
            one, two = features[domains == e], features[domains == f]
            total += np.mean((one.mean(axis=0) - two.mean(axis=0)) ** 2)
            total += np.mean((np.cov(one, rowvar=False) - np.cov(two, rowvar=False)) ** 2)
    pairs = len(found) * (len(found) - 1) / 2
    risks = list(risks_of(logits, labels, domains).values())
    return float(np.mean(risks) + weight * total / pairs)


# --- processes -----------------------------------------------------------------------------------


class Threads:
    """Threads in lock-step in place of processes, each with a sum over all of them."""

    def __init__(self, processes: int, factor: float | None = None) -> None:
        self._n = processes
        self._factor = processes if factor is None else factor
        self._barrier = threading.Barrier(processes, timeout=60)
        self._parts: list[Tensor | None] = [None] * processes

    def run(self, work: Callable) -> list:
        """Call `work(rank, reduce)` in each; return the results, or raise the first error."""
        results: list = [None] * self._n

        def one(rank: int) -> None:
            try:
                results[rank] = work(rank, lambda local: self._sum(rank, local))
            except BaseException as error:
                results[rank] = error
                self._barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self._n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def _sum(self, rank: int, local: Tensor) -> Tensor:
        self._parts[rank] = local.detach().clone()
        self._barrier.wait()
        total = torch.stack([part for part in self._parts if part is not None]).sum(dim=0)
        self._barrier.wait()
        return total + self._factor * (local - local.detach())
