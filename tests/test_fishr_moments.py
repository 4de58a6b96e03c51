"""Variances without per-example gradients: how they are numerically, in memory, over processes."""

import pytest
import torch
import torch.nn.functional as F
from fishr_oracles import Threads, batch_of, largest_error, linear_gradients, variances
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robust_nlp.fishr.batch import alternate, domain_batch
from robust_nlp.fishr.moments import gradient_variances, half_variances
from robust_nlp.fishr.penalty import batch_penalty, fishr_penalty


def one_pass(features, logits, labels):
    """Mean of squares less square of the mean: the form that is not safe."""
    d = logits.softmax(dim=1) - F.one_hot(labels, logits.shape[1])
    first = d.T @ features / len(d)
    return ((d * d).T @ (features * features) / len(d) - first**2).flatten()


@pytest.mark.parametrize(
    ("mean", "deviation", "single_class"),
    [(0.0, 1.0, False), (3.0, 0.1, False), (3.0, 0.1, True), (60.0, 0.5, True)],
)
def test_float32_is_enough_for_single_classes_and_outlier_features(mean, deviation, single_class):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(32, 768, generator=generator)
    features = features * (0.1 if mean else 1.0) + (3.0 if mean else 0.0)
    features[:, 5] = mean + deviation * torch.randn(32, generator=generator)
    weight = torch.randn(2, 768, generator=generator) * 0.02
    weight[:, 5] = 0.0
    labels = torch.zeros(32, dtype=torch.long) if single_class else torch.arange(32) % 2
    logits = features @ weight.T
    batch = domain_batch(features, logits, labels, torch.zeros(32, dtype=torch.long), bias=False)
    d = logits.double().softmax(dim=1) - F.one_hot(labels, 2)
    gradients = d[:, :, None] * features.double()[:, None]
    exact = gradients.var(dim=0, unbiased=False).flatten()

    found = gradient_variances(batch, 1).values[0].double()
    error = float(((found - exact).abs() / exact).max())
    assert error < 1e-5
    assert found.min() > 0.0
    naive = one_pass(features, logits, labels).double()
    if single_class:
        assert float(((naive - exact).abs() / exact).max()) > 10 * error


def test_gradients_are_safe_in_float32_as_well():
    features, weight, bias, labels, domains = batch_of(rows=48, hidden=12, dtype=torch.float32)
    labels = domains.clone()  # one class in each domain
    with torch.no_grad():
        features.mul_(0.1).add_(20.0)
        weight.mul_(0.05)

    def gradient(x):
        x = x.detach().requires_grad_()
        logits = F.linear(x, weight.to(x.dtype), bias.to(x.dtype))
        penalty = fishr_penalty(x, logits, labels, domains, relative=True)
        return torch.autograd.grad(penalty, x)[0]

    assert largest_error(gradient(features), gradient(features.double())) < 1e-4


# --- memory --------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation returns, backward ones included."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.numbers = max(self.numbers, leaf.numel())
        return result


def largest_in(work) -> int:
    with LargestTensor() as watched:
        work()
    return watched.numbers


def test_no_tensor_is_as_large_as_the_per_example_gradients():
    rows, classes, hidden, domains = 128, 150, 64, 4
    features = torch.randn(rows, hidden).requires_grad_()
    weight = (0.1 * torch.randn(classes, hidden)).requires_grad_()
    labels, of = torch.arange(rows) % classes, torch.arange(rows) % domains

    def closed_form():
        fishr_penalty(features, features @ weight.T, labels, of).backward()

    def explicit():
        linear_gradients(features, weight, None, labels, F.cross_entropy)

    assert largest_in(explicit) >= rows * classes * hidden
    assert largest_in(closed_form) < rows * classes * hidden / 5


# --- domains and processes -----------------------------------------------------------------------


def oracle(features, weight, bias, labels, domains, **kind):
    def loss(logits, labels):
        return F.cross_entropy(logits, labels, reduction="none")

    return torch.stack(
        variances(linear_gradients(features, weight, bias, labels, loss), domains, **kind)
    )


