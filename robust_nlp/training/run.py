"""Train the classifier of a recipe."""

from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    set_seed,
)

from robust_nlp.data import Split
from robust_nlp.embedded import resolve_base
from robust_nlp.errors import DataError, ModelError, RecipeError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.loading import load_tokenizer
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.recipe import ModelRecipe, Recipe
from robust_nlp.smoothing import save_smoothing
from robust_nlp.training.arguments import metric, training_arguments
from robust_nlp.training.assemble import make_trainer
from robust_nlp.training.collators import NoisyCollator
from robust_nlp.training.freezing import freeze_layers
from robust_nlp.training.gaussian import EmbeddingNoise, EmbeddingNoiseCollator
from robust_nlp.training.projection import fold, project
from robust_nlp.training.rows import examples, training_rows
from robust_nlp.training.selection import Selection
from robust_nlp.training.swap_filter import shrink_swaps


def train(recipe: Recipe, train: Split, validation: Split, output: Path) -> dict[str, Any]:
    """Fine-tune a classifier, under noise unless the recipe says otherwise, and save it.

    The checkpoint with the best validation accuracy is kept: smoothed accuracy under noise, plain
    accuracy without. An interrupted training goes on from its last checkpoint.

    Args:
        recipe: The experiment.
        train: Texts to train on.
        validation: Texts that choose the checkpoint.
        output: Run directory; the classifier goes to its folder `model`.

    Returns:
        Plain values: `seconds` and `steps` of training, `resumed_at` (the step at which this call
        took over, 0 for none), `metric` and `best` (name and value of what chose the checkpoint,
        `None` without evaluations), `best_step`, and `history`, what was logged along the way.

    Raises:
        RecipeError: If an entry of `train` in the recipe is wrong.
        DataError: If a split has no labels, or the splits disagree on the classes.
        ModelError: If the base cannot be loaded.
    """
    names = _label_names(train, validation)
    args = training_arguments(recipe, output)
    set_seed(recipe.seed)  # a new classification head is drawn from torch's global generator
    base = load_for_training(recipe.model, names, protected=recipe.data.protected)
    options = recipe.train
    mechanism = recipe.mechanism if options.noise else None
    collate: dict[str, Any] = {
        "max_length": base.max_length,
        "seed": recipe.seed,
        "rates": options.rates,
        "clean_share": options.clean_share,
        "draws": 2 if options.noise and options.consistency > 0.0 else 1,
        "prefix": base.prefix,
        "protected": base.protected,
    }
    noise: EmbeddingNoise | None = None
    collator: NoisyCollator
    if isinstance(mechanism, GaussianEmbedding):
        collator, noise = _embedding_noise(recipe, base, mechanism, collate, examples(train))
    elif options.projection is not None:
        raise RecipeError(
            "train.projection is a map of embeddings under noise: it needs a mechanism of kind "
            f"{GaussianEmbedding.kind} and train.noise"
        )
    else:
        collator = NoisyCollator(base.tokenizer, mechanism, **collate)
    selection = Selection(
        base,
        validation.texts,
        validation.labels or [],
        mechanism=mechanism,
        n_votes=options.selection_votes,
        limit=options.selection_limit,
        seed=recipe.seed,
        domains=validation.domains,
        worst=options.select == "worst_domain_accuracy",
    )
    dataset, callbacks = training_rows(recipe, train, base, output)
    trainer: Any = make_trainer(
        recipe,
        base,
        args=args,
        collator=collator,
        noise=noise,
        selection=selection,
        callbacks=callbacks,
        train_dataset=dataset,
        eval_dataset=examples(validation),
    )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise RecipeError(
            "training keeps a whole copy of the model in each process (DDP); FSDP and DeepSpeed, "
            "which split it, are not supported"
        )
    if noise is not None and args.n_gpu > 1:
        raise RecipeError(
            f"noise on embeddings is trained with one process per GPU; this one would split its "
            f"batches over {args.n_gpu}. Start it with torchrun or accelerate launch"
        )
    checkpoint = last_checkpoint(Path(str(args.output_dir)))
    start = time.perf_counter()
    with warnings.catch_warnings():
        # transformers 4 says so of checkpoints that were written within one second.
        warnings.filterwarnings("ignore", message="mtime may not be reliable", category=UserWarning)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds = time.perf_counter() - start
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        folder = output / "model"
        fold(base.model)
        base.model.save_pretrained(folder)
        base.tokenizer.save_pretrained(folder)
        save_smoothing(
            folder,
            recipe.mechanism,
            max_length=base.max_length,
            prefix=base.prefix,
            protected=base.protected,
        )
        shutil.rmtree(str(args.output_dir))
    trainer.accelerator.wait_for_everyone()
    return {
        "seconds": seconds,
        "steps": trainer.state.global_step,
        "resumed_at": 0 if checkpoint is None else _step(checkpoint),
        "metric": metric(recipe),
        "best": trainer.state.best_metric,
        "best_step": trainer.state.best_global_step,
        "history": trainer.state.log_history,
    }


