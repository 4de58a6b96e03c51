"""Adversarial training and weight averaging in recipes: their settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class FreeLB:
    """Train on every perturbation along a path that climbs the loss.

    Norms are L2 norms of what is added to the input embeddings of a whole text, over all its
    tokens and dimensions.

    Attributes:
        steps: Perturbed passes, at least 1: one at the random start and one after each of
            `steps - 1` ascents. The loss, and its gradient, are means over the passes.
        step_size: Norm of one ascent, above 0.
        init_magnitude: Every number of the random start is uniform within this over
            sqrt(tokens * dimensions), so that its norm is at most this; at least 0.
        max_norm: Norm of the perturbation at most; 0 for no limit.
        relative: Take the three norms as shares of the norm of the text's own embeddings.
        per_domain: One vector for all tokens of all texts of a domain, in place of one a token.
            Its norm counts as that of the whole perturbation of a text.
        start: Share of the optimizer steps, in `[0, 1)`, before which nothing is perturbed.
        weight: Weight of the loss beside that of the clean texts, above 0.

    Source: Zhu et al., FreeLB: Enhanced Adversarial Training for Natural Language Understanding
        (ICLR 2020), Algorithm 1, with the step and start of its released SST-2 script. `per_domain`
        is in the manner of Xin et al., On the Connection between Invariant Learning and
        Adversarial Training for Out-of-Distribution Generalization (AAAI 2023).
    Departs: The loss of the clean texts stays. Dropout on the embeddings stays as well, with one
        mask for all passes; the released code switches it off, which is a setting of the model.
    """

    steps: int = 3
    step_size: float = 0.1
    init_magnitude: float = 0.6
    max_norm: float = 0.0
    relative: bool = False
    per_domain: bool = False
    start: float = 0.0
    weight: float = 1.0

    kind: ClassVar[str] = "freelb"

    def __post_init__(self) -> None:
        _check(
            self, above_zero=("step_size", "weight"), at_least_zero=("init_magnitude", "max_norm")
        )


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Train on the perturbation that projected gradient ascent finds.

    Norms are L2 norms of what is added to the input embeddings of a whole text.

    Attributes:
        steps: Ascents, at least 1; one more perturbed pass gives the loss.
        radius: Norm of the perturbation at most, above 0.
        step_size: Norm of one ascent, above 0; `None` takes 2.5 * radius / steps.
        random_start: Start at random within the radius, every number uniform within
            radius / sqrt(tokens * dimensions), instead of at the text itself.
        relative: Take norms as shares of the norm of the text's own embeddings, which means the
            same for every model and length.
        per_domain: See `FreeLB`.
        start: Share of the optimizer steps, in `[0, 1)`, before which nothing is perturbed.
        weight: Weight of the loss beside that of the clean texts, above 0.

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks (ICLR 2018).
    """

    steps: int = 3
    radius: float = 0.05
    step_size: float | None = None
    random_start: bool = True
    relative: bool = True
    per_domain: bool = False
    start: float = 0.0
    weight: float = 1.0

    kind: ClassVar[str] = "pgd"

    def __post_init__(self) -> None:
        _check(self, above_zero=("radius", "step_size", "weight"))


