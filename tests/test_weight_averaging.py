"""Averages of weights: against the recorded path, through evaluation, best model and resumption."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from robust_nlp.errors import RecipeError, RobustNLPError, RunMismatchError
from robust_nlp.settings import build, plain
from robust_nlp.training import averaging
from robust_nlp.training.averaging import STATE_FILE, WeightAveraging
from robust_nlp.training.settings import EMA, SWA, AnyAveraging

STEPS = 8


class Small(torch.nn.Module):
    """A classifier with dropout, statistics of batches as buffers, and a frozen weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.dropout = torch.nn.Dropout(0.3)
        self.head = torch.nn.Linear(4, 2)
        self.frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("temporary", torch.ones(2), persistent=False)

    def forward(self, input_ids, labels=None):
        hidden = self.dropout(self.norm(self.embedding(input_ids).mean(dim=1)))
        logits = self.head(hidden) * self.frozen
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def bert():
    config = BertConfig(
        vocab_size=20,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=4,
        max_position_embeddings=8,
    )
    return BertForSequenceClassification(config)


@cache
def data():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 20, (16, 4)).tolist()
    return [{"input_ids": row, "labels": i % 2} for i, row in enumerate(ids)]


class Recorder(TrainerCallback):
    """Note the weights after each step, as training has them, and stop early on demand."""

    def __init__(self, stop_at: int | None) -> None:
        self.path: dict[int, dict[str, torch.Tensor]] = {}
        self._stop_at = stop_at

    def on_step_end(self, args, state, control, **kwargs):
        self.path[state.global_step] = copied(kwargs["model"])
        if state.global_step == self._stop_at:
            control.should_training_stop = True


