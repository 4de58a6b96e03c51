"""Moving averages: the recursion, its gradient, and what is kept of it."""

import io

import pytest
import torch

from robust_nlp.errors import RobustNLPWarning, RunMismatchError
from robust_nlp.fishr.average import MovingAverage

GAMMA = 0.9


def values_of(steps=6, domains=2, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(steps, domains, 3, dtype=torch.float64, generator=generator)
    return [value.requires_grad_() for value in values]


def sums(past, *, gamma=GAMMA):
    """The used value of the form "reference", term by term."""
    return sum(gamma ** (len(past) - 1 - i) * value for i, value in enumerate(past))


def means(past, *, gamma=GAMMA):
    weights = [gamma ** (len(past) - 1 - i) for i in range(len(past))]
    return sum(w * value for w, value in zip(weights, past, strict=True)) / sum(weights)


FORMS = {"reference": sums, "debiased": means}


class WithoutCorrection(MovingAverage):
    def update(self, names, values):
        return (1.0 - self.gamma) * super().update(names, values)


class GradientThroughTheState:
    def __init__(self, gamma, form="reference"):
        self.gamma, self.state = gamma, 0.0

    def update(self, names, values):
        self.state = self.gamma * self.state + (1.0 - self.gamma) * values
        return self.state / (1.0 - self.gamma)


class AdamsGradient(MovingAverage):
    """The debiased average as it is, without weight 1 of the new value's gradient."""

    def update(self, names, values):
        past = getattr(self, "past", 0.0)
        self.past = self.gamma * torch.as_tensor(past) + (1.0 - self.gamma) * values
        self.t = getattr(self, "t", 0) + 1
        used = self.past / (1.0 - self.gamma**self.t)
        self.past = self.past.detach()
        return used


def is_right(average, form) -> bool:
    """Whether values and gradients are those of the definition, in six steps."""
    past = []
    for value in values_of():
        used = average.update(["a", "b"], value)
        past.append(value)
        if not torch.allclose(used, FORMS[form](past), rtol=1e-12):
            return False
        for one, gradient in enumerate(
            torch.autograd.grad(used.sum(), past, allow_unused=True, retain_graph=True)
        ):
            expected = float(one == len(past) - 1)
            if not torch.allclose(
                torch.zeros_like(value) if gradient is None else gradient,
                torch.full_like(value, expected),
            ):
                return False
    return True


@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_are_those_of_the_definition(form):
    assert is_right(MovingAverage(GAMMA, form), form)


@pytest.mark.parametrize(
    ("mutant", "form"),
    [
        (WithoutCorrection(GAMMA), "reference"),
        (GradientThroughTheState(GAMMA), "reference"),
        (WithoutCorrection(GAMMA, "debiased"), "debiased"),
        (AdamsGradient(GAMMA, "debiased"), "debiased"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_wrong_averages_are_caught(mutant, form):
    assert not is_right(mutant, form)


@pytest.mark.parametrize("form", FORMS)
def test_no_past_gives_the_value_itself(form):
    average = MovingAverage(0.0, form)
    for value in values_of():
        assert torch.equal(average.update(["a", "b"], value), value)


@pytest.mark.parametrize("form", FORMS)
def test_domains_come_late_stay_away_and_change_places(form):
    average, values = MovingAverage(GAMMA, form), values_of(4)
    average.update(["a", "b"], values[0])
    average.update(["b"], values[1][:1])
    used = average.update(["c", "a"], values[2])
    torch.testing.assert_close(used[0], values[2][0])
    torch.testing.assert_close(used[1], FORMS[form]([values[0][0], values[2][1]]))
    used = average.update(["b"], values[3][:1])
    torch.testing.assert_close(used[0], FORMS[form]([values[0][1], values[1][0], values[3][0]]))


@pytest.mark.parametrize("form", FORMS)
def test_a_restored_average_goes_on_as_the_old_one(form):
    old, values = MovingAverage(GAMMA, form), values_of()
    for value in values[:3]:
        old.update(["a", "b"], value)
    file = io.BytesIO()
    torch.save(old.state_dict(), file)
    file.seek(0)
    new = MovingAverage(GAMMA, form)
    new.load_state_dict(torch.load(file, weights_only=True))
    for value in values[3:]:
        names = ["b", "c"]
        assert torch.equal(new.update(names, value), old.update(names, value))
    assert old.state_dict()["updates"] == {"a": 3, "b": 6, "c": 3}


def test_a_saved_state_does_not_change_with_later_updates():
    average, values = MovingAverage(GAMMA), values_of()
    average.update(["a", "b"], values[0])
    saved = average.state_dict()
    kept = saved["states"]["a"].clone()
    average.update(["a", "b"], values[1])
    assert torch.equal(saved["states"]["a"], kept)
    assert saved["updates"] == {"a": 1, "b": 1}


def test_values_that_are_not_finite_are_not_remembered():
    average, values = MovingAverage(GAMMA), values_of()
    average.update(["a", "b"], values[0])
    bad = values[1].detach().clone()
    bad[1, 0] = float("inf")
    assert torch.equal(average.update(["a", "b"], bad), bad)
    torch.testing.assert_close(average.update(["a", "b"], values[2]), sums([values[0], values[2]]))


def test_other_settings_and_other_shapes_are_refused():
    average = MovingAverage(GAMMA)
    average.update(["a"], torch.ones(1, 3))
    with pytest.raises(RunMismatchError, match=r"gamma=0.9 and form='reference', this one gamma=0"):
        MovingAverage(0.8).load_state_dict(average.state_dict())
    with pytest.raises(RunMismatchError, match=r"'a' has shape \(3,\), but its new value has \(4,"):
        average.update(["a"], torch.ones(1, 4))


@pytest.mark.parametrize("settings", [(1.0, "reference"), (-0.1, "debiased"), (0.5, "mean")])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        MovingAverage(*settings)


def test_late_domains_are_warned_of_in_the_form_that_grows():
    values = torch.ones(2, 1)
    for form in ("reference", "debiased"):
        average = MovingAverage(0.95, form)
        for _ in range(12):
            average.update(["a", "b"], values)
        if form == "reference":
            with pytest.warns(RobustNLPWarning, match="'c' has been updated 1 times, and that of"):
                average.update(["a", "c"], values)
        average.update(["a", "d"], values)  # no second warning
    turns = MovingAverage(0.95)
    for step in range(60):  # domains that take turns
        turns.update([f"d{step % 4}", f"d{(step + 1) % 4}"], values)