@dataclass(frozen=True, kw_only=True)
class SMART:
    """Train for the same answer to a text and to the perturbation that changes it most.

    The loss is the symmetric Kullback-Leibler divergence between the two answers; labels are not
    used. Norms are the largest absolute number added to an embedding of the text.

    Attributes:
        steps: Ascents of the divergence, at least 1; one more perturbed pass gives the loss.
        step_size: Norm of one ascent, above 0.
        noise: Standard deviation of the normal start, above 0: at the text itself the divergence
            has no gradient. Half precision rounds noise of the default size away; there, take a
            hundredth of the size of the embeddings or more.
        max_norm: Norm of the perturbation at most; 0 for no limit.
        eps: Added to the norm of a gradient that is divided by it, above 0: a gradient smaller
            than this, as of an answer that is certain, makes a smaller step.
        start: Share of the optimizer steps, in `[0, 1)`, before which nothing is perturbed.
        weight: Weight of the divergence beside the loss of the clean texts, above 0.

    Source: Jiang et al., SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language
        Models through Principled Regularized Optimization (ACL 2020), Algorithm 1 and equation 2,
        with the values of the released code. The paper limits the perturbation to 1e-5.
    Departs: Without the Bregman proximal term. Ascents are normalized per text, as in the paper;
        the released code does it per token.
    """

    steps: int = 1
    step_size: float = 1e-3
    noise: float = 1e-5
    max_norm: float = 0.0
    eps: float = 1e-6
    start: float = 0.0
    weight: float = 1.0

    kind: ClassVar[str] = "smart"

    def __post_init__(self) -> None:
        _check(
            self, above_zero=("step_size", "noise", "eps", "weight"), at_least_zero=("max_norm",)
        )


#: The adversaries that a recipe may name by `kind`.
AnyAdversary = FreeLB | PGD | SMART


@dataclass(frozen=True, kw_only=True)
class EMA:
    """An exponential moving average of the weights after each optimizer step.

    The weights after step i of t count in proportion to decay^(t - i): the average is not drawn to
    the weights before training.

    Attributes:
        decay: What is left of a step's weight after one more step, in (0, 1).
    """

    decay: float = 0.999

    kind: ClassVar[str] = "ema"

    def __post_init__(self) -> None:
        if not 0.0 < self.decay < 1.0:
            raise ValueError(f"EMA needs 0 < decay < 1; got decay={self.decay!r}")

    def due(self, step: int, max_steps: int) -> bool:  # noqa: ARG002
        """Tell whether the weights after an optimizer step, counted from 1, are taken in."""
        return True

    def share(self, count: int) -> float:
        """Return the share in the average of the last of `count` weights taken in."""
        return (1.0 - self.decay) / (1.0 - self.decay**count)


@dataclass(frozen=True, kw_only=True)
class SWA:
    """The mean of the weights after every few optimizer steps of the last part of training.

    Attributes:
        start: Share of the optimizer steps after which averaging begins, in [0, 1).
        every: Steps from one averaged step to the next, at least 1.

    Source: Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization
        (UAI 2018).
    Departs: The learning rate is that of the training arguments, not a cyclic or a constant one.
    """

    start: float = 0.5
    every: int = 1

    kind: ClassVar[str] = "swa"

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < 1.0:
            raise ValueError(f"SWA needs 0 <= start < 1, a share of steps; got {self.start!r}")
        if self.every < 1:
            raise ValueError(f"SWA needs every >= 1, a number of steps; got {self.every!r}")

    def due(self, step: int, max_steps: int) -> bool:
        """Tell whether the weights after an optimizer step, counted from 1, are taken in."""
        first = int(self.start * max_steps) + 1
        return step >= first and (step - first) % self.every == 0

    def share(self, count: int) -> float:
        """Return the share in the average of the last of `count` weights taken in."""
        return 1.0 / count


#: The averages of weights that a recipe may name by `kind`.
AnyAveraging = EMA | SWA


def _check(
    settings: AnyAdversary, *, above_zero: tuple[str, ...], at_least_zero: tuple[str, ...] = ()
) -> None:
    name = type(settings).__name__
    if settings.steps < 1:
        raise ValueError(f"{name} needs steps of at least 1; got steps={settings.steps!r}")
    if not 0.0 <= settings.start < 1.0:
        raise ValueError(f"{name} needs a start in [0, 1); got start={settings.start!r}")
    for field in (*above_zero, *at_least_zero):
        value = getattr(settings, field)
        low = value is not None and (value < 0.0 or (field in above_zero and value == 0.0))
        if low or (value is not None and not value < float("inf")):
            bound = "above 0" if field in above_zero else "of at least 0"
            raise ValueError(f"{name} needs a finite {field} {bound}; got {field}={value!r}")