def batch_from(features, weight, bias, labels, domains, **more):
    return domain_batch(features, F.linear(features, weight, bias), labels, domains, **more)


def test_only_domains_that_occur_are_computed():
    *inputs, labels, domains = batch_of()
    far = torch.tensor([7, 300, 999])[domains]
    found = gradient_variances(batch_from(*inputs, labels, far), 1000)
    assert found.domains.tolist() == [7, 300, 999]
    assert found.counts.tolist() == domains.bincount().tolist()
    assert largest_error(found.values, oracle(*inputs, labels, domains)) < 1e-12


KINDS = [{}, {"centred": False}, {"unbiased": True}]

#: Process of each of 24 rows: uneven, and the last domain on one process only.
PLACES = torch.tensor([0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])


def spread_out(work, *, factor=None):
    """Average over two processes the gradients of `work(batch, reduce)`, as DDP does."""
    features, weight, bias, labels, domains = batch_of(seed=7)
    places = torch.where(domains == 2, 0, PLACES)
    halves = alternate(domains)
    assert set(domains[places == 1].tolist()) == {0, 1}

    def of(rows, reduce):
        part = batch_from(
            features[rows], weight, bias, labels[rows], domains[rows], halves=halves[rows]
        )
        value = work(part, reduce)
        return value.detach(), torch.autograd.grad(value, (features, weight, bias))

    value, expected = of(slice(None), lambda sums: sums)
    results = Threads(2, factor).run(lambda rank, reduce: of(places == rank, reduce))
    averaged = [sum(parts) / 2 for parts in zip(*(r[1] for r in results), strict=True)]
    return [value, *(r[0] for r in results)], expected, averaged


def some_objective(batch, reduce, **kind):
    """A function of the variances that tells them all apart."""
    values = gradient_variances(batch, 3, reduce=reduce, **kind).values
    weights = torch.linspace(0.5, 2.0, values.numel(), dtype=values.dtype)
    return (weights.view_as(values) * values.square()).sum()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_two_processes_compute_what_one_does(kind):
    values, expected, averaged = spread_out(lambda b, r: some_objective(b, r, **kind))
    assert max(abs(value / values[0] - 1.0) for value in values) < 1e-12
    for ours, theirs in zip(averaged, expected, strict=True):
        assert largest_error(ours, theirs) < 1e-11


def test_two_processes_split_domains_as_one_does():
    values, expected, averaged = spread_out(
        lambda b, r: batch_penalty(b, "abc", reduce=r, estimator="cross_split")
    )
    assert max(abs(value / values[0] - 1.0) for value in values) < 1e-12
    for ours, theirs in zip(averaged, expected, strict=True):
        assert largest_error(ours, theirs) < 1e-11


def test_without_the_number_of_processes_gradients_are_too_small():
    _, expected, averaged = spread_out(some_objective, factor=1)
    torch.testing.assert_close(averaged[0] * 2, expected[0])
    assert largest_error(averaged[0], expected[0]) > 0.4


def test_processes_by_themselves_see_another_penalty():
    *_, expected, averaged = spread_out(lambda b, _: batch_penalty(b, "abc"))
    assert largest_error(averaged[0], expected[0]) > 0.1


# --- halves --------------------------------------------------------------------------------------


def test_rows_of_a_group_alternate():
    groups = torch.tensor([2, 0, 2, 2, 0, -1, 2, 0, -1])
    assert alternate(groups).tolist() == [0, 0, 1, 0, 1, 0, 1, 0, 1]
    assert alternate(groups[:0]).tolist() == []


def test_halves_have_the_rows_they_are_told():
    *inputs, labels, domains = batch_of(rows=40, seed=8)
    halves = (torch.arange(40) // 3) % 2
    batch = batch_from(*inputs, labels, domains, halves=halves)
    for found, half in zip(half_variances(batch, 3), (0, 1), strict=True):
        rows = halves == half
        expected = oracle(inputs[0][rows], *inputs[1:], labels[rows], domains[rows], unbiased=True)
        assert found.domains.tolist() == [0, 1, 2]
        assert largest_error(found.values, expected) < 1e-12
