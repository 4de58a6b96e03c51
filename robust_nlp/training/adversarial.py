"""Adversarial training in the space of input embeddings: FreeLB, PGD and SMART as a loss term."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from robust_nlp.errors import ModelError
from robust_nlp.training.ascents import Loss, freelb, pgd, smart
from robust_nlp.training.perturbation import (
    Perturbation,
    bare,
    embedding_of,
    open_tokens,
    order_checked,
    perturbed,
)
from robust_nlp.training.replay import RandomState, replayed
from robust_nlp.training.settings import PGD, SMART, AnyAdversary

TaskLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_IGNORED = -100


class AdversarialLoss:
    """The loss of perturbed texts, beside that of the clean texts.

    For example, in a `FishrTrainer`::

        adversarial = AdversarialLoss(PGD(), seed=0)
        trainer = FishrTrainer(model, args, extra_loss=adversarial.extra_loss, ...)
        adversarial.watch(trainer.model)

    All passes of a call have one set of dropout masks. A call leaves torch's random numbers as they
    were, so that training goes on as after the clean pass alone; it leaves nothing in the gradients
    of parameters before the backward pass, unless it is given `backward`. Padding never moves, and
    closed ids do not; other special tokens do, as in the published methods.

    Args:
        settings: The adversary.
        seed: Seed of the random starts.
        closed_ids: Ids of tokens that are never perturbed, such as `tokenizer.all_special_ids`.

    Attributes:
        losses: What the passes of the last call cost, unweighted and in order; for SMART,
            divergences.
    """

    def __init__(
        self, settings: AnyAdversary, *, seed: int, closed_ids: Sequence[int] = ()
    ) -> None:
        self.settings, self._seed, self._closed = settings, seed, tuple(closed_ids)
        self.losses: list[torch.Tensor] = []
        self._noted: RandomState | None = None
        self._own_pass, self._order_known = False, False

    def __call__(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        clean_logits: torch.Tensor,
        *,
        loss_fn: Loss,
        step: int,
        backward: Callable[[torch.Tensor], Any] | None = None,
        domains: torch.Tensor | None = None,
        counted: torch.Tensor | None = None,
        random: RandomState | None = None,
        scale: float = 1.0,
    ) -> torch.Tensor:
        """Return the weighted loss of the perturbed texts.

        The random start of a text depends on the seed, the step and its tokens alone: not on the
        number of processes, the batch or its padding.

        Args:
            model: The classifier, wrapped or not.
            inputs: What it was called with, `input_ids` among it; `labels` are not passed on.
            clean_logits: What it answered, with their graph; shape `(rows, classes)`. SMART alone
                uses them.
            loss_fn: Takes logits and returns the mean loss of the batch; SMART does without.
            step: Optimizer steps made so far.
            backward: Called by FreeLB with each pass's share of the loss, to add its gradient to
                the parameters' and free its graph; what is returned then has no graph. Under DDP
                the caller sees to it that these passes are not reduced by themselves. `None` frees
                the graphs as well, at the price of one copy of the gradients: the returned loss
                knows its gradient.
            domains: Domain of each row, for `per_domain`; shape `(rows,)`.
            counted: Which rows are in the mean of SMART's divergences; shape `(rows,)`. `None`
                takes all.
            random: State before the clean pass, for the masks of that pass; see also `watch`.
                `None` draws others. SMART then makes an unperturbed pass of its own to compare
                with, as two sets of masks differ more than its perturbation makes answers differ.
            scale: Factor on losses before, and off gradients after, backward passes made here,
                against underflow in half precision: that of the gradient scaler.

        Raises:
            ModelError: If the model cannot be perturbed: no embeddings that are used once, texts
                rearranged before, reentrant gradient checkpointing, DataParallel.
            ValueError: If `inputs` lack `input_ids`, or `domains` are missing.
        """
        settings = self.settings
        if "input_ids" not in inputs:
            raise ValueError(f"adversarial training needs input_ids; got {', '.join(inputs)}")
        model = bare(model)
        start = RandomState.now() if random is None else random
        batch = {name: value for name, value in inputs.items() if name != "labels"}
        where, keys = self._perturbation(model, batch, start, domains)
        self.losses = []

        def logits(numbers: torch.Tensor) -> torch.Tensor:
            with self._pass(model, batch, start), perturbed(model, where.change(numbers)):
                return _logits(model(**batch))

        def cost(numbers: torch.Tensor) -> torch.Tensor:
            loss = loss_fn(logits(numbers))
            self.losses.append(loss.detach())
            return loss

        if isinstance(settings, SMART):
            own = random is None
            numbers = where.start(keys, self._seed, step, size=settings.noise, normal=True)
            reference = logits(where.zeros()) if own else _full(clean_logits)
            rows = torch.ones(len(reference), device=reference.device)
            shares = rows if counted is None else counted.to(rows)
            return smart(settings, numbers, logits, reference, shares, self.losses, scale)
        if isinstance(settings, PGD):
            size = settings.radius if settings.random_start else 0.0
            numbers = where.start(keys, self._seed, step, size=size)
            return pgd(settings, numbers, cost, scale)
        numbers = where.start(keys, self._seed, step, size=settings.init_magnitude)
        parameters = [p for p in model.parameters() if p.requires_grad]
        return freelb(settings, numbers, cost, scale, parameters, backward)

    def extra_loss(
        self,
        trainer: Any,
        model: Any,
        inputs: Mapping[str, Any],
        outputs: Any,
        *,
        task_loss: TaskLoss | None = None,
    ) -> torch.Tensor | None:
        """Return the loss beside that of a clean pass, as `FishrTrainer` and others ask for it.

        Args:
            trainer: The `transformers.Trainer`; one with a method `model_inputs`, as `FishrTrainer`
                has, says by it what of a batch the model takes.
            model: The model that it trains; `None` is returned if it is not in training mode, and
                in steps before `settings.start`.
            inputs: The batch, with `labels`; rows of label -100 do not count.
            outputs: The model's answer to it.
            task_loss: Takes logits and labels and returns losses of rows; `None` is cross-entropy
                under the trainer's label smoothing.

        Raises:
            ModelError: See `__call__`; also if the model is split over processes.
        """
        state = trainer.state
        if not model.training or state.global_step < self.settings.start * state.max_steps:
            return None
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise ModelError(
                "adversarial training needs a whole copy of the model in each process (DDP); FSDP "
                "and DeepSpeed, which split it, are not supported"
            )
        args, labels, scaler = trainer.args, inputs["labels"], trainer.accelerator.scaler
        counted = labels != _IGNORED
        losses = task_loss or partial(
            F.cross_entropy, reduction="none", label_smoothing=args.label_smoothing_factor
        )
        return self(
            model,
            getattr(trainer, "model_inputs", dict)(inputs),
            _logits(outputs),
            # A batch of ignored labels costs nothing, and not 0 / 0.
            loss_fn=lambda z: (losses(z, labels) * counted).sum() / counted.sum().clamp(min=1),
            step=trainer.state.global_step,
            domains=inputs.get(getattr(args, "domain_column", "domain")),
            counted=counted,
            random=self._noted,
            scale=1.0 if scaler is None else scaler.get_scale(),
        )

    def watch(self, model: Any) -> Any:
        """Note the state of random numbers before each training pass, for `extra_loss`.

        Returns:
            A handle whose `remove()` ends it.
        """

        def note(module: torch.nn.Module, _: Any) -> None:
            if module.training and not self._own_pass:
                self._noted = RandomState.now()

        return bare(model).register_forward_pre_hook(note)

    def _perturbation(
        self,
        model: Any,
        batch: Mapping[str, Any],
        start: RandomState,
        domains: torch.Tensor | None,
    ) -> tuple[Perturbation, list[str]]:
        """Return the free numbers of a batch, and keys for their random start."""
        settings, ids = self.settings, batch["input_ids"]
        open_ = open_tokens(batch, self._closed)
        with torch.no_grad(), replayed(start):
            vectors = embedding_of(model)(ids).float()
        units = torch.ones(len(ids), device=ids.device)
        if not isinstance(settings, SMART) and settings.relative:
            units = (vectors.square().sum(dim=-1) * open_).sum(dim=1).sqrt()
        if isinstance(settings, SMART) or not settings.per_domain:
            rows = zip(ids.cpu().numpy(), open_.cpu().numpy(), strict=True)
            keys = [f"text {row[where].tolist()}" for row, where in rows]
            return Perturbation(open_, vectors.shape[-1], units), keys
        if domains is None:
            raise ValueError("per_domain=True needs the domain of each row; got domains=None")
        if (domains < 0).all():
            raise ValueError(
                "per_domain=True needs domains, and no row of this batch is of a known one: name "
                "their column (data.domain in a recipe, domain_column in FishrConfig)"
            )
        names, groups = torch.unique(domains.to(ids.device), return_inverse=True)
        keys = [f"domain {name}" for name in names.tolist()]
        return Perturbation(open_, vectors.shape[-1], units, groups), keys

    @contextmanager
    def _pass(self, model: Any, batch: Mapping[str, Any], start: RandomState) -> Iterator[None]:
        """Make a forward pass of our own, with the random numbers of the others."""
        self._own_pass = True
        try:
            with replayed(start):
                if self._order_known:
                    yield
                else:
                    with order_checked(model, batch["input_ids"]):
                        yield
                    self._order_known = True
        finally:
            self._own_pass = False


def _logits(outputs: Any) -> torch.Tensor:
    return _full(outputs["logits"] if isinstance(outputs, dict) else outputs[0])


def _full(logits: torch.Tensor) -> torch.Tensor:
    """Return logits in single precision at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
