"""Moving averages of what is known of each domain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from robust_nlp.errors import RobustNLPWarning, RunMismatchError

#: "reference": the sum that the authors' code compares. "debiased": a mean.
AverageForm = Literal["reference", "debiased"]


#: Updates from which on domains that take turns have about equally many, and factor of growth
#: from which on a domain is behind the others.
ROTATED, LATE = 10, 1.25


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

    Warns:
        RobustNLPWarning: In `update`, once, if in the form "reference" some domains have been
            updated so much more often that their values differ for that alone.

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
        self._warned = False

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
        self._warn_of_late(names)
        pairs = zip(names, values, strict=True)
        return torch.stack([self._update(name, value) for name, value in pairs])

    def _warn_of_late(self, names: Sequence[str]) -> None:
        """Warn once of domains whose averages differ for how long they have grown alone."""
        if self.form != "reference" or self._warned or len(names) < 2:
            return
        updates = {name: self._updates.get(name, 0) + 1 for name in names}
        grown = {name: 1.0 - self.gamma**n for name, n in updates.items()}
        late, early = min(grown, key=grown.__getitem__), max(grown, key=grown.__getitem__)
        if updates[early] >= ROTATED and grown[early] > LATE * grown[late]:
            self._warned = True
            warnings.warn(
                f"the moving average of domain {late!r} has been updated {updates[late]:,} times, "
                f'and that of {early!r} {updates[early]:,} times. In the form "reference" it '
                "grows with the updates: the two differ by a factor of "
                f"{grown[early] / grown[late]:.1f} even if the domains do not. Write "
                'average="debiased", with a penalty_weight of up to '
                f"{1.0 / (1.0 - self.gamma) ** 2:,.0f} times as much, or let every batch have "
                "every domain",
                RobustNLPWarning,
                stacklevel=2,
            )

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

    def joined(self, before: MovingAverage | None, parts: Sequence[MovingAverage]) -> MovingAverage:
        """Return the average after one step of several batches, which each began with `before`.

        A domain's state is the mean of those after the batches that had it, as if its value were
        the mean of its values in them.

        Args:
            before: The average before the step; `None` in the first one.
            parts: The averages after each batch.
        """
        found = MovingAverage(self.gamma, self.form)
        old = {} if before is None else before._updates
        if before is not None:
            found._states, found._updates = dict(before._states), dict(before._updates)
        for name in dict.fromkeys(name for part in parts for name in part._states):
            new = [
                part._states[name]
                for part in parts
                if part._updates.get(name, 0) > old.get(name, 0)
            ]
            if new:
                found._states[name] = torch.stack(new).mean(dim=0)
                found._updates[name] = old.get(name, 0) + 1
        return found

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
