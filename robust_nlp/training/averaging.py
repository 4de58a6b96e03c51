"""Averages of the weights along the training path, evaluated and saved in their place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from robust_nlp.errors import RecipeError, RobustNLPError, RunMismatchError
from robust_nlp.settings import plain
from robust_nlp.training.settings import AnyAveraging

#: In a checkpoint, beside the averaged weights: what training goes on with.
STATE_FILE = "weight_averaging.safetensors"

_TRAINED, _AVERAGE, _COUNT, _SETTINGS = "trained.", "average.", "count", "settings"


class WeightAveraging(TrainerCallback):
    """Average weights during training; evaluate, save and end with the average.

    From the first averaged step on, every evaluation and every checkpoint of the Trainer has the
    averaged weights, and so has the model that is chosen as the best, or left at the end. Training
    itself takes no notice: a checkpoint also holds the weights that it goes on with, and a resumed
    run is bit-equal to one that was not interrupted.

    Trainable parameters and saved buffers of floating-point numbers are averaged; the rest is that
    of the last step. All processes average by themselves, to the same result, as their weights are
    equal. Works with every loss and optimizer that moves the model's own parameters, at the price
    of one copy of the weights in single precision, and of another during evaluations.

    Callbacks that use the model at the start of an epoch, such as `RefreshRows`, find the average
    there if an evaluation came before, unless `goes_on` is a callback that comes before them.

    Args:
        settings: The average.
        resume_from: Checkpoint that training resumes from, if it is not
            `<output_dir>/checkpoint-<step>`.

    Raises:
        RecipeError: At the start of training, if the model is split over processes, the optimizer
            averages by itself, or hyperparameters are searched.
        RunMismatchError: At the start of training, if the checkpoint to resume from lacks an
            average or has another one.
    """

    def __init__(self, settings: AnyAveraging, *, resume_from: str | Path | None = None) -> None:
        self.settings, self.resume_from = settings, resume_from
        self._count = 0
        self._average: dict[str, torch.Tensor] = {}
        #: Weights that training goes on with, while the model has the average.
        self._trained: dict[str, torch.Tensor] = {}

    @property
    def goes_on(self) -> TrainerCallback:
        """A callback that puts the trained weights into the model as soon as an epoch begins."""
        return _GoesOn(self)

    @property
    def count(self) -> int:
        """The number of optimizer steps whose weights are in the average."""
        return self._count

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        _check_run(args, state)
        self._count, self._average, self._trained = 0, {}, {}
        if state.global_step > 0:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self._restore(Path(self.resume_from or folder), kwargs["model"])

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Go on with the trained weights: evaluations and checkpoints, however many, are over."""
        self.go_on(kwargs["model"])

    def go_on(self, model: Any) -> None:
        """Put the trained weights into the model, if it has the average."""
        _put(self._trained, model)
        self._trained = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if self.settings.due(state.global_step, state.max_steps):
            self._take(kwargs["model"])
        self._show_if_asked(control, kwargs["model"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._show_if_asked(control, kwargs["model"])

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if self._count and not self._trained:
            raise RobustNLPError(
                "a checkpoint was saved without the averaged weights, as a callback that comes "
                "after WeightAveraging asked for it; make WeightAveraging the last callback"
            )
        if args.should_save and not args.save_only_model:
            self._save(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        # The best model was loaded just before, with its own averaged weights.
        if not (args.load_best_model_at_end and state.best_model_checkpoint is not None):
            self._show(kwargs["model"])
        self._trained = {}

    def _take(self, model: Any) -> None:
        """Take the weights of the model into the average."""
        weights = _weights(model)
        if self._count and weights.keys() != self._average.keys():
            changed = sorted(weights.keys() ^ self._average.keys())
            raise RobustNLPError(
                "weight averaging needs the same trainable parameters throughout; these were "
                f"frozen or released on the way: {', '.join(changed[:3])}"
            )
        self._count += 1
        share = self.settings.share(self._count)
        for name, weight in weights.items():
            exact = weight.to(torch.promote_types(weight.dtype, torch.float32))
            if self._count == 1:
                self._average[name] = exact.clone()
            else:
                self._average[name].lerp_(exact, share)

    def _show_if_asked(self, control: Any, model: Any) -> None:
        # The Trainer's own callback, which comes first, has decided by now.
        if control.should_evaluate or control.should_save:
            self._show(model)

    def _show(self, model: Any) -> None:
        """Put the average into the model, if there is one and it is not there already."""
        if self._count and not self._trained:
            self._trained = {name: w.detach().clone() for name, w in _weights(model).items()}
            _put(self._average, model)

    def _save(self, folder: Path) -> None:
        tensors = {_COUNT: torch.tensor(self._count)}
        tensors |= {_TRAINED + name: w.contiguous() for name, w in self._trained.items()}
        tensors |= {_AVERAGE + name: w.contiguous() for name, w in self._average.items()}
        partial = folder / f"{STATE_FILE}.tmp"
        save_file(tensors, partial, metadata={_SETTINGS: self._describe()})
        partial.replace(folder / STATE_FILE)

    def _restore(self, folder: Path, model: Any) -> None:
        """Take up the average of a checkpoint whose weights the model has."""
        path = folder / STATE_FILE
        if not path.is_file():
            raise RunMismatchError(
                f"cannot resume weight averaging: there is no {path}. Either the checkpoint was "
                "made without averaging, or its writing was interrupted (resume from the one "
                "before), or it is elsewhere (say where with resume_from)"
            )
        given = _metadata(path).get(_SETTINGS)
        if given != self._describe():
            raise RunMismatchError(
                f"{path} holds an average of {given}, but the settings are {self._describe()}. "
                "Resume with the former, or start again"
            )
        tensors = load_file(path)
        self._count = int(tensors[_COUNT])
        if not self._count:
            return
        weights = _weights(model)
        trained, average = ({p + name for name in weights} for p in (_TRAINED, _AVERAGE))
        if tensors.keys() != {_COUNT, *trained, *average} or not all(
            torch.equal(tensors[_AVERAGE + name].to(weight), weight)
            for name, weight in weights.items()
        ):
            raise RunMismatchError(
                f"{path} belongs to other weights than those that training resumes with. If the "
                "checkpoint is elsewhere, say where with resume_from"
            )
        for name, weight in weights.items():
            self._average[name] = tensors[_AVERAGE + name].to(weight.device)
            self._trained[name] = tensors[_TRAINED + name].to(weight.device)

    def _describe(self) -> str:
        return json.dumps(plain(self.settings))


class _GoesOn(TrainerCallback):
    """See `WeightAveraging.goes_on`."""

    def __init__(self, averaging: WeightAveraging) -> None:
        self._averaging = averaging

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._averaging.go_on(kwargs["model"])


def _weights(model: Any) -> dict[str, torch.Tensor]:
    """Return what is averaged, by name; tensors that share storage with the model."""
    saved = model.state_dict().keys()
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    buffers = {
        name: b for name, b in model.named_buffers() if b.is_floating_point() and name in saved
    }
    return weights | buffers


def _put(values: Mapping[str, torch.Tensor], model: Any) -> None:
    if values:
        weights = _weights(model)
        for name, value in values.items():
            weights[name].copy_(value)


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, str] = file.metadata() or {}
    return found


def _check_run(args: Any, state: Any) -> None:
    split = DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM
    if AcceleratorState().distributed_type in split:
        raise RecipeError(
            "weight averaging needs a whole copy of the model in each process (DDP); FSDP and "
            "DeepSpeed, which split it, are not supported"
        )
    if "schedule_free" in str(args.optim):
        raise RecipeError(f"{args.optim} averages weights itself: leave WeightAveraging out")
    if state.is_hyper_param_search:
        raise RecipeError("weight averaging does not work in a search of hyperparameters")
