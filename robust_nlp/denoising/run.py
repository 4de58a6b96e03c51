"""Train a masked language model to repair texts under a mechanism's noise."""

from __future__ import annotations

import dataclasses
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Trainer, TrainingArguments, set_seed

from robust_nlp.data import Split
from robust_nlp.denoising.collator import FillCollator
from robust_nlp.denoising.heads import load_masked_lm
from robust_nlp.denoising.masked_lm import save_policy
from robust_nlp.denoising.objectives import reconstruction, repaired_scores
from robust_nlp.denoising.settings import DenoiserTraining, MaskedLMSettings, gap_masks_of
from robust_nlp.errors import DataError, RecipeError
from robust_nlp.huggingface import HuggingFaceClassifier, position_limit
from robust_nlp.recipe import Recipe
from robust_nlp.training.arguments import training_arguments
from robust_nlp.training.collators import NoiseEpoch
from robust_nlp.training.run import last_checkpoint
from robust_nlp.training.selection import answers

#: Texts that are tried before a training.
CHECKED = 8

#: Folder of a trained denoiser in a run directory, and of its training.
FOLDER, WORK = "denoiser", "denoiser-training"


def train_denoiser(
    settings: MaskedLMSettings,
    recipe: Recipe,
    train: Split,
    validation: Split,
    output: Path,
    *,
    classifier: HuggingFaceClassifier | None = None,
) -> dict[str, Any]:
    """Fine-tune a masked language model under the noise of a recipe, and save it.

    The checkpoint with the least loss on the validation texts, under fixed noise, is kept. An
    interrupted training goes on from its last checkpoint.

    Args:
        settings: The denoiser, and how it is trained.
        recipe: The experiment: mechanism, seed, device and precision.
        train: Texts to train on; labels are needed for the objective `classification` only.
        validation: Texts that choose the checkpoint.
        output: Run directory; the denoiser goes to its folder `denoiser`.
        classifier: The frozen classifier, which the objectives `stability` and `classification`
            need.

    Returns:
        Plain values: `seconds` and `steps` of training, `resumed_at` (the step at which this call
        took over, 0 for none), `best` (the least validation loss, `None` without evaluations),
        `best_step`, and `history`, what was logged along the way.

    Raises:
        RecipeError: If an entry of the recipe is wrong, or the classifier does not fit.
        DataError: If labels are missing.
        ModelError: If the model cannot be loaded.
    """
    options = settings.train
    args = _arguments(recipe, options, output / WORK)
    set_seed(recipe.seed)
    model, tokenizer = load_masked_lm(settings.model, revision=settings.revision, make_head=True)
    max_length = min(position_limit(model, tokenizer), settings.max_length or 10**9)
    if options.stability > 0.0 or options.classification > 0.0:
        _check_classifier(classifier, tokenizer)
        max_length = min(max_length, classifier.max_length if classifier else max_length)
    gap_masks = gap_masks_of(settings, recipe.mechanism)
    collator = FillCollator(
        tokenizer,
        recipe.mechanism,
        gap_masks=gap_masks,
        max_length=max_length,
        seed=recipe.seed,
        protected=recipe.data.protected,
    )
    trainer = DenoiserTrainer(
        options=options,
        collator=collator,
        classifier=classifier,
        model=model,
        args=args,
        data_collator=collator,
        train_dataset=_examples(train, options, classifier, fixed=False),
        eval_dataset=_examples(validation, options, classifier, fixed=True),
        processing_class=tokenizer,
        callbacks=[NoiseEpoch(collator)],  # type: ignore[arg-type]
    )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise RecipeError(
            "training keeps a whole copy of the model in each process (DDP); FSDP and DeepSpeed, "
            "which split it, are not supported"
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
        folder = output / FOLDER
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_policy(folder, gap_masks=gap_masks, mechanism=recipe.mechanism.to_dict())
        shutil.rmtree(output / WORK)
    trainer.accelerator.wait_for_everyone()
    return {
        "seconds": seconds,
        "steps": trainer.state.global_step,
        "resumed_at": 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]),
        "best": trainer.state.best_metric,
        "best_step": trainer.state.best_global_step,
        "history": trainer.state.log_history,
    }


def check_training(
    settings: MaskedLMSettings, recipe: Recipe, train: Split, validation: Split, tokenizer: Any
) -> None:
    """Look for what would stop the training of a denoiser, without any model.

    Args:
        settings: The denoiser, and how it is trained.
        recipe: The experiment.
        train: Texts to train on.
        validation: Texts that choose the checkpoint.
        tokenizer: Tokenizer of the denoiser.

    Raises:
        RecipeError: If an argument is wrong, or the denoiser cannot be trained under the noise.
        DataError: If labels are missing, or texts are pairs where they must not be.
        ModelError: If the tokenizer has no mask or pad token.
    """
    _arguments(recipe, settings.train, Path())
    collator = FillCollator(
        tokenizer,
        recipe.mechanism,
        gap_masks=gap_masks_of(settings, recipe.mechanism),
        max_length=settings.max_length or int(min(tokenizer.model_max_length, 512)),
        seed=recipe.seed,
        protected=recipe.data.protected,
    )
    for split in (train, validation):
        rows = _examples(split, settings.train, None, fixed=True)
        collator(rows[:CHECKED])


