"""Objectives: values against NumPy, states, and gradients over processes."""

import copy
import io

import fishr_oracles as oracles
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fishr_oracles import Threads, batch_of, largest_error

from robust_nlp.errors import RecipeError, RunMismatchError
from robust_nlp.fishr.batch import alternate, domain_batch, one_process
from robust_nlp.fishr.invariance import CORAL, IRM, VREx
from robust_nlp.fishr.objectives import AnyObjective, Fishr
from robust_nlp.fishr.penalty import fishr_penalty
from robust_nlp.fishr.reweighting import ERM, GroupDRO, ReweightedERM
from robust_nlp.fishr.state import ObjectiveState
from robust_nlp.settings import build, plain

NAMES = ["a", "b", "c"]


def batch_from(features, weight, bias, labels, domains, **more):
    return domain_batch(features, F.linear(features, weight, bias), labels, domains, **more)


def value_of(objective, inputs, labels, domains, *, weight=3.0, state=None, names=NAMES):
    state = ObjectiveState() if state is None else state
    return objective(batch_from(*inputs, labels, domains), names, state, weight, one_process)


def in_numpy(inputs, labels, domains):
    features, logits = inputs[0], F.linear(*inputs)
    return [x.detach().numpy() for x in (features, logits, labels, domains)]


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "oracle"),
    [(VREx(), oracles.vrex), (IRM(), oracles.irm), (CORAL(), oracles.coral)],
    ids=["vrex", "irm", "coral"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_are_those_of_loops(objective, oracle, seed):
    *inputs, labels, domains = batch_of(seed=seed)
    found = value_of(objective, inputs, labels, domains)
    expected = oracle(*in_numpy(inputs, labels, domains), 3.0)
    tolerance = 1e-8 if isinstance(objective, IRM) else 1e-12  # central differences
    assert found.loss.item() == pytest.approx(expected, rel=tolerance)
    assert found.loss.item() == pytest.approx(
        oracle(*in_numpy(inputs, labels, domains), 0.0) + 3.0 * found.penalty.item()
    )
    assert found.logs["penalty"] == found.penalty.item()


def test_erm_is_the_mean_over_rows_that_are_not_ignored():
    *inputs, labels, domains = batch_of()
    labels[3], domains[5] = -100, -1
    expected = F.cross_entropy(F.linear(*inputs), labels)
    found = value_of(ERM(), inputs, labels, domains)
    torch.testing.assert_close(found.loss, expected)
    assert found.penalty == 0.0


def test_fishr_is_erm_and_the_weighted_penalty():
    *inputs, labels, domains = batch_of()
    found = value_of(Fishr(gamma=0.0), inputs, labels, domains, weight=7.0)
    penalty = fishr_penalty(inputs[0], F.linear(*inputs), labels, domains)
    torch.testing.assert_close(found.loss, F.cross_entropy(F.linear(*inputs), labels) + 7 * penalty)
    torch.testing.assert_close(found.penalty, penalty.detach())


def test_rows_of_unknown_domain_are_in_the_loss_alone():
    *inputs, labels, domains = batch_of(rows=30)
    domains[torch.tensor([2, 11])] = -1
    known = domains != -1
    features, logits, y, e = in_numpy(inputs, labels, domains)
    unknown = oracles.row_losses(logits[~known], y[~known])
    for objective, oracle in ((VREx(), oracles.vrex), (CORAL(), oracles.coral)):
        arguments = features[known], logits[known], y[known], e[known]
        risk = oracle(*arguments, 0.0)
        expected = (28 * risk + unknown.sum()) / 30 + oracle(*arguments, 3.0) - risk
        found = value_of(objective, inputs, labels, domains)
        assert found.loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("objective", [Fishr(), VREx(), CORAL()], ids=lambda o: o.kind)
def test_a_single_domain_gives_its_risk(objective):
    *inputs, labels, domains = batch_of()
    found = value_of(objective, inputs, labels, torch.zeros_like(domains))
    torch.testing.assert_close(found.loss, F.cross_entropy(F.linear(*inputs), labels))
    assert found.penalty == 0.0
    assert found.loss.requires_grad


@pytest.mark.parametrize("objective", [Fishr(), VREx(), CORAL(), IRM()], ids=lambda o: o.kind)
def test_weight_zero_leaves_the_risk_and_reports_the_penalty(objective):
    *inputs, labels, domains = batch_of()
    found = value_of(objective, inputs, labels, domains, weight=0.0)
    full = value_of(objective, inputs, labels, domains, weight=1.0)
    torch.testing.assert_close(found.penalty, full.penalty)
    assert found.penalty != 0.0
    torch.testing.assert_close(found.loss, full.loss - full.penalty)


def test_features_far_from_zero_do_not_hurt_coral_in_float32():
    *inputs, labels, domains = batch_of(rows=40, dtype=torch.float32)
    with torch.no_grad():
        inputs[0].mul_(0.1).add_(100.0)
    exact = [x.detach().double() for x in inputs]
    found = value_of(CORAL(), inputs, labels, domains)
    expected = value_of(CORAL(), exact, labels, domains)
    assert largest_error(found.penalty, expected.penalty) < 1e-4


# --- weights of rows and domains -----------------------------------------------------------------


def test_group_weights_follow_their_losses():
    inputs_labels = [batch_of(seed=seed) for seed in range(3)]
    state, objective, q = ObjectiveState(), GroupDRO(step_size=0.3), np.ones(3) / 3
    for *inputs, labels, domains in inputs_labels:
        risks = np.array(list(oracles.risks_of(*in_numpy(inputs, labels, domains)[1:]).values()))
        q = q * np.exp(0.3 * risks)
        q /= q.sum()
        found = value_of(objective, inputs, labels, domains, state=state)
        assert found.loss.item() == pytest.approx((q * risks).sum(), rel=1e-12)


def test_absent_domains_keep_their_weight():
    state, objective = ObjectiveState(), GroupDRO(step_size=0.5)
    *inputs, labels, domains = batch_of()
    for _ in range(4):
        value_of(objective, inputs, labels, domains.clamp(max=1), state=state)
    weights = {name: np.exp(log) for name, log in state.log_weights.items()}
    assert set(weights) == {"a", "b"}
    assert sum(weights.values()) == pytest.approx(2.0)
    value_of(objective, inputs, labels, domains, state=state)
    weights = {name: np.exp(log) for name, log in state.log_weights.items()}
    assert sum(weights.values()) == pytest.approx(3.0)


def test_label_weights_are_inverse_shares_of_rows_so_far():
    state, seen = ObjectiveState(), np.zeros(3)
    for seed in range(3):
        *inputs, labels, domains = batch_of(seed=seed)
        labels[labels == 2] = seed % 2  # label 2 never comes
        labels[:5], labels[0], domains[1] = 0, -100, -1
        found = value_of(ReweightedERM(), inputs, labels, domains, state=state)
        seen += np.bincount(labels[labels >= 0].numpy(), minlength=3)
        total = 0.0
        for z, y in zip(F.linear(*inputs).detach().numpy(), labels.tolist(), strict=True):
            if y >= 0:
                total += seen.sum() / (2 * seen[y]) * -np.log(oracles.softmax(z)[y])
        assert found.loss.item() == pytest.approx(total / 23, rel=1e-12)


def test_pairs_of_label_and_domain_get_equal_shares():
    state, seen = ObjectiveState(), {}
    for seed in range(2):
        *inputs, labels, domains = batch_of(seed=seed)
        domains[4] = -1
        found = value_of(
            ReweightedERM(balance="label_and_domain"), inputs, labels, domains, state=state
        )
        pairs = list(zip(labels.tolist(), domains.tolist(), strict=True))
        for pair in pairs:
            if pair[1] >= 0:
                seen[pair] = seen.get(pair, 0) + 1
        total = 0.0
        for z, pair in zip(F.linear(*inputs).detach().numpy(), pairs, strict=True):
            weight = sum(seen.values()) / len(seen) / seen[pair] if pair[1] >= 0 else 1.0
            total += weight * -np.log(oracles.softmax(z)[pair[0]])
        assert found.loss.item() == pytest.approx(total / 24, rel=1e-12)
    assert set(state.label_counts) == set(NAMES)


# --- over processes ------------------------------------------------------------------------------

OBJECTIVES = [
    ERM(),
    ReweightedERM(),
    ReweightedERM(balance="label_and_domain"),
    Fishr(),
    Fishr(estimator="cross_split", relative=True, average="debiased"),
    Fishr(unbiased=True, gamma=0.0),
    IRM(),
    VREx(),
    GroupDRO(step_size=0.5),
    CORAL(),
]

#: Which rows are on the second process: an uneven part without domain 2, or none at all.
SPLITS = {"uneven": lambda domains: (domains != 2) & (torch.arange(24) % 3 == 0)}
SPLITS["empty"] = torch.zeros_like


def encoder(dtype=torch.float64):
    rng = np.random.default_rng(9)
    return torch.tensor(rng.standard_normal((6, 6)), dtype=dtype, requires_grad=True)


def three_steps(objective, rows_of, reduce):
    """Losses of three steps, gradients of the last, and the state after it."""
    state, u = ObjectiveState(), encoder()
    for seed in range(3):
        x, weight, bias, labels, domains = batch_of(seed=seed)
        labels[6], domains[8] = -100, -1
        halves, rows = alternate(torch.where(labels < 0, -1, domains)), rows_of(domains)
        batch = batch_from(
            torch.tanh(x.detach()[rows] @ u),
            weight,
            bias,
            labels[rows],
            domains[rows],
            halves=halves[rows],
        )
        found = objective(batch, NAMES, state, 3.0, reduce)
    gradients = torch.autograd.grad(found.loss, (u, weight, bias))
    return found.loss.detach(), gradients, state.state_dict()


def assert_same_states(found, expected):
    assert (found["average"] is None) == (expected["average"] is None)
    if found["average"] is not None:
        averages = [
            {k: v for k, v in state["average"].items() if k != "form"}
            for state in (found, expected)
        ]
        torch.testing.assert_close(*averages, rtol=1e-10, atol=1e-15)
    for name in ("log_weights", "label_counts"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_two_processes_train_as_one_does(objective, split):
    loss, gradients, state = three_steps(objective, lambda _: slice(None), one_process)

    def of(rank, reduce):
        return three_steps(objective, lambda d: SPLITS[split](d) == rank, reduce)

    results = Threads(2).run(of)
    for found, _, other in results:
        torch.testing.assert_close(found, loss, rtol=1e-12, atol=0.0)
        assert_same_states(other, state)
    for parts in zip(gradients, *(result[1] for result in results), strict=True):
        assert largest_error(sum(parts[1:]) / 2, parts[0]) < 1e-10


# --- states and settings -------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_a_restored_state_goes_on_as_the_old_one(objective):
    state, restored = ObjectiveState(), ObjectiveState()
    *inputs, labels, domains = batch_of(seed=0)
    value_of(objective, inputs, labels, domains, state=state)
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    *inputs, labels, domains = batch_of(seed=1)
    # with another order of names, and one more
    names = ["b", "d", "a"]
    expected = value_of(objective, inputs, labels, domains, state=state, names=names)
    found = value_of(objective, inputs, labels, domains, state=restored, names=names)
    assert torch.equal(found.loss, expected.loss)


def test_the_moving_average_goes_by_names():
    *inputs, labels, domains = batch_of(seed=0)
    one, other = ObjectiveState(), ObjectiveState()
    value_of(Fishr(), inputs, labels, domains, state=one)
    value_of(Fishr(), inputs, labels, domains, state=other)
    same = value_of(Fishr(), inputs, labels, 2 - domains, state=one, names=["c", "b", "a"]).penalty
    expected = value_of(Fishr(), inputs, labels, domains, state=other).penalty
    torch.testing.assert_close(same, expected)


def test_the_moving_average_is_updated_while_the_weight_is_zero():
    *inputs, labels, domains = batch_of(seed=0)
    state = ObjectiveState()
    for weight in (0.0, 0.0, 5.0):
        found = value_of(Fishr(gamma=0.5), inputs, labels, domains, weight=weight, state=state)
    alone = fishr_penalty(inputs[0], F.linear(*inputs), labels, domains)
    torch.testing.assert_close(found.penalty, (1.75**2 * alone).detach())


def test_a_state_of_other_settings_is_refused():
    *inputs, labels, domains = batch_of()
    state = ObjectiveState()
    value_of(Fishr(gamma=0.9), inputs, labels, domains, state=state)
    with pytest.raises(RunMismatchError, match=r"gamma=0.9 .* objective says gamma=0.8"):
        value_of(Fishr(gamma=0.8), inputs, labels, domains, state=state)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_settings_are_made_of_plain_values_and_back(objective):
    assert build(AnyObjective, plain(objective), "objective") == objective


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "fishr", "gamma": 1.0}, "gamma must be at least 0 and below 1; got 1.0"),
        ({"kind": "fishr", "min_rows": 1, "unbiased": True}, "at least 2 for these variances"),
        ({"kind": "fishr", "min_rows": 1, "estimator": "cross_split"}, "at least 2 for these"),
        ({"kind": "group_dro", "step_size": 0.0}, "step_size must be above 0; got 0.0"),
        ({"kind": "group_dro", "eta": 0.1}, "eta"),
        ({"kind": "reweighted_erm", "balance": "domain"}, "balance"),
    ],
    ids=str,
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(RecipeError, match=message):
        build(AnyObjective, settings, "objective")


