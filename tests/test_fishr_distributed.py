"""Two processes take the steps of one that has all rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
import transformers
from domain_reviews import assert_same, difference, model, reviews, trainer, weights
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.slow  # two processes that import everything anew

STEPS = {"max_steps": 3, "rows_per_domain": 2}
IRM = {"objective": "irm", "penalty_weight": 10.0}
CROSS_SPLIT = {"objective": {"kind": "fishr", "estimator": "cross_split", "gamma": 0.5}}

#: Settings of two processes, and the batch size of one.
CASES = {
    "fishr": ({"per_device_train_batch_size": 12}, 24),
    "two passes": ({"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}, 24),
    "cross split": (
        {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2, **CROSS_SPLIT},
        24,
    ),
    "irm": ({"per_device_train_batch_size": 12, **IRM}, 24),
    "coral": ({"per_device_train_batch_size": 12, "objective": "coral", "penalty_weight": 1.0}, 24),
    "group_dro": (
        {"per_device_train_batch_size": 12, "objective": {"kind": "group_dro", "step_size": 1.0}},
        24,
    ),
    "reweighted": ({"per_device_train_batch_size": 12, "objective": "reweighted_erm"}, 24),
    "a further term": (
        {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2, "objective": "erm"},
        24,
    ),
    # Rows 0 and 1 of four go to one process, which then has none of the other two domains.
    "missing domains": (
        {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 4,
            "domains_per_batch": 4,
        },
        16,
    ),
}
SIZES = {"books": 60, "dvd": 40, "air": 28, "music": 33}


def data() -> list[dict]:
    """Rows of which some do not count, so that processes have unequal numbers."""
    rows = reviews(SIZES)
    for i, row in enumerate(rows):
        if i % 5 == 0:
            row["label"] = -100
        if i % 7 == 0:
            row["domain"] = None
    return rows


def again(trainer, model, inputs, outputs):
    return F.cross_entropy(model(**trainer.model_inputs(inputs)).logits, inputs["labels"])


def run(folder: Path, name: str, settings: dict, **kwargs):
    if name == "a further term":
        kwargs["extra_loss"] = again
    rows = reviews(SIZES) if name == "missing domains" else data()
    made = trainer(folder, data=rows, settings={**STEPS, **settings}, **kwargs)
    made.train()
    return made


def resumed(folder: Path, settings: dict) -> dict[str, torch.Tensor]:
    """Train for eight steps in one go, or resume after seven, inside the second epoch."""
    settings = {**settings, "max_steps": 8, "save_strategy": "steps", "save_steps": 7}
    settings |= {"optim": "adamw_torch", "learning_rate": 1e-2}
    dropping = partial(model, dropout=0.2)
    whole = run(folder, "whole", settings, model=dropping())
    made = trainer(folder, data=data(), settings={**STEPS, **settings}, model=dropping())
    made.train(resume_from_checkpoint=str(folder / "checkpoint-7"))
    assert_same(weights(made), weights(whole))
    return weights(made)


def one_step(folder: Path, settings: dict, net, *, sharded: bool) -> dict[str, torch.Tensor]:
    """Return the gradients of a step that is taken by hand, as the Trainer would."""
    made = trainer(folder, data=data(), model=net, settings={**STEPS, **settings})
    batches = iter(made.get_train_dataloader())
    n = made.args.gradient_accumulation_steps
    window, _ = made.get_batch_samples(batches, n, made.args.device)
    made.current_gradient_accumulation_steps = n
    for i, batch in enumerate(window):
        if sharded:
            net.set_requires_gradient_sync(i == n - 1)
        made.training_step(net, batch)
    return {
        name: value.grad.full_tensor() if sharded else value.grad
        for name, value in net.named_parameters()
    }


def fully_sharded(folder: Path, settings: dict) -> dict[str, torch.Tensor]:
    """Return the gradients of a step of a model that two processes share."""
    from torch.distributed.fsdp import fully_shard

    net = model()
    for layer in net.bert.encoder.layer:
        fully_shard(layer)
    fully_shard(net)
    return one_step(folder, settings, net, sharded=True)


def unscaled(local: torch.Tensor) -> torch.Tensor:
    """The likely mistake: the right sum, with the gradient of this process's part."""
    total = local.detach().clone()
    dist.all_reduce(total)
    return total + local - local.detach()