class DenoiserTrainer(Trainer):
    """A `Trainer` for batches of a `FillCollator`.

    The loss is the mean over texts of the weighted objectives, the same for every split of an
    optimizer step into batches and processes.

    Args:
        options: The weights of the objectives.
        collator: The collator of the batches.
        classifier: The frozen classifier, which all objectives but the first need.
        kwargs: Arguments of `transformers.Trainer`.
    """

    def __init__(
        self,
        *,
        options: DenoiserTraining,
        collator: FillCollator,
        classifier: HuggingFaceClassifier | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(compute_loss_func=self._loss, **kwargs)
        self._options, self._wording = options, collator.wording
        self._inputs: dict[str, torch.Tensor] = {}
        self._classifier: Any = None
        if options.stability > 0.0 or options.classification > 0.0:
            assert classifier is not None
            self._classifier = classifier.model.to(self.args.device).eval().requires_grad_(False)

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> Any:
        """Return the loss of a batch; see the class."""
        self._inputs = dict(inputs)
        read = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        return super().compute_loss(model, read, *args, **kwargs)

    def _loss(
        self,
        outputs: Any,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        options, inputs, logits = self._options, self._inputs, outputs.logits
        losses = options.reconstruct * reconstruction(logits, inputs["targets"])
        if self._classifier is not None:
            scores = self._repaired_scores(logits)
            for weight, wanted in (
                (options.stability, inputs["answers"]),
                (options.classification, labels),
            ):
                losses = losses + weight * F.cross_entropy(scores, wanted, reduction="none")
        if num_items_in_batch is None:
            return losses.mean()
        # Under DataParallel the Trainer repeats the number per device, and multiplies the loss.
        return losses.sum() / torch.as_tensor(num_items_in_batch, device=losses.device).sum()

    def _repaired_scores(self, logits: torch.Tensor) -> torch.Tensor:
        ids = self._inputs["input_ids"]
        slots = ids == self._wording.mask_id
        _, columns = slots.nonzero(as_tuple=True)
        later = (columns > self._wording.offset).long()
        whole = torch.from_numpy(self._wording.whole).to(logits.device)
        allowed = F.pad(whole, (0, max(0, logits.shape[-1] - whole.shape[1])))
        allowed = allowed[:, : logits.shape[-1]][later]
        return repaired_scores(
            self._classifier, ids, self._inputs["attention_mask"], logits, slots, allowed
        )


def _arguments(recipe: Recipe, options: DenoiserTraining, output: Path) -> TrainingArguments:
    """Return the Trainer's arguments: those of classifiers, but for what chooses the checkpoint."""
    fine_tuning = dataclasses.replace(recipe.train, args=options.args)
    args = training_arguments(dataclasses.replace(recipe, train=fine_tuning), output)
    args.metric_for_best_model, args.greater_is_better = "eval_loss", False
    args.prediction_loss_only = True
    return args


def _examples(
    split: Split,
    options: DenoiserTraining,
    classifier: HuggingFaceClassifier | None,
    *,
    fixed: bool,
) -> list[dict[str, Any]]:
    """Return the rows of a split as `FillCollator` takes them."""
    texts = split.texts[: options.limit]
    labels: Sequence[int | None] = split.labels or [None] * len(split)
    if options.classification > 0.0 and split.labels is None:
        raise DataError(f"the objective classification needs labels; split {split.name!r} has none")
    told: Sequence[int | None] = [None] * len(texts)
    if options.stability > 0.0 and classifier is not None:
        told = answers(classifier, texts).tolist()
    rows = []
    for i, (text, label, answer) in enumerate(zip(texts, labels, told, strict=False)):
        first, second = (text, None) if isinstance(text, str) else text
        if second is not None and (options.stability > 0.0 or options.classification > 0.0):
            raise DataError("the objectives stability and classification take single texts only")
        rows.append(
            {
                "text": first,
                "pair": second,
                "label": label,
                "answer": answer,
                "example_id": i,
                "fixed": fixed,
            }
        )
    return rows


def _check_classifier(classifier: HuggingFaceClassifier | None, tokenizer: Any) -> None:
    needs = "the objectives stability and classification"
    if classifier is None:
        raise RecipeError(f"{needs} need a classifier; train one, or name it in train.classifier")
    if classifier.prefix:
        raise RecipeError(f"{needs} need a classifier without a prefix; got {classifier.prefix!r}")
    if classifier.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise RecipeError(
            f"{needs} feed embeddings to the classifier, which needs the very tokenizer of the "
            "denoiser; take another denoiser, or the objective reconstruct alone"
        )
