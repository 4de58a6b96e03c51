"""A training that stops and goes on ends as one that does not stop, to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from domain_reviews import SIZES, assert_same, difference, model, reviews, trainer, weights
from safetensors import safe_open

from robust_nlp.errors import RobustNLPWarning, RunMismatchError
from robust_nlp.fishr import trainer as trainers
from robust_nlp.fishr.checkpoint import FILE, load_state, save_state
from robust_nlp.fishr.state import ObjectiveState

# Sixteen rows a batch: eight batches an epoch, so that step 20 lies inside the third or fifth.
SETTINGS = {
    "max_steps": 40,
    "per_device_train_batch_size": 16,
    "optim": "adamw_torch",
    "learning_rate": 5e-3,
    "lr_scheduler_type": "linear",
    "save_strategy": "steps",
    "save_steps": 20,
    "logging_steps": 5,
    "ramp_start": 0.3,
    "ramp_end": 0.7,
    "seed": 3,
}
VARIANTS = {
    "fishr": {},
    "debiased": {"objective": {"kind": "fishr", "average": "debiased", "gamma": 0.8}},
    "group_dro": {"objective": {"kind": "group_dro", "step_size": 0.5}},
    "reweighted": {"objective": {"kind": "reweighted_erm"}},
    "two passes": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
    "batch by batch": {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "accumulation": "per_batch",
        "rows_per_domain": 2,
    },
}


def run(folder: Path, *, resume: Path | None = None, data=None, **settings):
    made = trainer(folder, data=data, model=model(dropout=0.2), settings={**SETTINGS, **settings})
    made.train(resume_from_checkpoint=None if resume is None else str(resume))
    return made


def bits(tree):
    """Return nested tensors as nested numbers, to compare."""
    if isinstance(tree, torch.Tensor):
        return [str(tree.dtype), tree.tolist()]
    if isinstance(tree, dict):
        return {key: bits(value) for key, value in tree.items()}
    return [bits(value) for value in tree] if isinstance(tree, (list, tuple)) else tree


def plain_logs(made, *, after: int) -> list[dict]:
    return [
        log for log in made.state.log_history if log["step"] > after and "train_loss" not in log
    ]


@pytest.mark.filterwarnings("ignore:mtime may not be reliable:UserWarning")  # transformers 4
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_forty_steps_are_twenty_and_twenty_more(tmp_path, variant):
    whole = run(tmp_path / "whole", **variant)
    resumed = run(tmp_path / "more", resume=tmp_path / "whole" / "checkpoint-20", **variant)
    assert resumed.state.global_step == 40
    assert_same(weights(resumed), weights(whole))
    for name in ("optimizer.pt", "scheduler.pt"):
        first, second = (
            torch.load(tmp_path / part / "checkpoint-40" / name, weights_only=True)
            for part in ("whole", "more")
        )
        assert bits(first) == bits(second)
    first, second = (
        load_state(tmp_path / part / "checkpoint-40", whole.args.objective).state_dict()
        for part in ("whole", "more")
    )
    assert bits(first) == bits(second)
    assert plain_logs(resumed, after=20) == plain_logs(whole, after=20)


@pytest.mark.filterwarnings("ignore:mtime may not be reliable:UserWarning")
@pytest.mark.parametrize("variant", ["fishr", "group_dro"])
def test_what_the_objective_remembers_matters(tmp_path, monkeypatch, variant):
    """Without it, the second twenty steps are others: the test above would notice."""
    whole = run(tmp_path / "whole", **VARIANTS[variant])
    monkeypatch.setattr(trainers, "load_state", lambda folder, objective: ObjectiveState())
    forgetful = run(
        tmp_path / "more", resume=tmp_path / "whole" / "checkpoint-20", **VARIANTS[variant]
    )
    assert difference(weights(forgetful), weights(whole)) > 1e-5


@pytest.mark.filterwarnings("ignore:mtime may not be reliable:UserWarning")
def test_domains_may_come_and_go(tmp_path):
    run(tmp_path / "whole")
    others = reviews({"books": 60, "air": 28, "software": 40})
    with pytest.warns(
        RobustNLPWarning, match="'software' has been updated 1 times, and that of 'a"
    ):
        resumed = run(tmp_path / "more", resume=tmp_path / "whole" / "checkpoint-20", data=others)
    updates = resumed.domain_loss.state.average.state_dict()["updates"]
    assert updates.keys() == {*SIZES, "software"}
    before = load_state(tmp_path / "whole" / "checkpoint-20", resumed.args.objective)
    old = before.average.state_dict()["updates"]
    assert updates["dvd"] == old["dvd"]
    assert updates["books"] > old["books"]


@pytest.mark.filterwarnings("ignore:mtime may not be reliable:UserWarning")
def test_a_second_training_begins_anew(tmp_path):
    made = run(tmp_path, max_steps=2, save_strategy="no")
    made.train()
    assert set(made.domain_loss.state.average.state_dict()["updates"].values()) == {2}


# The file.


def state() -> ObjectiveState:
    made = ObjectiveState()
    made.average_of(0.9, "debiased").update(["tensor", "b"], torch.randn(2, 3))
    made.log_weights = {"tensor": 0.1, "b": -1 / 3}
    made.label_counts = {"every domain": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    return made


def test_a_state_is_read_as_it_was_written(tmp_path):
    objective = {"kind": "fishr", "gamma": 0.9}
    saved = state()
    save_state(tmp_path / "new folder", saved, objective)
    read = load_state(tmp_path / "new folder", objective)
    assert bits(read.state_dict()) == bits(saved.state_dict())
    with safe_open(tmp_path / "new folder" / FILE, framework="pt") as file:  # no pickle
        assert len(file.keys()) == 3


def test_a_checkpoint_without_a_state_is_refused(tmp_path):
    with pytest.raises(RunMismatchError, match="no checkpoint of a FishrTrainer"):
        load_state(tmp_path, {"kind": "fishr"})


def test_the_state_of_another_objective_is_refused(tmp_path):
    save_state(tmp_path, state(), {"kind": "fishr", "gamma": 0.9})
    with pytest.raises(RunMismatchError, match="Resume with that of the checkpoint"):
        load_state(tmp_path, {"kind": "fishr", "gamma": 0.5})
