"""The loss under noise, and a `transformers.Trainer` that minimizes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Trainer

from robust_nlp.training.gaussian import EmbeddingNoise
from robust_nlp.training.sampler import TakesLengthsTogether


def noisy_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    draws: int = 1,
    consistency: float = 0.0,
    label_smoothing: float = 0.0,
    n_items: torch.Tensor | int | None = None,
    penalty: torch.Tensor | float = 0.0,
) -> torch.Tensor:
    """Sum cross-entropy and consistency of noisy examples, divided by the number of noisy texts.

    With the class probabilities p_1, ..., p_m of m draws of an example's noise, their mean q, and
    its label y, the example costs

        1/m * sum over draws d of [ -log p_d(y) + consistency * KL(q || p_d) ],

    and the loss is the mean over examples. It is zero only if all draws are right and certain.

    Args:
        logits: Scores; shape `(draws * examples, classes)`, all first draws first.
        labels: Class indices; shape `(draws * examples,)`, in the same order.
        draws: Draws per example, at least 1.
        consistency: Weight of the consistency term, at least 0; acts with two draws or more.
        label_smoothing: Share of a label that is spread over all classes, in `[0, 1]`.
        n_items: Noisy texts in the whole optimizer step, over all its batches and processes, so
            that gradient accumulation gives the loss of one large batch; `None` takes this batch.
        penalty: What else the noisy texts of this batch cost together.

    Source: Jeong and Shin, Consistency Regularization for Certified Robustness of Smoothed
        Classifiers (NeurIPS 2020), with the mean of the draws in place of the smoothed classifier,
        gradients through it included.
    Departs: Text noise for Gaussian noise; without the entropy term.
    """
    scores = logits.float()
    total = F.cross_entropy(scores, labels, reduction="sum", label_smoothing=label_smoothing)
    total = total + penalty
    if consistency > 0.0 and draws > 1:
        total = total + consistency * disagreement(scores, draws=draws)
    if n_items is None:
        return total / len(labels)
    # Under DataParallel the Trainer repeats the number per device, and multiplies the loss again.
    return total / torch.as_tensor(n_items, device=total.device).sum()


def disagreement(logits: torch.Tensor, *, draws: int) -> torch.Tensor:
    """Return the sum over noisy texts of KL(q || p_d); see `noisy_loss`.

    Args:
        logits: Scores; shape `(draws * examples, classes)`, all first draws first.
        draws: Draws per example.
    """
    log_p = logits.float().log_softmax(dim=-1).view(draws, -1, logits.shape[-1])
    log_mean = log_p.logsumexp(dim=0) - math.log(draws)
    return (log_mean.exp() * (log_mean - log_p)).sum()


class NoisyTrainer(TakesLengthsTogether, Trainer):
    """A `Trainer` for batches of a `NoisyCollator`, with an evaluation of our own.

    The loss is the same for every split of an optimizer step into batches and processes. Texts of
    similar length share a batch, which saves padding. What the `Trainer` would evaluate, a loss
    over one collation of a data set, is replaced: noise needs votes.

    Args:
        draws: Draws per example in each batch.
        consistency: Weight of the consistency term; see `noisy_loss`.
        validate: Takes this trainer and returns metrics by name, equal in all processes.
        noise: Noise on the embeddings, for batches of an `EmbeddingNoiseCollator`; `None` for
            texts that are noisy themselves. Its pull on swaps is added to the loss.
        kwargs: Arguments of `transformers.Trainer`.
    """

    def __init__(
        self,
        *,
        draws: int,
        consistency: float,
        validate: Callable[[NoisyTrainer], dict[str, float]],
        noise: EmbeddingNoise | None = None,
        **kwargs: Any,
    ) -> None:
        def pull() -> torch.Tensor | float:
            step, steps = self.state.global_step, self.state.max_steps
            return 0.0 if noise is None else noise.pull((step + 1) / max(steps, 1))

        def loss(
            outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
        ) -> torch.Tensor:
            return noisy_loss(
                outputs.logits,
                labels,
                draws=draws,
                consistency=consistency,
                label_smoothing=self.args.label_smoothing_factor,
                n_items=num_items_in_batch,
                penalty=pull(),
            )

        super().__init__(compute_loss_func=loss, **kwargs)
        self._validate, self._noise = validate, noise

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss as `transformers.Trainer` does, under noise on the embeddings if any."""
        if self._noise is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        with self._noise.added(inputs) as batch:
            return super().compute_loss(model, batch, *args, **kwargs)

    def evaluate(
        self,
        eval_dataset: Any = None,  # noqa: ARG002
        ignore_keys: list[str] | None = None,  # noqa: ARG002
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return and log the metrics of `validate`; the arguments of the base have no effect."""
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in self._validate(self).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