def test_direct_construction_checks_names_too():
    with pytest.raises(ValueError, match="estimator must be one of plain, cross_split; got 'x'"):
        Fishr(estimator="x")
    with pytest.raises(ValueError, match='balance must be "label" or'):
        ReweightedERM(balance="domain")


def test_weights_that_nobody_says_follow_the_scale_of_the_penalty():
    assert (Fishr().default_weight, Fishr(relative=True).default_weight) == (1000.0, 1.0)


# --- copies --------------------------------------------------------------------------------------


def with_copies():
    """A batch, the same rows twice, and the marks of the second ones."""
    *inputs, labels, domains = batch_of()
    features, weight, bias = inputs
    twice = torch.cat([features, features + 0.3]), weight, bias
    marks = torch.arange(2 * len(labels)) >= len(labels)
    return inputs, labels, domains, twice, marks


@pytest.mark.parametrize("objective", [Fishr(gamma=0.0), CORAL()], ids=["fishr", "coral"])
def test_copies_are_in_no_variance(objective):
    inputs, labels, domains, twice, marks = with_copies()
    alone = value_of(objective, inputs, labels, domains)
    batch = batch_from(*twice, labels.repeat(2), domains.repeat(2), copies=marks)
    found = objective(batch, NAMES, ObjectiveState(), 3.0, one_process)
    assert found.penalty.item() == pytest.approx(alone.penalty.item(), rel=1e-12)
    counted = value_of(objective, twice, labels.repeat(2), domains.repeat(2))
    assert counted.penalty.item() != pytest.approx(alone.penalty.item(), rel=1e-3)


