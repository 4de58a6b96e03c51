"""Moving averages of what is known of each domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from robust_nlp.errors import RunMismatchError

#: "reference": the sum that the authors' code compares. "debiased": a mean.
AverageForm = Literal["reference", "debiased"]


class MovingAverage:
    """An exponential moving average for each domain, by name.

    With the state s (zero at first) and the new value v of a domain,

        s <- gamma s + (1 - gamma) v,

    the value to use is s / (1 - gamma) in the form "reference", so that it is v in the first step
    and grows to v / (1 - gamma) in time, and s / (1 - gamma^t) after t updates in the form
    "debiased", a weighted mean of the values seen. In both, its derivative by v is 1, and earlier
    values are constants. Domains that are not updated keep their state, and values that are not
    finite, as of a step that a gradient scaler will skip, are used but not remembered.

    Call it once per optimizer step, and not in evaluation.

    Args:
        gamma: Weight of the past, in `[0, 1)`; 0 takes each value as it is.
        form: See above. A penalty of squared differences grows by (1 - gamma)^-2 and its gradients
            by (1 - gamma)^-1 in the form "reference", so that its weight depends on gamma.

    Raises:
        ValueError: If `gamma` or `form` is not one of these.

    Source: Rame, Dancette and Cord, Fishr (ICML 2022), and their code, for "reference".
    """

    def __init__(self, gamma: float, form: AverageForm = "reference") -> None:
        if not 0.0 <= gamma < 1.0:
            raise ValueError(f"gamma must be at least 0 and below 1; got {gamma}")
        if form not in ("reference", "debiased"):
            raise ValueError(f'form must be "reference" or "debiased"; got {form!r}')
        self.gamma, self.form = gamma, form
        self._states: dict[str, Tensor] = {}
        self._updates: dict[str, int] = {}

    def update(self, names: Sequence[str], values: Tensor) -> Tensor:
        """Take in new values of some domains; return the values to use in their place.

        Args:
            names: Domains, each once.
            values: Their values; shape `(len(names), ...)`.

        Raises:
            RunMismatchError: If a domain had values of another shape before.
        """
        if not len(values) or not torch.isfinite(values).all():
            return values
        pairs = zip(names, values, strict=True)
        return torch.stack([self._update(name, value) for name, value in pairs])

    def _update(self, name: str, value: Tensor) -> Tensor:
        new = value.detach()
        old = self._states.get(name, torch.zeros_like(new)).to(new)
        if old.shape != new.shape:
            raise RunMismatchError(
                f"the moving average of domain {name!r} has shape {tuple(old.shape)}, but its new "
                f"value has {tuple(new.shape)}: it was made with another head or other settings. "
                "Start without it"
            )
        state = self.gamma * old + (1.0 - self.gamma) * new
        self._states[name] = state
        self._updates[name] = self._updates.get(name, 0) + 1
        if self.form == "reference":
            return value + self.gamma / (1.0 - self.gamma) * old
        mean = state / (1.0 - self.gamma ** self._updates[name])
        return mean + (value - new)  # the bracket is zero, with the gradient of the value

    def state_dict(self) -> dict[str, Any]:
        """Return the settings and states as numbers, texts and tensors on the CPU."""
        return {
            "gamma": self.gamma,
            "form": self.form,
            "states": {name: state.cpu() for name, state in self._states.items()},
            "updates": dict(self._updates),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            RunMismatchError: If it was made with another gamma or form.
        """
        if (saved["gamma"], saved["form"]) != (self.gamma, self.form):
            raise RunMismatchError(
                f"the saved moving average has gamma={saved['gamma']} and form={saved['form']!r}, "
                f"this one gamma={self.gamma} and form={self.form!r}; their values cannot be "
                "compared. Resume with the settings of the checkpoint"
            )
        self._states = dict(saved["states"])
        self._updates = dict(saved["updates"])
