"""The arguments of the Trainer, from a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
import transformers
from transformers import TrainingArguments

from robust_nlp.errors import RecipeError, did_you_mean
from robust_nlp.fishr.config import FishrConfig
from robust_nlp.recipe import Recipe
from robust_nlp.training.selection import selection_metric

#: Arguments of the Trainer that are not for `train.args`, and why.
RESERVED = {
    "output_dir": "checkpoints go to the run directory",
    "seed": "it is the recipe's own seed",
    "use_cpu": "model.device says where to train",
    "remove_unused_columns": "the collator needs the texts",
    "metric_for_best_model": "it is the (smoothed) validation accuracy",
}

#: What releases of transformers call it to compute activations again in the backward pass.
CHECKPOINTING = ("gradient_checkpointing", "activation_checkpointing")


def training_arguments(recipe: Recipe, output: Path) -> TrainingArguments:
    """Return the Trainer's arguments: those of the recipe over defaults of ours.

    Defaults: batches of 32, learning rate 2e-5, weight decay 0.01, warm-up over 5 % of the steps;
    log, evaluate and save once per epoch and return to the best checkpoint; on a GPU, mixed
    precision if `model.dtype` is a half precision; gradient checkpointing, if asked for, that is
    not reentrant.

    Raises:
        RecipeError: If an argument does not exist, has a wrong value, or is not for `train.args`.
    """
    given = _checked_arguments(_checkpointing(recipe))
    device = recipe.model.device
    if device not in (None, "cpu", "cuda", "mps"):
        raise RecipeError(
            f"training uses all devices of a kind that it sees; got model.device={device!r}. Write "
            '"cuda", and choose a GPU with the environment variable CUDA_VISIBLE_DEVICES'
        )
    gpu = torch.cuda.is_available() and device != "cpu"
    choosing = "no" not in (given.get("eval_strategy"), given.get("save_strategy"))
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": 32,
        "learning_rate": 2e-5,
        "weight_decay": 0.01,
        "load_best_model_at_end": choosing,
        "greater_is_better": True,
        "save_total_limit": 1,
        "bf16": gpu and recipe.model.dtype == "bfloat16",
        "fp16": gpu and recipe.model.dtype == "float16",
        "report_to": "none",
        "dataloader_pin_memory": gpu,
    }
    for what in ("eval", "save", "logging"):
        defaults[f"{what}_strategy"] = "steps" if f"{what}_steps" in given else "epoch"
    arguments: type[TrainingArguments] = TrainingArguments
    if compares_domains(recipe):
        arguments = FishrConfig
        defaults |= _domain_arguments(recipe)
    try:
        return arguments(
            **{
                **defaults,
                **given,
                "output_dir": str(output / "checkpoints"),
                "seed": recipe.seed,
                "use_cpu": device == "cpu",
                "remove_unused_columns": False,
                "metric_for_best_model": metric(recipe),
            }
        )
    except RecipeError as error:
        raise RecipeError(f"train.domains: {error}") from error
    except (TypeError, ValueError) as error:
        raise RecipeError(f"train.args: {error}") from error


def _checkpointing(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's arguments, checkpointing by the name that this release has.

    Reentrant checkpointing, the default of transformers 4, gives no gradient to layers whose input
    has none, as behind frozen embeddings, and none to a perturbation of embeddings.
    """
    args = dict(recipe.train.args)
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    newest = [name for name in CHECKPOINTING if name in known][-1]
    said = next((name for name in CHECKPOINTING if f"{name}_kwargs" in args), newest)
    for other in set(CHECKPOINTING) - {newest}:
        for end in ("", "_kwargs"):
            if other + end in args:
                args.setdefault(newest + end, args.pop(other + end))
    if not args.get(newest):
        return args
    settings = args.get(f"{newest}_kwargs") or {}
    if not isinstance(settings, Mapping):
        raise RecipeError(
            f"train.args.{said}_kwargs is a mapping, such as {{use_reentrant: false}}; got "
            f"{settings!r}"
        )
    losers = {
        "model.freeze": recipe.model.freeze is not None,
        "train.adversarial": recipe.train.adversarial is not None,
    }
    if settings.get("use_reentrant") and any(losers.values()):
        entries = " and ".join(entry for entry, there in losers.items() if there)
        raise RecipeError(
            f"train.args.{said}_kwargs has use_reentrant: {settings['use_reentrant']}, with which "
            f"{entries} cannot get the gradients that training needs. Set it to false, or leave it "
            "out, which is the same"
        )
    reentrant = bool(settings.get("use_reentrant"))
    args[f"{newest}_kwargs"] = {**settings, "use_reentrant": reentrant}
    return args


def _checked_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Check names, read numbers that YAML takes for text, and translate between releases."""
    fields = {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}
    result: dict[str, Any] = {}
    for name, value in given.items():
        if name in RESERVED:
            raise RecipeError(f"train.args cannot set {name}: {RESERVED[name]}")
        if name != "warmup_ratio" and name not in fields:
            raise RecipeError(
                f"train.args.{name} is no argument of transformers.TrainingArguments "
                f"{transformers.__version__}.{did_you_mean(name, fields)}"
            )
        result[name] = value
        if isinstance(value, str) and _is_number(fields.get(name)):
            try:
                result[name] = float(value)  # YAML 1.1 reads 2e-5 as text
            except ValueError:
                raise RecipeError(f"train.args.{name} is a number; got {value!r}") from None
    # A share of the steps is `warmup_ratio` up to transformers 4 and a `warmup_steps` below 1 from
    # 5 on; recipes may say either.
    share = result.pop("warmup_ratio", None if "warmup_steps" in result else 0.05)
    steps = result.pop("warmup_steps", 0)
    if 0 < steps < 1:
        share, steps = steps, 0
    if "warmup_ratio" in fields:
        return {**result, "warmup_ratio": share or 0.0, "warmup_steps": steps}
    return {**result, "warmup_steps": steps or share or 0}


def _is_number(field: dataclasses.Field[Any] | None) -> bool:
    return field is None or field.type is float or float in get_args(field.type)


def metric(recipe: Recipe) -> str:
    """Name the metric that chooses the checkpoint."""
    worst = recipe.train.select == "worst_domain_accuracy"
    return "eval_" + selection_metric(noise=recipe.train.noise, worst=worst)


def compares_domains(recipe: Recipe) -> bool:
    """Tell whether a recipe is for `FishrTrainer`, which does all but plain noise."""
    return recipe.train.domains is not None or recipe.train.adversarial is not None


def _domain_arguments(recipe: Recipe) -> dict[str, Any]:
    """Return what `FishrConfig` adds; without domains, the mean loss alone."""
    if recipe.train.domains is None:
        return {"objective": "erm", "balanced_batches": False}
    fields = dataclasses.fields(recipe.train.domains)
    return {field.name: getattr(recipe.train.domains, field.name) for field in fields}