@pytest.mark.parametrize(
    "objective",
    [VREx(), GroupDRO(step_size=1.0), ReweightedERM(balance="label_and_domain")],
    ids=["vrex", "group_dro", "reweighted_erm"],
)
def test_copies_count_in_the_risks_of_their_domains(objective):
    _, labels, domains, twice, marks = with_copies()
    batch = batch_from(*twice, labels.repeat(2), domains.repeat(2), copies=marks)
    found = objective(batch, NAMES, ObjectiveState(), 3.0, one_process)
    counted = value_of(objective, twice, labels.repeat(2), domains.repeat(2))
    assert found.loss.item() == pytest.approx(counted.loss.item(), rel=1e-12)
    unknown = torch.cat([domains, torch.full_like(domains, -1)])
    assert value_of(objective, twice, labels.repeat(2), unknown).loss.item() != pytest.approx(
        counted.loss.item(), rel=1e-4
    )


# --- the memory of a step of several batches ------------------------------------------------------


def test_a_step_of_several_batches_remembers_all_of_them():
    before = ObjectiveState()
    before.average_of(0.9, "debiased").update(["a", "b"], torch.tensor([[1.0], [2.0]]))
    before.log_weights, before.label_counts = {"a": 0.0, "b": 0.5}, {"a": torch.tensor([1.0, 1.0])}
    parts = []
    for names, values in ((["a"], [[3.0]]), (["a", "c"], [[5.0], [7.0]])):
        part = copy.deepcopy(before)
        part.average.update(names, torch.tensor(values))
        part.log_weights["a"] += values[0][0]
        part.label_counts["a"] = part.label_counts["a"] + values[0][0]
        parts.append(part)
    found = before.joined(parts)
    once = copy.deepcopy(before)
    once.average.update(["a", "c"], torch.tensor([[4.0], [7.0]]))  # the mean of 3 and 5; 7 alone
    assert found.average.state_dict()["updates"] == once.average.state_dict()["updates"]
    for name, state in once.average.state_dict()["states"].items():
        torch.testing.assert_close(found.average.state_dict()["states"][name], state)
    assert found.log_weights == {"a": 4.0, "b": 0.5}
    assert found.label_counts["a"].tolist() == [9.0, 9.0]
    assert before.average.state_dict()["updates"] == {"a": 1, "b": 1}
