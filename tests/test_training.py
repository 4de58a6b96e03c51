"""Training under noise: the loss, the choice of the checkpoint, and the whole run."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from conftest import BAD, GOOD, NEUTRAL, NO_DROPOUT, tiny_bert, tiny_tokenizer
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from robust_nlp.data import Split
from robust_nlp.errors import DataError, ModelError, RecipeError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.mechanisms import RandomizedDeletion, RandomMasking
from robust_nlp.recipe import DataRecipe, ModelRecipe, Recipe, TrainRecipe
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.training.arguments import training_arguments
from robust_nlp.training.collators import NoisyCollator
from robust_nlp.training.run import train
from robust_nlp.training.selection import Selection, answers, wins
from robust_nlp.training.settings import PGD, SMART, FreeLB
from robust_nlp.training.trainer import noisy_loss
from robust_nlp.units import keyed_rng

LABELS = ["negative", "positive"]


def reviews(name: str, n: int, *, length: int = 8, keywords: int = 4) -> Split:
    """Texts of neutral words in which a few words tell the class; sorted by class."""
    rng = keyed_rng(0, name)
    texts = []
    for i in range(n):
        words = rng.choice(NEUTRAL, length).tolist()
        words[:keywords] = rng.choice(GOOD if 2 * i >= n else BAD, keywords).tolist()
        texts.append(" ".join(rng.permutation(words)))
    return Split(
        name=name,
        texts=texts,
        labels=[int(2 * i >= n) for i in range(n)],
        label_names=LABELS,
        content_hash="",
        description="made up",
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def base_without_dropout(tmp_path_factory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("base-without-dropout"), **NO_DROPOUT)


def recipe(base: Path | str, **settings) -> Recipe:
    args = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "learning_rate": 5e-3,
        "disable_tqdm": True,
        **settings.pop("args", {}),
    }
    mechanism = settings.pop("mechanism", RandomizedDeletion(p_del=0.5))
    return Recipe(
        name="test",
        model=ModelRecipe(base=str(base), device="cpu", **settings.pop("model", {})),
        data=DataRecipe(path="none"),
        mechanism=mechanism,
        seed=7,
        train=TrainRecipe(**{"selection_votes": 4, "args": args, **settings}),
    )


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def assert_same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], **closeness):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], **(closeness or {"rtol": 0, "atol": 0}))


# The loss.


def test_the_loss_is_cross_entropy_and_the_divergence_from_the_mean_of_the_draws():
    p = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.4, 0.6]]])  # draws, examples
    labels = torch.tensor([0, 1])
    loss = noisy_loss(p.log().view(4, 2), labels.repeat(2), draws=2, consistency=3.0)
    by_hand = 0.0
    for i, label in enumerate(labels.tolist()):
        q = p[:, i].mean(dim=0)
        for d in range(2):
            divergence = float((q * (q / p[d, i]).log()).sum())
            by_hand += (-float(p[d, i, label].log()) + 3.0 * divergence) / 2 / 2
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)


def test_equal_draws_cost_no_more_than_cross_entropy():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 1])
    loss = noisy_loss(logits.repeat(2, 1), labels.repeat(2), draws=2, consistency=10.0)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))


@pytest.mark.parametrize("repeated", [False, True], ids=["one device", "DataParallel on two"])
def test_the_loss_of_a_part_is_relative_to_the_whole_step(repeated):
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2])
    n_items = torch.tensor(8)
    if repeated:  # as the Trainer passes it; it multiplies the loss by the devices afterwards
        n_items = n_items.unsqueeze(0).expand(2, -1)
    loss = noisy_loss(logits, labels, n_items=n_items) * (2 if repeated else 1)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels) * 2 / 8)


@pytest.mark.parametrize("consistency", [0.0, 2.0])
@pytest.mark.parametrize(("batch", "parts"), [(4, 2), (5, 2), (2, 4)])
def test_accumulated_gradients_are_those_of_one_batch(
    base_without_dropout, tmp_path, consistency, batch, parts
):
    split = reviews("train", 8)
    runs = []
    for size, steps in ((8, 1), (batch, parts)):
        args = {
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": steps,
            "max_steps": 1,
            "optim": "sgd",
            "learning_rate": 1.0,
            "warmup_steps": 0,
            "weight_decay": 0.0,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
        }
        output = tmp_path / str(size)
        experiment = recipe(base_without_dropout, args=args, consistency=consistency)
        train(experiment, split, reviews("validation", 4), output)
        runs.append(weights(output))
    start = load_file(base_without_dropout / "model.safetensors")
    assert not torch.equal(start["classifier.bias"], runs[0]["classifier.bias"])
    assert_same_weights(*runs, rtol=1e-4, atol=1e-5)


# The choice of the checkpoint.


def test_a_tie_of_votes_is_no_win():
    shares = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3]])
    assert wins(shares, np.array([0, 1, 2, 0])).tolist() == [False, False, True, True]


@pytest.fixture
def classifier(tiny_classifier_dir):
    return HuggingFaceClassifier.from_pretrained(tiny_classifier_dir, device="cpu")


def selection(classifier, **settings) -> Selection:
    split = reviews("validation", 20)
    settings = {"mechanism": RandomizedDeletion(p_del=0.5), "n_votes": 7, **settings}
    return Selection(classifier, split.texts, split.labels, **settings)


def test_smoothed_accuracy_is_the_share_of_labels_that_win_the_votes(classifier):
    split, mechanism = reviews("validation", 20), RandomizedDeletion(p_del=0.5)
    shares = SmoothedClassifier(classifier, mechanism).vote_shares(split.texts, 7, seed=5)
    expected = np.mean(shares.argmax(axis=1) == split.labels)  # 7 votes on 2 classes: no ties
    assert selection(classifier, seed=5)(Accelerator()) == {"smoothed_accuracy": expected}
    assert 0.0 < expected < 1.0


def test_clean_accuracy_is_that_of_the_texts_as_they_are(classifier):
    split = reviews("validation", 20)
    with torch.no_grad():
        logits = [
            classifier.model(**classifier.tokenizer(t, return_tensors="pt")).logits[0]
            for t in split.texts
        ]
    right = [
        int(scores.argmax()) == label for scores, label in zip(logits, split.labels, strict=True)
    ]
    assert selection(classifier, mechanism=None)(Accelerator()) == {"accuracy": np.mean(right)}
    assert answers(classifier, split.texts).tolist() == [int(s.argmax()) for s in logits]


def test_validation_texts_are_chosen_from_the_whole_split(classifier):
    chosen = selection(classifier, limit=10)
    assert len(chosen._texts) == 10
    assert 2 < sum(chosen._labels) < 8  # the split is sorted by class


def test_measuring_leaves_training_as_it_was(classifier):
    classifier.model.train()
    for parameter in classifier.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = torch.get_rng_state()
    selection(classifier)(Accelerator())
    assert classifier.model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.requires_grad and (p.grad == 1).all() for p in classifier.model.parameters())


class Recorder:
    """Stands for `Selection.__call__`: given accuracies, and the weights that they were for."""

    def __init__(self, accuracies: list[float]) -> None:
        self.accuracies, self.seen = accuracies, []

    def install(self, monkeypatch) -> None:
        def call(selection, accelerator):
            if len(self.seen) == len(self.accuracies):
                raise KeyboardInterrupt
            model = selection._base.model
            self.seen.append({k: v.clone() for k, v in model.state_dict().items()})
            return {selection.metric: self.accuracies[len(self.seen) - 1]}

        monkeypatch.setattr(Selection, "__call__", call)


@pytest.mark.parametrize("noise", [True, False])
def test_the_checkpoint_with_the_best_accuracy_is_kept(base, tmp_path, monkeypatch, noise):
    recorder = Recorder([0.2, 0.9, 0.4])
    recorder.install(monkeypatch)
    experiment = recipe(base, noise=noise, args={"num_train_epochs": 3})
    result = train(experiment, reviews("train", 16), reviews("validation", 4), tmp_path)
    assert (result["best"], result["best_step"], result["steps"]) == (0.9, 4, 6)
    assert result["metric"] == ("eval_smoothed_accuracy" if noise else "eval_accuracy")
    assert [e[result["metric"]] for e in result["history"] if result["metric"] in e] == [
        0.2,
        0.9,
        0.4,
    ]
    assert_same_weights(weights(tmp_path), recorder.seen[1])


# The whole run.


@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_training_under_noise_learns(base, tmp_path, consistency):
    args = {"num_train_epochs": 6}
    experiment = recipe(base, selection_votes=16, consistency=consistency, args=args)
    validation = reviews("validation", 40)
    result = train(experiment, reviews("train", 128), validation, tmp_path)
    smoothed = SmoothedClassifier.from_pretrained(tmp_path / "model", device="cpu")
    shares = smoothed.vote_shares(validation.texts, 16, seed=experiment.seed)
    accuracy = wins(shares, np.array(validation.labels)).mean()
    assert accuracy == result["best"] > 0.9
    untrained = SmoothedClassifier(
        HuggingFaceClassifier.from_pretrained(base, device="cpu"), experiment.mechanism
    )
    before = untrained.vote_shares(validation.texts, 16, seed=experiment.seed)
    assert wins(before, np.array(validation.labels)).mean() < 0.7


@pytest.mark.parametrize(
    "args",
    [
        pytest.param({}, id="after an epoch"),
        pytest.param({"save_steps": 3, "eval_steps": 3}, id="inside an epoch"),
        pytest.param({"save_steps": 3, "eval_steps": 3, "dataloader_num_workers": 1}, id="workers"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, by torch
def test_an_interrupted_training_ends_with_the_same_weights(base, tmp_path, monkeypatch, args):
    experiment = recipe(base, args={**args, "num_train_epochs": 3, "load_best_model_at_end": False})
    splits = reviews("train", 40), reviews("validation", 4)
    whole = train(experiment, *splits, tmp_path / "whole")
    with monkeypatch.context() as patch:
        Recorder([0.5]).install(patch)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, *splits, tmp_path / "parts")
    assert not (tmp_path / "parts" / "model").exists()
    resumed = train(experiment, *splits, tmp_path / "parts")
    assert (resumed["resumed_at"], whole["resumed_at"]) == (3 if args else 5, 0)
    assert resumed["steps"] == whole["steps"] == 15
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_every_epoch_has_its_noise_also_after_resuming_in_its_middle(base, tmp_path, monkeypatch):
    noisy, seen = NoisyCollator._noisy, []

    def record(collator, text, example_id, draw):
        drawn = noisy(collator, text, example_id, draw)
        seen.append((collator.epoch, example_id, tuple(drawn.rows[0].tolist())))
        return drawn

    monkeypatch.setattr(NoisyCollator, "_noisy", record)
    args = {"num_train_epochs": 3, "save_steps": 3, "eval_steps": 3}
    experiment = recipe(base, args=args, selection_votes=1)
    splits = reviews("train", 40), reviews("validation", 4)
    train(experiment, *splits, tmp_path / "whole")
    whole = seen.copy()
    assert len(set(whole)) == 3 * 40
    for epoch, i, row in whole:
        rng = keyed_rng(experiment.seed, "train-noise", epoch, i, 0)
        assert row == tuple(experiment.mechanism.draw(8, 1, rng)[0].tolist())
    assert len({(example, row) for _, example, row in whole}) > 100  # noise is not repeated
    with monkeypatch.context() as patch:
        Recorder([0.1, 0.2]).install(patch)
        with pytest.raises(KeyboardInterrupt):  # at step 9; the last checkpoint is of step 6
            train(experiment, *splits, tmp_path / "parts")
    seen.clear()
    train(experiment, *splits, tmp_path / "parts")
    assert seen == whole[6 * 8 :]


@pytest.mark.slow  # two processes that import everything anew
def test_two_processes_train_and_choose_as_one(base_without_dropout, tmp_path):
    args = {"optim": "sgd", "learning_rate": 0.1, "save_steps": 3, "eval_steps": 3}
    args |= {"num_train_epochs": 3, "max_grad_norm": 0.0}
    single = recipe(base_without_dropout, args={**args, "per_device_train_batch_size": 8})
    expected = train(single, reviews("train", 40), reviews("validation", 11), tmp_path / "one")
    script = tmp_path / "script.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "import torch.distributed as dist\n"
        "from test_training import Recorder, recipe, reviews, train\n"
        "base, folder, args = sys.argv[1:]\n"
        "experiment = recipe(base, args=json.loads(args))\n"
        "result = train(experiment, reviews('train', 40), reviews('validation', 11), "
        "pathlib.Path(folder))\n"
        "result['world'] = dist.get_world_size()\n"
        "path = pathlib.Path(folder, f'rank-{dist.get_rank()}.json')\n"
        "path.write_text(json.dumps(result))\n"
        "dist.destroy_process_group()\n"
    )
    output = tmp_path / "two"
    settings = json.dumps({**args, "per_device_train_batch_size": 4})
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*launch, str(script), str(base_without_dropout), str(output), settings],
        check=True,
        env=environment,
    )
    ranks = [json.loads((output / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert [rank["world"] for rank in ranks] == [2, 2]
    for rank in ranks:
        assert (rank["best"], rank["best_step"]) == (expected["best"], expected["best_step"])
        assert rank["steps"] == expected["steps"] == 15
    assert_same_weights(weights(tmp_path / "one"), weights(output), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(base, tmp_path, monkeypatch):
    experiment = recipe(base, args={"num_train_epochs": 3})
    splits = reviews("train", 16), reviews("validation", 4)
    with monkeypatch.context() as patch:
        Recorder([0.5, 0.6]).install(patch)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, *splits, tmp_path)
    (tmp_path / "checkpoints" / "checkpoint-4" / "trainer_state.json").unlink()
    shutil.copytree(
        tmp_path / "checkpoints" / "checkpoint-4",
        tmp_path / "checkpoints" / "checkpoint-2",
        dirs_exist_ok=True,
    )
    assert train(experiment, *splits, tmp_path)["steps"] == 6


def test_a_finished_run_leaves_a_smoothed_classifier_and_nothing_else(base, tmp_path):
    experiment = recipe(
        base,
        mechanism=RandomMasking(p_mask=0.5),
        args={"num_train_epochs": 1},
        model={"prefix": "this is :", "max_length": 32},
    )
    result = train(experiment, reviews("train", 8), reviews("validation", 4), tmp_path)
    assert json.loads(json.dumps(result)) == result
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    smoothed = SmoothedClassifier.from_pretrained(tmp_path / "model", device="cpu")
    assert smoothed.mechanism == RandomMasking(p_mask=0.5, mask="[MASK]")
    assert smoothed.base.prefix == "this is :"
    assert smoothed.base.max_length == 32
    assert smoothed.labels == LABELS


def test_without_evaluations_the_last_weights_are_kept(base, tmp_path):
    experiment = recipe(base, args={"eval_strategy": "no", "save_strategy": "no"})
    result = train(experiment, reviews("train", 8), reviews("validation", 4), tmp_path)
    assert (result["steps"], result["best"], result["best_step"]) == (2, None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_base_with_another_head_gets_a_new_one(tmp_path):
    base = tiny_bert(tmp_path / "base", num_labels=5)
    output = tmp_path / "run"
    train(recipe(base), reviews("train", 8), reviews("validation", 4), output)
    model = AutoModelForSequenceClassification.from_pretrained(output / "model")
    assert model.config.id2label == dict(enumerate(LABELS))
    assert weights(output)["classifier.weight"].shape == (2, 16)


def test_a_new_head_depends_on_the_seed_alone(tmp_path):
    base = tiny_bert(tmp_path / "base", num_labels=5)
    results = []
    for seed in (1, 1, 2):
        torch.rand(3)
        output = tmp_path / str(len(results))
        experiment = dataclasses.replace(recipe(base), seed=seed)
        train(experiment, reviews("train", 8), reviews("validation", 4), output)
        results.append(weights(output))
    assert_same_weights(results[0], results[1])
    assert not torch.equal(results[0]["classifier.weight"], results[2]["classifier.weight"])


def test_a_decoder_without_a_pad_token_is_trained(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    experiment = recipe(tmp_path / "base", mechanism=RandomizedDeletion(p_del=0.9))
    train(experiment, reviews("train", 16), reviews("validation", 4), tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert model.config.pad_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("unit", ["character", "token"])
def test_pairs_are_trained_with_every_unit(base, tmp_path, unit):
    split = reviews("train", 8)
    pairs = dataclasses.replace(split, texts=[(text, "is it good") for text in split.texts])
    experiment = recipe(base, mechanism=RandomizedDeletion(p_del=0.5, unit=unit))
    assert train(experiment, pairs, pairs, tmp_path)["steps"] == 2


def test_splits_must_have_the_same_classes(base, tmp_path):
    other = dataclasses.replace(reviews("validation", 4), label_names=["bad", "good"])
    with pytest.raises(DataError, match="must have the same classes"):
        train(recipe(base), reviews("train", 8), other, tmp_path)


def test_training_needs_labels(base, tmp_path):
    bare = dataclasses.replace(reviews("train", 4), labels=None)
    with pytest.raises(DataError, match="'train' has none"):
        train(recipe(base), bare, reviews("validation", 4), tmp_path)


def test_a_base_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        train(recipe(tmp_path / "nowhere"), reviews("a", 4), reviews("b", 4), tmp_path)


# Arguments of the Trainer.


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"learning_rat": 1e-5}, "Did you mean 'learning_rate'"),
        ({"output_dir": "x"}, "cannot set output_dir: checkpoints go to the run directory"),
        ({"learning_rate": "fast"}, "learning_rate is a number; got 'fast'"),
        ({"eval_strategy": "sometimes"}, "sometimes"),
    ],
)
def test_wrong_arguments_are_refused(base, tmp_path, args, message):
    with pytest.raises(RecipeError, match=message):
        training_arguments(recipe(base, args=args), tmp_path)


def test_arguments_of_the_recipe_go_before_defaults(base, tmp_path):
    plain = training_arguments(recipe(base, args={"learning_rate": "3e-4"}), tmp_path)
    assert plain.learning_rate == 3e-4
    assert plain.weight_decay == 0.01
    assert plain.get_warmup_steps(200) == 10
    assert plain.eval_strategy == plain.save_strategy == "epoch"
    steps = training_arguments(recipe(base, args={"save_steps": 7, "eval_steps": 7}), tmp_path)
    assert steps.eval_strategy == steps.save_strategy == "steps"
    assert steps.load_best_model_at_end


@pytest.mark.parametrize(
    ("args", "steps"),
    [({"warmup_steps": 0.1}, 20), ({"warmup_ratio": 0.1}, 20), ({"warmup_steps": 3}, 3)],
)
def test_warm_up_is_a_share_or_steps_in_every_release(base, tmp_path, args, steps):
    assert training_arguments(recipe(base, args=args), tmp_path).get_warmup_steps(200) == steps


def test_training_takes_no_single_gpu_by_number(base, tmp_path):
    experiment = recipe(base)
    model = dataclasses.replace(experiment.model, device="cuda:1")
    with pytest.raises(RecipeError, match="CUDA_VISIBLE_DEVICES"):
        training_arguments(dataclasses.replace(experiment, model=model), tmp_path)


# Gradient checkpointing.

CHECKPOINTING = ("gradient_checkpointing", "activation_checkpointing")


def checkpointing(base, tmp_path, args, **settings):
    """What the Trainer is told, by whichever name its release has."""
    given = training_arguments(recipe(base, args=args, **settings), tmp_path)
    name = next(name for name in reversed(CHECKPOINTING) if hasattr(given, name))
    return getattr(given, name), getattr(given, f"{name}_kwargs")


@pytest.mark.parametrize("name", CHECKPOINTING)
def test_checkpointing_is_not_reentrant_unless_a_recipe_says_so(base, tmp_path, name):
    assert checkpointing(base, tmp_path, {}) == (False, None)
    assert checkpointing(base, tmp_path, {name: True}) == (True, {"use_reentrant": False})
    said = {name: True, f"{name}_kwargs": {"use_reentrant": None, "preserve_rng_state": True}}
    expected = {"use_reentrant": False, "preserve_rng_state": True}
    assert checkpointing(base, tmp_path, said) == (True, expected)
    said = {name: True, f"{name}_kwargs": {"use_reentrant": True}}
    assert checkpointing(base, tmp_path, said) == (True, {"use_reentrant": True})
    off = {name: False, f"{name}_kwargs": {"use_reentrant": True}}
    assert checkpointing(base, tmp_path, off, adversarial=PGD())[0] is False


@pytest.mark.parametrize("name", CHECKPOINTING)
def test_reentrant_checkpointing_is_refused_where_it_loses_gradients(base, tmp_path, name):
    args = {name: True, f"{name}_kwargs": {"use_reentrant": True}}
    for settings, entry in (
        ({"adversarial": PGD()}, "train.adversarial"),
        ({"model": {"freeze": 0}}, "model.freeze"),
    ):
        with pytest.raises(RecipeError, match=rf"train\.args\.{name}_kwargs .* {entry} cannot"):
            training_arguments(recipe(base, args=args, **settings), tmp_path)
    args[f"{name}_kwargs"] = "reentrant"
    with pytest.raises(RecipeError, match=rf"train\.args\.{name}_kwargs is a mapping"):
        training_arguments(recipe(base, args=args), tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"freeze": 0}},
        {"adversarial": FreeLB(steps=2)},
        {"adversarial": PGD(steps=1)},
        {"adversarial": SMART(noise=0.1)},
    ],
    ids=["frozen embeddings", "freelb", "pgd", "smart"],
)
def test_checkpointing_changes_no_weight(base, tmp_path, settings):
    data = reviews("train", 16), reviews("validation", 4)
    args = {"max_steps": 2, "eval_strategy": "no", "save_strategy": "no"}
    for name in ("whole", "recomputed"):
        chosen = recipe(base, args=dict(args), noise=False, **dict(settings))
        train(chosen, *data, tmp_path / name)
        args["gradient_checkpointing"] = True
    before = AutoModelForSequenceClassification.from_pretrained(base).state_dict()
    trained = weights(tmp_path / "recomputed")
    assert_same_weights(weights(tmp_path / "whole"), trained, rtol=0, atol=1e-6)
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(before[query], trained[query])