class Run(Trainer):
    """Evaluations are planned, and note which weights they see."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.evaluated: dict[int, dict[str, torch.Tensor]] = {}

    def evaluate(self, *args, **kwargs):
        step = self.state.global_step
        self.evaluated[step] = copied(self.model)
        metrics = {"eval_accuracy": {2: 0.1, 4: 0.9, 6: 0.5, 8: 0.3}[step]}
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def copied(model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def make(folder, settings, *, model=Small, stop_at=None, cls=Run, callback=None, **args) -> Run:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = model()
    defaults = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.05,
        "use_cpu": True,
        "report_to": "none",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "remove_unused_columns": False,
        "metric_for_best_model": "accuracy",
        "greater_is_better": True,
    }
    trainer = cls(
        model=made,
        args=TrainingArguments(output_dir=str(folder), **{**defaults, **args}),
        train_dataset=data(),
        eval_dataset=data(),
        callbacks=[Recorder(stop_at)],
    )
    if settings is not None:
        trainer.add_callback(callback or WeightAveraging(settings))
    return trainer


def path_of(trainer) -> dict[int, dict[str, torch.Tensor]]:
    return next(c for c in trainer.callback_handler.callbacks if isinstance(c, Recorder)).path


def trained(folder, settings, **options) -> Run:
    trainer = make(folder, settings, **options)
    trainer.train()
    return trainer


def average_of(path, settings, until: int = STEPS) -> dict[str, np.ndarray] | None:
    """The average in double precision, from its definition; `None` before the first step of it."""
    if isinstance(settings, EMA):
        shares = {t: settings.decay ** (until - t) for t in range(1, until + 1)}
    else:
        steps = [t for t in range(1, STEPS + 1) if t > settings.start * STEPS]
        shares = dict.fromkeys([t for t in steps[:: settings.every] if t <= until], 1.0)
    if not shares:
        return None
    total = sum(shares.values())
    return {
        name: sum(share * path[t][name].double().numpy() for t, share in shares.items()) / total
        for name, value in path[1].items()
        if value.is_floating_point()
    }


def assert_close(found, expected) -> None:
    for name, value in expected.items():
        assert found[name].numpy() == pytest.approx(value, abs=1e-6), name


ALL = [EMA(decay=0.5), EMA(decay=0.95), SWA(start=0.5), SWA(start=0.0, every=3), SWA(start=0.3)]


# --- the average --------------------------------------------------------------------------------


def check_average(settings: AnyAveraging) -> None:
    """Of weights that jump about."""
    model = torch.nn.Linear(3, 2, bias=False)
    callback = WeightAveraging(settings)
    rng = np.random.default_rng(0)
    path = {}
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(rng.normal(size=(2, 3))))
        path[step] = copied(model)
        if settings.due(step, STEPS):
            callback._take(model)
        expected = average_of(path, settings, until=step)
        assert callback._average.keys() == ({"weight"} if expected else set())
        if expected:
            assert_close(callback._average, expected)


@pytest.mark.parametrize("settings", ALL, ids=str)
def test_the_average_is_that_of_its_definition(settings):
    check_average(settings)


def check_shown(folder, settings: AnyAveraging) -> None:
    trainer = trained(folder, settings)
    path = path_of(trainer)
    assert_close(copied(trainer.model), average_of(path, settings))
    assert int(trainer.model.norm.num_batches_tracked) == STEPS
    for step in (2, 4, 6, 8):
        shown = trainer.evaluated[step]
        expected = average_of(path, settings, until=step)
        if expected is None:
            assert equal(shown, path[step])
        else:
            assert_close(shown, expected)
            assert not torch.equal(shown["head.weight"], path[step]["head.weight"])
        saved = load_file(folder / f"checkpoint-{step}" / "model.safetensors")
        assert all(torch.equal(saved[name], shown[name]) for name in saved)


@pytest.mark.parametrize("settings", [EMA(decay=0.8), SWA(start=0.5)], ids=str)
def test_the_average_is_evaluated_saved_and_left_at_the_end(settings, tmp_path):
    check_shown(tmp_path, settings)


def test_the_number_of_averaged_steps():
    def steps(settings, of):
        return [t for t in range(1, of + 1) if settings.due(t, of)]

    assert steps(EMA(), 3) == [1, 2, 3]
    assert steps(SWA(start=0.5), 8) == [5, 6, 7, 8]
    assert steps(SWA(start=0.0, every=3), 8) == [1, 4, 7]
    assert steps(SWA(start=0.99), 8) == [8]
    assert steps(SWA(start=0.3, every=2), 10) == [4, 6, 8, 10]


def check_path(folder) -> None:
    """Training goes the same way as without averaging."""
    without, with_ = (
        path_of(trained(folder / str(settings), settings, save_strategy="no"))
        for settings in (None, EMA(decay=0.5))
    )
    assert without.keys() == with_.keys() == set(range(1, STEPS + 1))
    assert all(equal(without[step], with_[step]) for step in without)


def test_training_takes_no_notice(tmp_path):
    check_path(tmp_path)


def test_small_changes_of_half_precision_add_up():
    model = torch.nn.Linear(2, 1, bias=False).to(torch.bfloat16)
    callback = WeightAveraging(EMA(decay=0.999))
    with torch.no_grad():
        model.weight.fill_(1.0)
        callback._take(model)
        model.weight.fill_(1.0078125)
        for _ in range(200):
            callback._take(model)
    expected = 1.0 + 0.0078125 * (1 - 0.999**200) / (1 - 0.999**201)
    assert callback._average["weight"].dtype == torch.float32
    assert callback._average["weight"].tolist() == [[pytest.approx(expected, abs=1e-5)] * 2]
    assert callback.count == 201


def test_a_second_training_starts_a_new_average(tmp_path):
    settings = EMA(decay=0.9)
    trainer = trained(tmp_path, settings, save_strategy="no")
    trainer.train()
    assert_close(copied(trainer.model), average_of(path_of(trainer), settings))


# --- evaluation and the best model --------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:mtime may not be reliable")
@pytest.mark.parametrize("model", [Small, bert], ids=["module", "bert"])
def test_the_best_model_is_an_average(model, tmp_path):
    settings = EMA(decay=0.5)
    trainer = trained(
        tmp_path, settings, model=model, load_best_model_at_end=True, save_total_limit=1
    )
    assert trainer.state.best_global_step == 4
    assert_close(copied(trainer.model), average_of(path_of(trainer), settings, until=4))
    assert equal(copied(trainer.model), trainer.evaluated[4])


def test_only_the_best_is_saved_on_demand(tmp_path):
    settings = EMA(decay=0.5)
    trainer = trained(tmp_path, settings, load_best_model_at_end=True, save_strategy="best")
    knows = trainer.state.best_model_checkpoint is not None  # transformers 4 does not
    assert equal(copied(trainer.model), trainer.evaluated[4 if knows else 8])
    saved = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(saved[name], trainer.evaluated[4][name]) for name in saved)
    folders = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert folders == ["checkpoint-2", "checkpoint-4"]


def test_epochs_are_evaluated_and_saved_alike(tmp_path):
    settings = EMA(decay=0.5)
    args = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    trainer = trained(tmp_path, settings, **args)
    assert trainer.evaluated.keys() == {4, 8}
    for step, weights in trainer.evaluated.items():
        assert_close(weights, average_of(path_of(trainer), settings, until=step))
    assert equal(copied(trainer.model), trainer.evaluated[4])


def test_every_one_of_several_sets_is_evaluated_with_the_average(tmp_path):
    seen = []

    class Noting(Trainer):
        def evaluation_loop(self, *args, **kwargs):
            seen.append((self.state.global_step, copied(self.model)))
            return super().evaluation_loop(*args, **kwargs)

    settings = EMA(decay=0.5)
    trainer = make(
        tmp_path,
        settings,
        cls=Noting,
        metric_for_best_model="eval_b_loss",
        greater_is_better=False,
        load_best_model_at_end=True,
        label_names=["labels"],
    )
    trainer.eval_dataset = {"a": data()[:8], "b": data()[8:]}
    trainer.train()
    assert [step for step, _ in seen] == [2, 2, 4, 4, 6, 6, 8, 8]
    for step, weights in seen:
        assert_close(weights, average_of(path_of(trainer), settings, until=step))
    best = trainer.state.best_global_step
    assert_close(copied(trainer.model), average_of(path_of(trainer), settings, until=best))


# --- resumption ---------------------------------------------------------------------------------


class Halves(NamedTuple):
    """A whole run, and the folder of one that stopped after four steps."""

    whole: Run
    stopped: Path
    settings: AnyAveraging
    model: Callable[[], torch.nn.Module]


@pytest.fixture(scope="module")
def halves(tmp_path_factory) -> Halves:
    return halves_of(tmp_path_factory.mktemp("halves"), EMA(decay=0.9))


def halves_of(folder, settings: AnyAveraging, *, model=Small, stop_at: int = 4, **args) -> Halves:
    whole = trained(folder / "whole", settings, model=model, **args)
    trained(folder / "stopped", settings, model=model, stop_at=stop_at, **args)
    return Halves(whole, folder / "stopped", settings, model)


def check_resumption(halves: Halves, folder, *, at: int = 4, **args) -> None:
    shutil.copytree(halves.stopped, folder)
    rest = make(folder, halves.settings, model=halves.model, **args)
    rest.train(resume_from_checkpoint=str(folder / f"checkpoint-{at}"))
    one, other = path_of(halves.whole), path_of(rest)
    assert other.keys() == set(range(at + 1, STEPS + 1))
    assert all(equal(other[step], one[step]) for step in other)
    assert equal(copied(rest.model), copied(halves.whole.model))
    assert all(equal(rest.evaluated[step], halves.whole.evaluated[step]) for step in rest.evaluated)
    states = [Path(trainer.args.output_dir) for trainer in (halves.whole, rest)]
    assert equal(*(load_file(path / f"checkpoint-{STEPS}" / STATE_FILE) for path in states))


def test_a_resumed_run_is_equal_to_a_whole_one(halves, tmp_path):
    check_resumption(halves, tmp_path / "rest")


def test_a_resumed_run_evaluates_the_average_at_once(halves, tmp_path):
    check_resumption(halves, tmp_path / "rest", eval_on_start=True)


def test_a_resumed_transformer_is_equal_to_a_whole_one(tmp_path):
    settings = SWA(start=0.3, every=2)
    check_resumption(halves_of(tmp_path, settings, model=bert), tmp_path / "rest")


def test_a_run_resumes_before_its_average_begins(tmp_path):
    check_resumption(halves_of(tmp_path, SWA(start=0.5), stop_at=2), tmp_path / "rest", at=2)


def test_a_run_resumes_to_the_best_model(tmp_path):
    best = {"load_best_model_at_end": True}
    runs = halves_of(tmp_path, EMA(decay=0.5), stop_at=6, **best)
    check_resumption(runs, tmp_path / "rest", at=6, **best)
    assert equal(copied(runs.whole.model), runs.whole.evaluated[4])


def test_a_checkpoint_may_have_moved(halves, tmp_path):
    folder = halves.stopped / "checkpoint-4"
    rest = make(tmp_path, halves.settings)
    with pytest.raises(RunMismatchError, match="resume_from"):
        rest.train(resume_from_checkpoint=str(folder))
    callback = WeightAveraging(halves.settings, resume_from=folder)
    rest = make(tmp_path, halves.settings, callback=callback)
    rest.train(resume_from_checkpoint=str(folder))
    assert equal(copied(rest.model), copied(halves.whole.model))


def test_what_a_run_cannot_resume_from_is_said(halves, tmp_path):
    shutil.copytree(halves.stopped, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "checkpoint-4"

    def resume(settings):
        make(tmp_path, settings).train(resume_from_checkpoint=str(folder))

    with pytest.raises(RunMismatchError, match=r"0\.9.*0\.6"):
        resume(EMA(decay=0.6))
    shutil.copy(tmp_path / "checkpoint-2" / STATE_FILE, folder)
    with pytest.raises(RunMismatchError, match="other weights"):
        resume(halves.settings)
    (folder / STATE_FILE).unlink()
    with pytest.raises(RunMismatchError, match="without averaging"):
        resume(halves.settings)


def test_a_model_alone_is_saved_without_what_resuming_needs(tmp_path):
    trainer = trained(tmp_path, EMA(decay=0.5), save_only_model=True, load_best_model_at_end=True)
    assert not list(tmp_path.glob(f"*/{STATE_FILE}"))
    assert equal(copied(trainer.model), trainer.evaluated[4])


# --- what is refused ----------------------------------------------------------------------------


def test_a_checkpoint_without_the_average_is_not_passed_over(tmp_path):
    class Late(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = True

    trainer = make(tmp_path, EMA(), save_strategy="no", eval_strategy="no")
    trainer.add_callback(Late())
    with pytest.raises(RobustNLPError, match="last callback"):
        trainer.train()


def test_parameters_cannot_change_on_the_way():
    model = Small()
    callback = WeightAveraging(EMA())
    callback._take(model)
    model.frozen.requires_grad_(True)
    with pytest.raises(RobustNLPError, match="frozen"):
        callback._take(model)


def test_runs_that_cannot_be_averaged_are_refused(tmp_path, monkeypatch):
    args = make(tmp_path, None).args
    state = SimpleNamespace(is_hyper_param_search=False, global_step=0)
    callback = WeightAveraging(EMA())
    callback.on_train_begin(args, state, None, model=None)
    with pytest.raises(RecipeError, match="search"):
        callback.on_train_begin(args, SimpleNamespace(is_hyper_param_search=True), None)
    free = SimpleNamespace(optim="schedule_free_adamw")
    with pytest.raises(RecipeError, match="schedule_free_adamw"):
        callback.on_train_begin(free, state, None)
    for split in (averaging.DistributedType.FSDP, averaging.DistributedType.DEEPSPEED):
        monkeypatch.setattr(
            averaging, "AcceleratorState", lambda kind=split: SimpleNamespace(distributed_type=kind)
        )
        with pytest.raises(RecipeError, match="whole copy"):
            callback.on_train_begin(args, state, None)


@pytest.mark.parametrize("settings", [EMA(decay=0.9), SWA(start=0.2, every=3)])
def test_settings_are_plain_values_and_back(settings):
    assert build(AnyAveraging, plain(settings), "averaging") == settings


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("ema", {"decay": 1.0}),
        ("ema", {"decay": 0.0}),
        ("swa", {"start": 1.0}),
        ("swa", {"start": -0.1}),
        ("swa", {"every": 0}),
    ],
)
def test_wrong_settings_are_refused(kind, wrong):
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        build(AnyAveraging, {"kind": kind, **wrong}, "averaging")


# --- mutants ------------------------------------------------------------------------------------


def test_an_average_that_is_not_restored_is_caught(halves, tmp_path, monkeypatch):
    restore = WeightAveraging._restore

    def trained_only(self, folder, model):
        restore(self, folder, model)
        self._count, self._average = 0, {}

    def average_only(self, folder, model):
        restore(self, folder, model)
        self._trained = {}

    for i, mutant in enumerate((lambda *_: None, trained_only, average_only)):
        monkeypatch.setattr(WeightAveraging, "_restore", mutant)
        with pytest.raises(AssertionError):
            check_resumption(halves, tmp_path / str(i))


def test_wrong_averages_are_caught(monkeypatch):
    wrong = [
        lambda self, count: 1.0 if count == 1 else 1.0 - self.decay,  # drawn to the start
        lambda self, count: self.decay / (1.0 - self.decay**count),
        lambda self, count: 1.0 / count,
    ]
    for share in wrong:
        monkeypatch.setattr(EMA, "share", share)
        with pytest.raises(AssertionError):
            check_average(EMA(decay=0.95))
    monkeypatch.setattr(SWA, "due", lambda self, step, max_steps: step % self.every == 0)
    with pytest.raises(AssertionError):
        check_average(SWA(start=0.5))


def test_training_on_from_the_average_is_caught(tmp_path, monkeypatch):
    def forget(self, *args, **kwargs):
        self._trained = {}

    monkeypatch.setattr(WeightAveraging, "on_step_begin", forget)
    with pytest.raises(AssertionError):
        check_path(tmp_path)


def test_going_back_after_the_first_evaluation_is_caught(tmp_path, monkeypatch):
    """What is saved would not be what was evaluated."""
    monkeypatch.setattr(WeightAveraging, "on_evaluate", WeightAveraging.on_step_begin)
    with pytest.raises(RobustNLPError, match="without the averaged weights"):
        check_shown(tmp_path, EMA(decay=0.5))


class Starts(TrainerCallback):
    """Note the weights at the start of each epoch, as a callback that uses the model finds them."""

    def __init__(self) -> None:
        self.found: list[dict[str, torch.Tensor]] = []

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.found.append(copied(kwargs["model"]))


@pytest.mark.parametrize("averaged", [False, True])
def test_what_begins_an_epoch_finds_the_trained_weights(averaged, tmp_path):
    """Adversarial texts are made against the classifier in training, not against its average."""
    found = []
    for settings in (None, EMA(decay=0.5)):
        trainer, starts = make(tmp_path / str(settings), None, save_strategy="no"), Starts()
        if settings is not None:
            averaging = WeightAveraging(settings)
            if averaged:
                trainer.add_callback(averaging.goes_on)
            trainer.add_callback(starts)
            trainer.add_callback(averaging)
        else:
            trainer.add_callback(starts)
        trainer.train()
        found.append(starts.found)
    assert len(found[0]) == len(found[1]) > 1
    same = [equal(*pair) for pair in zip(*found, strict=True)]
    assert all(same) == averaged
