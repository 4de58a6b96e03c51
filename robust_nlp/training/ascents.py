"""How FreeLB, PGD and SMART climb from a start, and what the way up costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from robust_nlp.training.gradients import gradients, with_gradients
from robust_nlp.training.perturbation import climb, climb_max_norm
from robust_nlp.training.settings import PGD, SMART, FreeLB

Loss = Callable[[torch.Tensor], torch.Tensor]


def freelb(
    settings: FreeLB,
    numbers: torch.Tensor,
    cost: Loss,
    scale: float,
    parameters: Sequence[torch.nn.Parameter],
    backward: Callable[[torch.Tensor], Any] | None,
) -> torch.Tensor:
    """Return the weighted mean loss over the passes, with the mean gradient.

    Args:
        settings: The adversary.
        numbers: The start.
        cost: Loss of a perturbation, in a pass of its own.
        scale: See `gradients`.
        parameters: What is trained.
        backward: See `AdversarialLoss`.
    """
    share = settings.weight / settings.steps
    total = torch.zeros((), device=numbers.device)
    sums: list[torch.Tensor | None] = [None] * len(parameters)
    for k in range(settings.steps):
        numbers.requires_grad_()
        loss = cost(numbers) * share
        total = total + loss.detach()
        if backward is None:
            gradient, *others = gradients(loss, [numbers, *parameters], scale)
            sums = [
                one if other is None else other if one is None else one + other
                for one, other in zip(sums, others, strict=True)
            ]
        else:
            backward(loss)
            gradient = numbers.grad
        assert gradient is not None
        if k < settings.steps - 1:
            numbers = climb(numbers, gradient, settings.step_size, settings.max_norm)
    return total if backward is not None else with_gradients(total, parameters, sums)


def pgd(settings: PGD, numbers: torch.Tensor, cost: Loss, scale: float) -> torch.Tensor:
    """Return the weighted loss where the ascents end; for the arguments see `freelb`."""
    step_size = settings.step_size or 2.5 * settings.radius / settings.steps
    for _ in range(settings.steps):
        numbers.requires_grad_()
        (gradient,) = gradients(cost(numbers), [numbers], scale)
        assert gradient is not None
        numbers = climb(numbers, gradient, step_size, settings.radius)
    return settings.weight * cost(numbers)


def smart(
    settings: SMART,
    numbers: torch.Tensor,
    logits: Loss,
    reference: torch.Tensor,
    shares: torch.Tensor,
    losses: list[torch.Tensor],
    scale: float,
) -> torch.Tensor:
    """Return the weighted divergence where the ascents end.

    Args:
        settings: The adversary.
        numbers: The start.
        logits: The model's answers under a perturbation, in a pass of its own.
        reference: Its answers without; shape `(rows, classes)`.
        shares: Weights of rows, of which the mean is taken; shape `(rows,)`.
        losses: What passes cost is added to it.
        scale: See `gradients`.
    """
    shares = shares / shares.sum().clamp(min=1.0)
    for _ in range(settings.steps):
        numbers.requires_grad_()
        far = symmetric_divergence(reference.detach(), logits(numbers))
        losses.append((far.detach() * shares).sum())
        # A sum, so that what is added to the norm weighs the same in batches of all sizes.
        (gradient,) = gradients(far.sum(), [numbers], scale)
        assert gradient is not None
        numbers = climb_max_norm(
            numbers, gradient, settings.step_size, settings.max_norm, settings.eps
        )
    loss = (symmetric_divergence(reference, logits(numbers)) * shares).sum()
    losses.append(loss.detach())
    return settings.weight * loss


def symmetric_divergence(p_logits: torch.Tensor, q_logits: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) + KL(q || p) of rows of logits, with gradients to both; shape `(rows,)`.

    Source: SMART (see the settings), below equation 2.
    """
    log_p, log_q = p_logits.log_softmax(dim=-1), q_logits.log_softmax(dim=-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1)
