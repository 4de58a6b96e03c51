"""The penalty and its gradients, against per-example gradients by torch.func."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from fishr_oracles import (
    batch_of,
    largest_error,
    linear_gradients,
    penalty_of,
    per_example_gradients,
    variances,
)
from torch import nn

from robust_nlp.fishr.average import MovingAverage
from robust_nlp.fishr.batch import LinearCall, domain_batch
from robust_nlp.fishr.penalty import batch_penalty, fishr_penalty, spread
from robust_nlp.fishr.residuals import any_loss, residuals_of

cross_entropy = partial(F.cross_entropy, reduction="none")
WEIGHTS = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)


def focal(logits, labels):
    p = logits.softmax(dim=1).gather(1, labels[:, None]).squeeze(1)
    return -((1.0 - p) ** 2) * p.log()


LOSSES = {
    "cross-entropy": (residuals_of, cross_entropy),
    "label smoothing": (
        partial(residuals_of, label_smoothing=0.1),
        partial(cross_entropy, label_smoothing=0.1),
    ),
    "class weights": (
        partial(residuals_of, class_weights=WEIGHTS),
        partial(cross_entropy, weight=WEIGHTS),
    ),
    "both": (
        partial(residuals_of, class_weights=WEIGHTS, label_smoothing=0.2),
        partial(cross_entropy, weight=WEIGHTS, label_smoothing=0.2),
    ),
    "focal, by differentiation": (any_loss(focal), focal),
}


def oracle(features, weight, bias, labels, domains, loss=cross_entropy, **kind):
    gradients = linear_gradients(features, weight, bias, labels, loss)
    return penalty_of(variances(gradients, domains, **kind))


def closed_form(features, weight, bias, labels, domains, **settings):
    logits = F.linear(features, weight, bias)
    return fishr_penalty(features, logits, labels, domains, bias=bias is not None, **settings)


def assert_same(found, expected, inputs, tolerance):
    assert largest_error(found, expected) < tolerance
    gradients = (torch.autograd.grad(penalty, inputs) for penalty in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        assert largest_error(ours, theirs) < 10 * tolerance


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
def test_penalty_and_gradients_are_those_of_per_example_gradients(name, has_bias):
    ours, theirs = LOSSES[name]
    features, weight, bias, labels, domains = batch_of()
    bias = bias if has_bias else None
    inputs = [x for x in (features, weight, bias) if x is not None]
    found = closed_form(features, weight, bias, labels, domains, loss=ours)
    assert_same(found, oracle(features, weight, bias, labels, domains, theirs), inputs, 1e-12)


@pytest.mark.parametrize(
    "kind",
    [{"centred": False}, {"unbiased": True}, {"centred": False, "unbiased": True}],
    ids=str,
)
def test_other_variances_are_those_of_per_example_gradients(kind):
    *inputs, labels, domains = batch_of(seed=1)
    found = closed_form(*inputs, labels, domains, **kind)
    assert_same(found, oracle(*inputs, labels, domains, **kind), inputs, 1e-12)


def test_binary_loss_has_one_logit():
    features, weight, bias, labels, domains = batch_of(classes=1, seed=2)
    labels = torch.arange(len(labels)) % 2

    def loss(logits, labels):
        return F.binary_cross_entropy_with_logits(
            logits.squeeze(1), labels.to(logits.dtype), reduction="none"
        )

    ours = closed_form(features, weight, bias, labels, domains, loss=binary)
    theirs = oracle(features, weight, bias, labels, domains, loss)
    assert_same(ours, theirs, (features, weight, bias), 1e-12)


binary = partial(residuals_of, kind="binary")


def test_weighted_and_smoothed_binary_residuals_are_derivatives():
    logits = torch.linspace(-3, 3, 8, dtype=torch.float64)[:, None].requires_grad_()
    labels = torch.tensor([0, 1, 1, 0, 1, 0, -100, 1])
    losses, residuals = residuals_of(
        logits, labels, kind="binary", label_smoothing=0.1, class_weights=[0.5, 3.0]
    )
    p = logits.detach().sigmoid().squeeze(1)
    one, zero = (0.9 * (labels == y).double() + 0.05 for y in (1, 0))
    expected = -(3.0 * one * p.log() + 0.5 * zero * (1 - p).log())
    assert largest_error(losses[:6], expected[:6]) < 1e-12
    assert losses[6] == 0.0
    (derivative,) = torch.autograd.grad(losses.sum(), logits)
    assert largest_error(residuals, derivative) < 1e-12


def test_statistics_are_float32_under_autocast():
    *inputs, labels, domains = batch_of(dtype=torch.float32)
    expected = oracle(*(x.detach().double() for x in inputs), labels, domains)
    assert largest_error(closed_form(*inputs, labels, domains), expected) < 1e-5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = F.linear(*inputs)
        found = fishr_penalty(inputs[0], logits, labels, domains)
    assert (logits.dtype, found.dtype) == (torch.bfloat16, torch.float32)
    # Logits come in bfloat16, which moves the penalty; nothing else does.
    assert torch.equal(found, fishr_penalty(inputs[0], logits.float(), labels, domains))
    low = inputs[0].bfloat16()
    torch.testing.assert_close(
        fishr_penalty(low, logits, labels, domains),
        fishr_penalty(low.float(), logits.float(), labels, domains),
        rtol=0.0,
        atol=0.0,
    )


def test_sum_over_parameters_is_the_mean_times_their_number():
    features, weight, bias, labels, domains = batch_of()
    mean, total = (
        closed_form(features, weight, bias, labels, domains, reduction=reduction)
        for reduction in ("mean", "sum")
    )
    torch.testing.assert_close(total, mean * (weight.numel() + bias.numel()))


def test_rows_that_are_ignored_or_of_unknown_domain_are_not_there():
    features, weight, bias, labels, domains = batch_of(rows=30)
    labels[4], domains[7], domains[9] = -100, -1, -1
    kept = (labels != -100) & (domains != -1)
    found = closed_form(features, weight, bias, labels, domains)
    expected = oracle(features[kept], weight, bias, labels[kept], domains[kept])
    assert_same(found, expected, (features, weight, bias), 1e-12)


def test_domains_with_too_few_rows_do_not_take_part():
    features, weight, bias, labels, domains = batch_of(rows=20, domains=2)
    domains[0] = 5
    rest = slice(1, None)
    found = closed_form(features, weight, bias, labels, domains, n_domains=9)
    expected = oracle(features[rest], weight, bias, labels[rest], domains[rest])
    assert_same(found, expected, (features, weight, bias), 1e-12)
    with_it = closed_form(features, weight, bias, labels, domains, min_rows=1)
    assert with_it > found  # as a third domain, whose variance is 0


@pytest.mark.parametrize("case", ["one domain", "no domain", "no rows"])
def test_fewer_than_two_domains_give_zero_with_a_graph(case):
    features, weight, bias, labels, domains = batch_of(rows=6)
    domains[:] = 0 if case == "one domain" else -1
    rows = 0 if case == "no rows" else 6
    found = closed_form(
        features[:rows], weight, bias, labels[:rows], domains[:rows], n_domains=2, relative=True
    )
    assert found == 0.0
    for gradient in torch.autograd.grad(found, (features, weight, bias)):
        assert not gradient.any()


# --- the whole head ------------------------------------------------------------------------------


def test_whole_head_is_that_of_per_example_gradients():
    features, *_, labels, domains = batch_of(rows=20, hidden=5, seed=3)
    rng = torch.Generator().manual_seed(0)
    head = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3, bias=False)).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    inner = head[0](features)
    pooled = head[1](inner)
    batch = domain_batch(
        pooled,
        head[2](pooled),
        labels,
        domains,
        bias=False,
        inner=[LinearCall(inputs=features, outputs=inner, bias=True)],
    )
    gradients = per_example_gradients(head, features, labels, cross_entropy)
    expected = penalty_of(variances(gradients, domains))
    assert_same(batch_penalty(batch, "abc"), expected, (features, *head.parameters()), 1e-12)


# --- what is wrong and easily written -------------------------------------------------------------


def not_centred(gradients, domains):
    return [(gradients[domains == e] ** 2).mean(dim=0) for e in range(3)]


def divided_by_one_less(gradients, domains):
    return [gradients[domains == e].var(dim=0, unbiased=True) for e in range(3)]


def without_bias(gradients, domains):
    return variances(gradients[:, :-3], domains)


def first_moment_added(gradients, domains):
    rows = [gradients[domains == e] for e in range(3)]
    return [(x**2).mean(dim=0) + x.mean(dim=0) ** 2 for x in rows]


def variance_of_mean_gradients(gradients, domains):  # IGA
    return [gradients[domains == e].mean(dim=0) for e in range(3)]


def absent_domain_as_zero(gradients, domains):
    found = variances(gradients, domains)
    return [*found, torch.zeros_like(found[0])]


MUTANTS = [
    not_centred,
    divided_by_one_less,
    without_bias,
    first_moment_added,
    variance_of_mean_gradients,
    absent_domain_as_zero,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_wrong_formulas_give_other_numbers(mutant):
    features, weight, bias, labels, domains = batch_of()
    gradients = linear_gradients(features, weight, bias, labels, cross_entropy)
    found = closed_form(features, weight, bias, labels, domains, n_domains=5)
    assert largest_error(penalty_of(variances(gradients, domains)), found) < 1e-12
    assert largest_error(penalty_of(mutant(gradients, domains)), found) > 1e-3


# --- no noise, no scale --------------------------------------------------------------------------


def test_cross_split_is_the_product_of_two_halves():
    features, weight, bias, labels, domains = batch_of(rows=30, seed=4)
    gradients = linear_gradients(features, weight, bias, labels, cross_entropy)
    halves = []
    for half in (0, 1):
        rows = torch.cat([(domains == e).nonzero().squeeze(1)[half::2] for e in range(3)])
        halves.append(torch.stack(variances(gradients[rows], domains[rows], unbiased=True)))
    one, two = (half - half.mean(dim=0) for half in halves)
    expected = (one * two).mean()
    found = closed_form(features, weight, bias, labels, domains, estimator="cross_split")
    assert_same(found, expected, (features, weight, bias), 1e-12)


def test_rows_that_cannot_be_split_leave_cross_split():
    features, weight, bias, labels, domains = batch_of(rows=23, seed=4)
    domains[domains == 2] = -1
    domains[:3], domains[3:] = 2, domains[3:].clamp(max=1)  # three rows: halves of two and one
    found = closed_form(features, weight, bias, labels, domains, estimator="cross_split")
    rest = closed_form(features[3:], weight, bias, labels[3:], domains[3:], estimator="cross_split")
    torch.testing.assert_close(found, rest)


@pytest.mark.parametrize("estimator", ["plain", "cross_split"])
@pytest.mark.parametrize("scale", [1e-10, 1e-3, 1e4])
def test_relative_penalty_does_not_depend_on_the_scale_of_loss_or_features(estimator, scale):
    features, weight, _, labels, domains = batch_of(rows=40, dtype=torch.float32)
    settings = {"bias": False, "relative": True, "estimator": estimator}
    logits = features @ weight.T

    def scaled_loss(logits, labels):
        losses, residuals = residuals_of(logits, labels)
        return scale * losses, scale * residuals

    expected = fishr_penalty(features, logits, labels, domains, **settings)
    of_loss = fishr_penalty(features, logits, labels, domains, loss=scaled_loss, **settings)
    of_features = fishr_penalty(features * scale, logits, labels, domains, **settings)
    as_sum = fishr_penalty(features, logits, labels, domains, reduction="sum", **settings)
    for found in (of_loss, of_features, as_sum):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0.0)
    # Going along a change of scale does not change it, so that it cannot shrink gradients instead.
    (gradient,) = torch.autograd.grad(of_features, features)
    assert torch.isfinite(gradient).all()


def test_relative_penalty_is_at_most_the_number_of_domains_less_one():
    values = torch.zeros(4, 5, dtype=torch.float64)
    assert spread(values, values, relative=True) == 0.0
    values[1] = 1e-20
    torch.testing.assert_close(spread(values, values, relative=True).item(), 3.0)
    mean = torch.arange(1.0, 6.0).repeat(4, 1)
    assert spread(mean, mean, relative=True) == 0.0


def test_relative_penalty_is_divided_by_the_squared_norm_of_the_mean():
    *inputs, labels, domains = batch_of(seed=5)
    gradients = linear_gradients(*inputs, labels, cross_entropy)
    values = torch.stack(variances(gradients, domains))
    mean = values.mean(dim=0)
    expected = ((values - mean) ** 2).sum(dim=1).mean() / (mean**2).sum()
    found = closed_form(*inputs, labels, domains, relative=True)
    assert_same(found, expected, inputs, 1e-12)


# --- options -------------------------------------------------------------------------------------


def test_names_key_the_moving_average():
    *inputs, labels, domains = batch_of()
    average = MovingAverage(0.5)
    closed_form(*inputs, labels, domains, average=average, names=["a", "b", "c"])
    assert set(average.state_dict()["states"]) == {"a", "b", "c"}
    swapped = closed_form(*inputs, labels, domains, average=average, names=["b", "a", "c"])
    other = MovingAverage(0.5)
    closed_form(*inputs, labels, domains, average=other)
    assert swapped != closed_form(*inputs, labels, domains, average=other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reduction": "max"}, '"mean" or "sum"; got'),
        ({"estimator": "split"}, '"plain" or "cross_split"; got'),
        ({"min_rows": 0}, "min_rows must be at least 1; got 0"),
        ({"min_rows": 1, "unbiased": True}, "min_rows must be at least 2; got 1"),
        ({"min_rows": 1, "estimator": "cross_split"}, "min_rows must be at least 2; got 1"),
        ({"n_domains": 2}, "indices of 2 domains, or -1 where unknown; got 0 to 2"),
        ({"names": ["a"], "n_domains": 3}, "names of 3 domains; got 1"),
        ({"loss": partial(residuals_of, label_smoothing=1.0)}, "below 1; got 1.0"),
        ({"loss": partial(residuals_of, kind="hinge")}, "got 'hinge'"),
        ({"loss": partial(residuals_of, kind="binary")}, r"\(rows, 1\); got \(24, 3\)"),
        ({"loss": partial(residuals_of, class_weights=[1.0])}, "3 class weights; got"),
        ({"loss": any_loss(F.cross_entropy)}, "one number for each of 24 rows; got shape"),
    ],
)
def test_bad_options_are_named(settings, message):
    *inputs, labels, domains = batch_of()
    with pytest.raises(ValueError, match=message):
        closed_form(*inputs, labels, domains, **settings)


def test_shapes_that_do_not_fit_are_named():
    features, weight, bias, labels, domains = batch_of()
    with pytest.raises(ValueError, match=r"got shapes \(24, 6\), \(24, 3\), \(24,\), \(23,\)"):
        closed_form(features, weight, bias, labels, domains[1:])
