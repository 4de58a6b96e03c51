"""The trainer of a recipe, put together from its parts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from robust_nlp.errors import RecipeError, RobustNLPWarning
from robust_nlp.fishr.trainer import FishrTrainer
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.recipe import Recipe, TrainRecipe
from robust_nlp.training.adversarial import AdversarialLoss
from robust_nlp.training.arguments import compares_domains
from robust_nlp.training.averaging import WeightAveraging
from robust_nlp.training.collators import NoiseEpoch, NoisyCollator
from robust_nlp.training.gaussian import EmbeddingNoise
from robust_nlp.training.sampler import TakesLengthsTogether
from robust_nlp.training.selection import Selection
from robust_nlp.training.trainer import NoisyTrainer, disagreement

#: Shares of the steps that differ by less are one moment.
TOGETHER = 0.05

ExtraLoss = Callable[[Any, Any, Any, Any], torch.Tensor | None]


def make_trainer(
    recipe: Recipe,
    base: HuggingFaceClassifier,
    *,
    args: Any,
    collator: NoisyCollator,
    noise: EmbeddingNoise | None,
    selection: Selection,
    callbacks: list[TrainerCallback],
    **data: Any,
) -> Trainer:
    """Return the trainer that a recipe asks for.

    It is a `FishrTrainer` where domains are compared or embeddings attacked, and a `NoisyTrainer`
    elsewhere. Weight averages go with both.

    Args:
        recipe: The experiment.
        base: The classifier.
        args: The trainer's arguments; see `training_arguments`.
        collator: Makes the batches.
        noise: Noise on the embeddings, if the mechanism has it.
        selection: Measures what picks the checkpoint.
        callbacks: Those of the training set.
        data: `train_dataset` and `eval_dataset`.

    Raises:
        RecipeError: If parts of the recipe do not go together.
    """
    options = recipe.train
    shared: dict[str, Any] = {
        **data,
        "model": base.model,
        "args": args,
        "data_collator": collator,
        "processing_class": base.tokenizer,
        "validate": lambda trainer: selection(trainer.accelerator),
        "callbacks": [NoiseEpoch(collator), *callbacks],
    }
    if options.averaging is not None:
        averaging = WeightAveraging(options.averaging)
        shared["callbacks"] = [averaging.goes_on, *shared["callbacks"], averaging]
    if not compares_domains(recipe):
        return NoisyTrainer(
            draws=collator.draws, consistency=options.consistency, noise=noise, **shared
        )
    environments = options.environments
    on_embeddings = noise is not None or (environments is not None and environments.on_embeddings)
    if on_embeddings and options.adversarial is not None:
        raise RecipeError(
            "train.adversarial does not go together with noise on embeddings, which it perturbs "
            "itself; set train.noise to false, take a mechanism that changes words, or leave "
            "embedding_noise out of train.environments"
        )
    extra: list[ExtraLoss] = []
    if noise is not None:
        extra.append(_pull(noise))
    if collator.draws > 1:
        extra.append(_consistency(options.consistency, collator.draws))
    if options.adversarial is not None:
        adversary = AdversarialLoss(options.adversarial, seed=recipe.seed)
        adversary.watch(base.model)
        extra.append(adversary.extra_loss)
    _warn_of_schedules(options)
    trainer = _WithoutDomains if options.domains is None else FishrTrainer
    return trainer(
        extra_loss=_sum(extra) if extra else None,
        changed=None if noise is None else noise.added,
        **shared,
    )


class _WithoutDomains(TakesLengthsTogether, FishrTrainer):
    """One for adversaries alone, whose batches are those of `NoisyTrainer`."""


def _warn_of_schedules(options: TrainRecipe) -> None:
    """Warn of a penalty and an adversary that begin together: training may not get over both."""
    domains, adversary = options.domains, options.adversarial
    if domains is None or adversary is None:
        return
    if abs(domains.ramp_start - adversary.start) < TOGETHER:
        warnings.warn(
            f"the penalty of train.domains begins after {domains.ramp_start:.0%} of the steps and "
            f"the adversary after {adversary.start:.0%}: let one come later, by "
            "train.domains.ramp_start or train.adversarial.start",
            RobustNLPWarning,
            stacklevel=2,
        )


def _consistency(weight: float, draws: int) -> ExtraLoss:
    """Return what the draws of a text's noise cost by their disagreement; see `noisy_loss`."""

    def cost(_trainer: Any, _model: Any, _inputs: Any, outputs: Any) -> torch.Tensor:
        return weight * disagreement(outputs.logits, draws=draws) / len(outputs.logits)

    return cost


def _pull(noise: EmbeddingNoise) -> ExtraLoss:
    """Return what allowed swaps cost by their distance; see `EmbeddingNoise.pull`."""

    def cost(trainer: Any, _model: Any, _inputs: Any, outputs: Any) -> torch.Tensor | None:
        state = trainer.state
        found = noise.pull((state.global_step + 1) / max(state.max_steps, 1))
        return found / len(outputs.logits) if isinstance(found, torch.Tensor) else None

    return cost


def _sum(terms: list[ExtraLoss]) -> ExtraLoss:
    def cost(trainer: Any, model: Any, inputs: Any, outputs: Any) -> torch.Tensor | None:
        found = [term(trainer, model, inputs, outputs) for term in terms]
        there = [each for each in found if each is not None]
        return torch.stack(there).sum() if there else None

    return cost
