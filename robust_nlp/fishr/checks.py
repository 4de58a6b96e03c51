"""What a training over several domains cannot do."""

from __future__ import annotations

from typing import Any

from robust_nlp.errors import ModelError, RecipeError


def check_setup(trainer: Any, *, own_loss: bool) -> None:
    """Refuse ways of training whose statistics would not be those of all rows.

    Args:
        trainer: A `FishrTrainer`.
        own_loss: Whether the user gave the loss of rows.

    Raises:
        RecipeError: If a trainer's arguments ask for one of these.
        ModelError: If its model is none that puts each text into one of several classes.
    """
    args = trainer.args
    if args.n_gpu > 1:
        raise RecipeError(
            f"domains are compared over all rows, but this process would split its batches over "
            f"{args.n_gpu} GPUs; start one process for each with torchrun or accelerate launch, or "
            "show a single one (CUDA_VISIBLE_DEVICES=0)"
        )
    parallel = getattr(trainer.accelerator, "parallelism_config", None)
    if (
        trainer.is_deepspeed_enabled
        or getattr(trainer, "is_distributed_loading_by_transformers", False)
        or (parallel is not None and parallel.non_data_parallel_size > 1)
    ):
        raise RecipeError(
            "FishrTrainer trains with data parallelism (DDP or FSDP2): DeepSpeed, tensor, context "
            "and sequence parallelism are not supported"
        )
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None and getattr(plugin, "fsdp_version", 1) != 2:
        raise RecipeError(
            "of fully sharded data parallelism, FishrTrainer supports the second version; write "
            '"fsdp_version": 2 in fsdp_config'
        )
    if args.whole_head and args.accumulation == "exact" and args.gradient_accumulation_steps > 1:
        raise RecipeError(
            "whole_head needs all rows of a statistic in one batch: write "
            'accumulation="per_batch", or gradient_accumulation_steps=1'
        )
    if args.eval_do_concat_batches is False:
        raise RecipeError(
            "metrics of domains are those of all batches; write eval_do_concat_batches=True"
        )
    config = getattr(trainer.model, "config", None)
    task = getattr(config, "problem_type", None)
    labels = getattr(config, "num_labels", 2)
    if task not in (None, "single_label_classification") or (labels == 1 and not own_loss):
        raise ModelError(
            f"expected a model that puts each text into one of several classes; got num_labels="
            f"{labels} and problem_type={task!r}. For a single logit give task_loss"
        )