def _embedding_noise(
    recipe: Recipe,
    base: HuggingFaceClassifier,
    mechanism: GaussianEmbedding,
    collate: dict[str, Any],
    rows: list[dict[str, Any]],
) -> tuple[EmbeddingNoiseCollator, EmbeddingNoise]:
    """Prepare a model for noise on its embeddings, with a projection if the recipe has one."""
    projection, collapse = recipe.train.projection, 0.0
    if projection is not None:
        collapse = projection.collapse
        if projection.filter is not None:
            reader = EmbeddingNoiseCollator(base.tokenizer, mechanism, with_swaps=True, **collate)
            strength = projection.filter
            shrink_swaps(base.model, reader, rows, strength=strength, seed=recipe.seed)
        project(base.model, rank=projection.rank, seed=recipe.seed)
    collator = EmbeddingNoiseCollator(
        base.tokenizer, mechanism, with_swaps=collapse > 0.0, **collate
    )
    return collator, EmbeddingNoise(base.model, sigma=mechanism.sigma, collapse=collapse)


def load_for_training(
    recipe: ModelRecipe, label_names: list[str], *, protected: Any
) -> HuggingFaceClassifier:
    """Load a base model in single precision with a head for the given classes.

    A tokenizer without a pad token pads with its end-of-text token. Lower layers are frozen as the
    recipe says.

    Raises:
        ModelError: If there is no such model, its tokenizer has nothing to pad with, or it has no
            such layers to freeze.
    """
    source = resolve_base(recipe.base)
    try:
        tokenizer = load_tokenizer(source, recipe.revision)
        model = AutoModelForSequenceClassification.from_pretrained(
            source,
            revision=recipe.revision,
            num_labels=len(label_names),
            id2label=dict(enumerate(label_names)),
            label2id={name: i for i, name in enumerate(label_names)},
            ignore_mismatched_sizes=True,  # the head of another task is replaced
            dtype=torch.float32,
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load a model to fine-tune from {source!r}: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    if recipe.freeze is not None:
        freeze_layers(model, recipe.freeze)
    return HuggingFaceClassifier(
        model,
        tokenizer,
        max_length=recipe.max_length,
        prefix=recipe.prefix,
        protected=protected,
        batch_tokens=recipe.batch_tokens,
    )


def last_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of the most steps that was written to its end, if there is one."""
    # The Trainer writes its state last.
    complete = [state.parent for state in folder.glob("checkpoint-*/trainer_state.json")]
    return max(complete, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _label_names(train: Split, validation: Split) -> list[str]:
    for split in (train, validation):
        if split.labels is None or split.label_names is None:
            raise DataError(f"training needs labels; split {split.name!r} has none")
    if train.label_names != validation.label_names:
        raise DataError(
            f"splits {train.name!r} and {validation.name!r} must have the same classes; got "
            f"{train.label_names} and {validation.label_names}"
        )
    return list(train.label_names or [])