def process(folder: Path) -> None:
    """What each of the two processes does."""
    import warnings

    from robust_nlp.fishr import steps

    warnings.simplefilter("ignore")
    folder.mkdir(exist_ok=True)
    rank, report = int(os.environ["RANK"]), {}
    for name, (settings, _) in CASES.items():
        made = run(folder / name, name, settings)
        assert dist.get_world_size() == made.args.world_size == 2
        assert type(made.model_wrapped).__name__ == "DistributedDataParallel"
        save_file(weights(made), folder / f"{name}-{rank}.safetensors")
        report[name] = made.state.log_history
    test = reviews({"books": 13, "new": 9, "air": 1}, seed=5)
    report["metrics"] = made.evaluate(test)
    if int(transformers.__version__.split(".")[0]) > 4:  # 4 cannot load an optimizer from cpu:0
        resumed(folder / "resumed", CASES["fishr"][0])
    for name in ("fishr", "two passes"):
        gradients = fully_sharded(folder / "sharded", CASES[name][0])
        save_file(gradients, folder / f"sharded-{name}-{rank}.safetensors")
    right, steps.sum_over_processes = steps.sum_over_processes, unscaled
    save_file(
        weights(run(folder / "m", "m", CASES["fishr"][0])), folder / f"mutant-{rank}.safetensors"
    )
    steps.sum_over_processes = right
    report["world"] = dist.get_world_size()
    (folder / f"rank-{rank}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """The folder that two processes have written to."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [*launch, __file__, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def report(two: Path, rank: int = 0) -> dict:
    return json.loads((two / f"rank-{rank}.json").read_text())


def alone(folder: Path, name: str):
    settings, size = CASES[name]
    one = {**settings, "per_device_train_batch_size": size, "gradient_accumulation_steps": 1}
    return run(folder, name, one)


@pytest.mark.filterwarnings("ignore::robust_nlp.errors.RobustNLPWarning")
@pytest.mark.parametrize("name", CASES)
def test_two_processes_take_the_steps_of_one(two, tmp_path, name):
    assert report(two)["world"] == 2
    expected = alone(tmp_path, name)
    assert difference(weights(expected), dict(model().state_dict())) > 1e-2
    for rank in range(2):
        found = load_file(two / f"{name}-{rank}.safetensors")
        assert_same(found, weights(expected), rtol=1e-4, atol=5e-6)
        for log, own in zip(report(two, rank)[name][:3], expected.state.log_history, strict=False):
            for key in own.keys() - {"epoch"}:
                assert log[key] == pytest.approx(own[key], rel=2e-3, abs=2e-4)


def test_a_gradient_of_the_own_part_alone_would_be_noticed(two, tmp_path):
    expected = weights(alone(tmp_path, "fishr"))
    wrong = load_file(two / "mutant-0.safetensors")
    right = load_file(two / "fishr-0.safetensors")
    assert difference(wrong, expected) > 100 * difference(right, expected)


@pytest.mark.filterwarnings("ignore::robust_nlp.errors.RobustNLPWarning")
@pytest.mark.parametrize("name", ["fishr", "two passes"])
def test_two_processes_that_share_a_model_find_the_gradient_of_one(two, tmp_path, name):
    one = {"per_device_train_batch_size": 24}
    expected = one_step(tmp_path, one, model(), sharded=False)
    for rank in range(2):
        found = load_file(two / f"sharded-{name}-{rank}.safetensors")
        assert_same(found, expected, rtol=1e-4, atol=1e-6)


def test_processes_share_an_evaluation(two, tmp_path):
    """Twenty-three rows: one process repeats one, which must not count twice."""
    made = alone(tmp_path, "missing domains")
    expected = made.evaluate(reviews({"books": 13, "new": 9, "air": 1}, seed=5))
    names = {name for name in expected if name.endswith(("accuracy", "loss"))} - {"eval_loss"}
    assert len(names) == 10
    for rank in range(2):
        found = report(two, rank)["metrics"]
        assert {name: found[name] for name in names} == pytest.approx(
            {name: expected[name] for name in names}, abs=1e-4
        )


if __name__ == "__main__":
    process(Path(sys.argv[1]))
