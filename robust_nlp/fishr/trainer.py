"""A `transformers.Trainer` whose loss looks at domains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, Sampler
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from robust_nlp.augmentation.embedding import NOISE_SEED, NOISE_SIGMA
from robust_nlp.embedding_noise import noisy_rows
from robust_nlp.errors import DataError, RecipeError
from robust_nlp.fishr.accumulation import Rows, TwoPasses
from robust_nlp.fishr.batches import balanced_sampler
from robust_nlp.fishr.checkpoint import load_state, save_state
from robust_nlp.fishr.checks import check_setup
from robust_nlp.fishr.config import FishrConfig
from robust_nlp.fishr.domains import AUGMENTED, DomainCollator, DomainNames, columns
from robust_nlp.fishr.head import HeadCapture
from robust_nlp.fishr.metrics import DomainMetrics, without_domains
from robust_nlp.fishr.residuals import IGNORED, any_loss, full_precision, residuals_of
from robust_nlp.fishr.sampler import SamplerEpoch
from robust_nlp.fishr.steps import DomainLoss
from robust_nlp.fishr.tally import right_answers

#: Columns of rows and batches that are ours, and no inputs of models.
_MARKS = (AUGMENTED, NOISE_SIGMA, NOISE_SEED)


class FishrTrainer(Trainer):
    """A `Trainer` for data of several domains, with an objective that compares them.

    Use it like a `Trainer`, with a `FishrConfig` for its arguments and a data set that has a column
    of domains:

        from robust_nlp.fishr import FishrConfig, FishrTrainer

        args = FishrConfig(
            output_dir="out", domain_column="source", objective="fishr",
            per_device_train_batch_size=32, eval_strategy="epoch",
            save_strategy="epoch", load_best_model_at_end=True,
            metric_for_best_model="worst_domain_accuracy",
        )
        trainer = FishrTrainer(
            model, args, train_dataset=train, eval_dataset=validation, processing_class=tokenizer
        )
        trainer.train()

    **Guarantees**: an optimizer step is the same for every split of its rows into processes and,
    with `accumulation="exact"`, into accumulated batches, dropout aside. What an objective
    remembers is updated once per optimizer step and not in evaluations, and a training that is
    resumed goes on as if it had not stopped.

    **Logs**, beside those of the Trainer: `risk`, `penalty` and `penalty_weight`, and of each
    domain `<name>_loss` and `<name>_accuracy`, with `worst_domain_loss` and
    `worst_domain_accuracy`. Evaluations have the same of each domain, with the prefix "eval", and
    `accuracy` and `mean_domain_accuracy`.

    **Rows**: those of label -100 count nowhere. Those of unknown domain count in the loss and in no
    statistic of domains. Those that a column "augmented" marks, copies of others, count in the mean
    losses of their domains, and in no variance, which they would make look surer than it is.

    Args:
        model: A model for sequence classification whose last step is a linear layer.
        args: The settings.
        task_loss: Loss of rows in place of cross-entropy: takes logits `(rows, classes)` and
            labels, and returns losses `(rows,)`, each of its own row alone.
        extra_loss: A term to add to the loss, such as that of attacks, taken after the forward pass
            on each batch: takes this trainer, the model, the batch and the model's outputs, and
            returns the mean over the batch's rows with a label, or `None`. Of the batch, the model
            takes what `model_inputs` leaves.
        changed: What changes a forward pass in training, such as noise on the embeddings: takes the
            model's inputs, and yields what is left of them for the model.
        validate: Takes this trainer and returns metrics by name, equal in all processes, in place
            of what the Trainer would evaluate; `None` for the latter.
        compute_metrics: As in `Trainer`; its values go before ours of the same name.
        preprocess_logits_for_metrics: As in `Trainer`.
        kwargs: Further arguments of `transformers.Trainer`.

    Raises:
        RecipeError: If the settings are for a way of training that is not supported.

    Source: Rame, Dancette and Cord, Fishr (ICML 2022).
    """

    #: Losses are means over a batch, which the Trainer divides by the number of batches. It would
    #: not, and would multiply by the number of processes, since models take further arguments.
    loss_is_scaled_for_ga = False

    args: FishrConfig

    def __init__(
        self,
        model: Any = None,
        args: FishrConfig | None = None,
        *,
        task_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        extra_loss: Callable[[FishrTrainer, Any, Any, Any], Tensor | None] | None = None,
        changed: Callable[[dict[str, Any]], AbstractContextManager[dict[str, Any]]] | None = None,
        validate: Callable[[FishrTrainer], dict[str, float]] | None = None,
        compute_metrics: Callable[..., dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        args = FishrConfig(output_dir="tmp_trainer") if args is None else args
        if not isinstance(args, FishrConfig):
            raise RecipeError(f"FishrTrainer takes a FishrConfig; got {type(args).__name__}")
        if kwargs.get("compute_loss_func") is not None:
            raise RecipeError(
                "FishrTrainer needs the loss of each row by itself: give task_loss, a function of "
                "logits and labels, in place of compute_loss_func"
            )
        self.domains = DomainNames()
        metrics = DomainMetrics(
            self.domains, self._score, preprocess_logits_for_metrics, compute_metrics
        )
        self._extra_loss, self._changed, self._validate = extra_loss, changed, validate
        self._task_loss = (
            partial(residuals_of, label_smoothing=args.label_smoothing_factor)
            if task_loss is None
            else any_loss(task_loss)
        )
        super().__init__(
            model=model,
            args=args,
            compute_metrics=metrics.compute,
            preprocess_logits_for_metrics=metrics.preprocess,
            **kwargs,
        )
        check_setup(self, own_loss=task_loss is not None)
        self.model_accepts_loss_kwargs = False
        self.label_names = [*self.label_names, args.domain_column]
        self.data_collator = DomainCollator(
            self.data_collator, self.domains, column=args.domain_column
        )
        self.domain_loss = self._new_loss()
        self._epoch = SamplerEpoch()
        self.add_callback(self._epoch)
        self._learned: list[Any] = []
        self._head: tuple[Any, HeadCapture] | None = None
        self._window: list[Any] = []
        self._passes: TwoPasses | None = None

    def _new_loss(self) -> DomainLoss:
        return DomainLoss(self.args.build_objective(), self.domains, self._task_loss)

    # Data.

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            self._signature_columns: Any = [*(self._signature_columns or ()), *_MARKS]

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        streamed = isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__")
        if streamed and kwargs.get("is_training"):
            raise DataError(
                f"domains are learned and balanced before training, which takes a data set with a "
                f"length; got {type(dataset).__name__}"
            )
        if not streamed and not any(known is dataset for known in self._learned):
            column = self.args.domain_column
            self.domains.learn(columns(dataset, column).get(column, ()))
            self._learned.append(dataset)
        return super()._get_dataloader(dataset, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        args = self.args
        if not args.balanced_batches:
            return super()._get_train_sampler(dataset)
        accelerate: Any = args.accelerator_config
        processes = 1 if accelerate.split_batches else args.world_size
        batches = args.gradient_accumulation_steps if args.accumulation == "exact" else 1
        size = self._train_batch_size * processes * batches
        self._epoch.sampler = balanced_sampler(dataset, self.domains, args, batch_size=size)
        return self._epoch.sampler

    def model_inputs(self, batch: Any) -> dict[str, Any]:
        """Return what a model takes of a batch: without labels, domains and marks."""
        own = {*self.label_names, *_MARKS}
        return {name: value for name, value in batch.items() if name not in own}

    # The loss.

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as `transformers.Trainer` does."""
        self.domain_loss = self._new_loss()
        try:
            found = super().train(*args, **kwargs)
        finally:
            if self._head is not None:
                self._head[1].close()
                self._head = None
        self.domain_loss.finish()
        return found

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Take the batches of an optimizer step, as `transformers.Trainer` does."""
        samples = super().get_batch_samples(*args, **kwargs)
        self._window, self._passes = list(samples[0]), None
        self.domain_loss.begin_step(calls=1 if self._two_passes else len(self._window))
        return samples

    @property
    def _two_passes(self) -> bool:
        return self.args.accumulation == "exact" and len(self._window) > 1

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002
    ) -> Any:
        """Return the loss of a batch in training; elsewhere the mean loss of its rows."""
        if model.training:
            loss, outputs = self._training_loss(model, inputs)
        else:
            outputs = model(**self.model_inputs(inputs))
            losses, _, counts = self._score(_logits(outputs), inputs["labels"])
            loss = losses.sum() / counts.sum().clamp(min=1)
            if not isinstance(outputs, dict):
                outputs = (loss, *outputs)
        return (loss, outputs) if return_outputs else loss

    def _training_loss(self, model: Any, inputs: Any) -> tuple[Tensor, Any]:
        share = 1.0
        if self._two_passes:
            if not self._passes:
                forward = partial(self._forward, model)
                self._passes = TwoPasses(forward, self._window, self._objective_loss)
            share = len(self._window)
            loss, outputs = self._passes.backward_loss(inputs)
        else:
            rows, outputs = self._forward(model, inputs)
            loss = self._objective_loss(rows)
        if self._extra_loss is not None:
            extra = self._extra_loss(self, model, inputs, outputs)
            n_rows = int((inputs["labels"] != IGNORED).sum())
            if extra is not None and n_rows:  # a mean over no rows is no number
                # Averaged over processes and batches, this is the mean over the rows of all.
                share *= self.args.world_size * n_rows
                loss = loss + share / self.domain_loss.n_rows * extra
        return loss, outputs

    def _forward(self, model: Any, inputs: Any) -> tuple[Rows, Any]:
        """Run the model; return what the objective sees of the rows, and the outputs."""
        batch = self._prepare_inputs(inputs)
        if batch.get("labels") is None:
            raise DataError(f"expected labels in the batch; it has {', '.join(batch)}")
        if self._head is None or self._head[0] is not self.model:
            self._head = self.model, HeadCapture(self.model, whole_head=self.args.whole_head)
        head = self._head[1]
        with ExitStack() as stack:
            inputs = self.model_inputs(batch)
            if self._changed is not None:
                inputs = stack.enter_context(self._changed(inputs))
            if NOISE_SIGMA in batch:
                noise = noisy_rows(self.model, batch[NOISE_SIGMA], batch[NOISE_SEED])
                stack.enter_context(noise)
            stack.enter_context(head.watching())
            outputs = model(**inputs)
        logits = _logits(outputs)
        seen = head.rows(logits, batch.get("attention_mask"))
        domains = batch[self.args.domain_column]
        copies = batch.get(AUGMENTED)
        rows = Rows(
            features=full_precision(seen.features),
            logits=full_precision(logits),
            labels=batch["labels"],
            domains=domains,
            bias=seen.bias,
            inner=seen.inner,
            sizes=(len(logits),),
            copies=torch.zeros_like(domains, dtype=torch.bool) if copies is None else copies,
        )
        return rows, outputs

    def _objective_loss(self, rows: Rows) -> Tensor:
        weight = self.args.penalty_weight_at(self.state.global_step, self.state.max_steps)
        return self.domain_loss(rows, weight=weight)

    # Evaluation.

    def _score(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        losses, _ = self._task_loss(full_precision(logits), labels)
        return losses, right_answers(logits, labels), labels != IGNORED

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as `transformers.Trainer` does, with metrics by domain."""
        output = super().evaluation_loop(*args, **kwargs)
        if output.label_ids is None or output.predictions is None:
            return output
        return output._replace(
            predictions=output.predictions[0], label_ids=without_domains(output.label_ids)
        )

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return and log the metrics of `validate`, if there is one, or those of the Trainer."""
        if self._validate is None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in self._validate(self).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    # Logs and checkpoints.

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as `transformers.Trainer` does; with the training loss, what is known of domains."""
        if "loss" in logs:
            logs = {**logs, **self.domain_loss.logs()}
        super().log(logs, *args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.args.should_save and not self.args.save_only_model:
            name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder = Path(self._get_output_dir(trial=trial), name)
            save_state(folder, self.domain_loss.state, self.args.objective_settings)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.domain_loss.state = load_state(Path(checkpoint), self.args.objective_settings)


def _logits(outputs: Any) -> Tensor:
    logits: Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    return logits
