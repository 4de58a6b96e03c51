"""Recipes that train across domains, against attacks on embeddings, with copies and averages."""

from __future__ import annotations

import dataclasses
import json
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from test_training import LABELS, base, recipe, reviews  # noqa: F401

from robust_nlp import embedding_noise, pipeline
from robust_nlp.augmentation.settings import Environments
from robust_nlp.data import Split
from robust_nlp.errors import RecipeError, RobustNLPWarning
from robust_nlp.fishr.trainer import FishrTrainer
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.recipe import (
    AugmentationRecipe,
    DataRecipe,
    DomainsRecipe,
    ProjectionRecipe,
    recipe_from_dict,
    recipe_to_dict,
)
from robust_nlp.training import gaussian
from robust_nlp.training.adversarial import AdversarialLoss
from robust_nlp.training.collators import NoisyCollator
from robust_nlp.training.run import train
from robust_nlp.training.selection import Selection, answers
from robust_nlp.training.settings import EMA, SMART, FreeLB

DOMAINS = ["books", "air", "dvd"]

#: The made-up domains are alike, and the penalty says so.
pytestmark = pytest.mark.filterwarnings("ignore:over .* batches, the Fishr penalty was")

#: Fishr, FreeLB, rewritten copies, deletion noise with consistency, and an average of the weights.
EVERYTHING: dict[str, Any] = {
    "domains": DomainsRecipe(objective="fishr", rows_per_domain=4, ramp_start=0.2, ramp_end=0.4),
    "adversarial": FreeLB(steps=2, step_size=0.02, init_magnitude=0.01, relative=True),
    "augmentation": AugmentationRecipe(augmenters=({"kind": "delete_words", "rate": 0.2},)),
    "averaging": EMA(decay=0.8),
    "consistency": 1.0,
    "select": "worst_domain_accuracy",
}


def with_domains(split: Split) -> Split:
    return dataclasses.replace(split, domains=[DOMAINS[i % 3] for i in range(len(split))])


def whole(base, **settings):  # noqa: F811
    """A recipe with domains; checks of recipes look at data and training together."""
    args = {"per_device_train_batch_size": 24, **settings.pop("args", {})}
    chosen = {"mechanism": settings.pop("mechanism")} if "mechanism" in settings else {}
    without = recipe(base, args=args, **chosen)
    options = {**EVERYTHING, **settings}
    return dataclasses.replace(
        without,
        data=DataRecipe(path="none", domain="domain"),
        train=dataclasses.replace(without.train, **options),
    )


def splits() -> tuple[Split, Split]:
    return with_domains(reviews("train", 96)), with_domains(reviews("validation", 30))


@pytest.fixture(scope="module")
def everything(base, tmp_path_factory):  # noqa: F811
    output = tmp_path_factory.mktemp("everything")
    return train(whole(base, args={"num_train_epochs": 5}), *splits(), output), output


def test_everything_goes_together_and_learns(everything):
    result, output = everything
    assert result["metric"] == "eval_worst_domain_smoothed_accuracy"
    assert result["best"] > 0.6
    last = [entry for entry in result["history"] if "penalty" in entry][-1]
    assert last["penalty"] > 0.0
    assert last["penalty_weight"] == 1000.0
    assert {"books_loss", "air_accuracy", "worst_domain_loss"} <= set(last)
    measured = [e for e in result["history"] if "eval_smoothed_accuracy" in e][-1]
    each = [measured[f"eval_{name}_smoothed_accuracy"] for name in DOMAINS]
    assert measured["eval_worst_domain_smoothed_accuracy"] == min(each)
    assert (output / "model" / "model.safetensors").is_file()


def test_interrupted_trainings_end_with_the_same_weights(base, tmp_path, monkeypatch):  # noqa: F811
    step = FishrTrainer.training_step
    calls = 0

    def stop(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 6:  # in the second epoch: 96 texts and as many copies, with two draws each
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(FishrTrainer, "training_step", stop)
        args = {"num_train_epochs": 3, "save_steps": 2, "eval_steps": 2}
        with pytest.raises(KeyboardInterrupt):
            train(whole(base, args=args), *splits(), tmp_path / "a")
    result = train(whole(base, args=args), *splits(), tmp_path / "a")
    assert result["resumed_at"] == 4
    train(whole(base, args=args), *splits(), tmp_path / "b")
    a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in "ab")
    assert all(np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)


@pytest.mark.parametrize("adversary", [FreeLB(steps=2), SMART()])
def test_embeddings_are_attacked_without_domains(base, tmp_path, adversary):  # noqa: F811
    trained = {}
    for name, chosen in {"with": adversary, "without": None}.items():
        options = {"adversarial": chosen, "args": {"max_steps": 2}}
        train(recipe(base, **options), reviews("train", 32), reviews("v", 8), tmp_path / name)
        trained[name] = load_file(tmp_path / name / "model" / "model.safetensors")
    assert any(not np.array_equal(v, trained["without"][k]) for k, v in trained["with"].items())


def test_adversaries_take_the_batches_of_other_training(base, tmp_path, monkeypatch):  # noqa: F811
    """Costs of trainings compare only if neither has the longer batches."""
    read = NoisyCollator.__call__
    batches: list[list[int]] = []

    def noted(self, examples):
        batches.append([example["example_id"] for example in examples])
        return read(self, examples)

    monkeypatch.setattr(NoisyCollator, "__call__", noted)
    seen = {}
    for name, chosen in {"with": FreeLB(steps=2), "without": None}.items():
        batches.clear()
        options = {"adversarial": chosen, "args": {"num_train_epochs": 2}}
        train(recipe(base, **options), reviews("train", 32), reviews("v", 8), tmp_path / name)
        seen[name] = list(batches)
    assert seen["with"] == seen["without"]
    first, second = seen["with"][:4], seen["with"][4:]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(32))
    assert first != second


def test_environments_need_no_domains(base, tmp_path):  # noqa: F811
    environments = Environments(perturbations={"clean": None, "deleted": {"kind": "delete_words"}})
    plain = recipe(base, args={"per_device_train_batch_size": 16})
    options = {
        "domains": DomainsRecipe(ramp_start=0.0, ramp_end=0.0, rows_per_domain=8),
        "environments": environments,
    }
    chosen = dataclasses.replace(plain, train=dataclasses.replace(plain.train, **options))
    result = train(chosen, reviews("train", 64), reviews("validation", 16), tmp_path)
    logged = [entry for entry in result["history"] if "penalty" in entry][-1]
    assert {"clean_loss", "deleted_loss"} <= set(logged)
    assert logged["penalty"] > 0.0


def test_copies_lack_important_words_and_have_all_lengths(base, tmp_path, monkeypatch):  # noqa: F811
    read, collate = [], NoisyCollator.__call__

    def noted(self, rows):
        read.extend(row for row in rows if "source_id" in row)  # not those that importance reads
        return collate(self, rows)

    monkeypatch.setattr(NoisyCollator, "__call__", noted)
    augmenters = (
        {"kind": "delete_important_words", "rate": 0.3},
        {"kind": "crop", "shortest": 0.2, "longest": 0.6},
    )
    options = {"augmentation": AugmentationRecipe(augmenters=augmenters), "noise": False}
    args = {"num_train_epochs": 2, "eval_strategy": "no", "save_strategy": "no"}
    texts = reviews("train", 32)
    train(recipe(base, args=args, **options), texts, reviews("validation", 4), tmp_path)
    copies = [row for row in read if row["augmented"]]
    assert len(copies) == len(read) - len(copies) == 2 * len(texts)
    lengths, runs = set(), 0
    for row in copies:
        words, source = row["text"].split(), texts.texts[row["source_id"]].split()
        left = iter(source)
        assert all(word in left for word in words)  # in their order
        lengths.add(len(words))
        runs += len(words) <= 4 and f" {row['text']} " in f" {' '.join(source)} "
    assert {2, 3, 4, 6} <= lengths <= set(range(1, 9))  # 2 to 4 words of 8 are cropped
    assert len(copies) / 4 < runs < 3 * len(copies) / 4
    # Importance is measured for each epoch, by the classifier of its start.
    measured = sorted(path.name for path in (tmp_path / "importance").iterdir())
    assert measured == ["epoch-000-0", "epoch-001-0"]


def test_few_rows_of_a_domain_are_warned_of(base, tmp_path):  # noqa: F811
    chosen = whole(base, args={"max_steps": 1}, augmentation=None, adversarial=None)
    domains = dataclasses.replace(chosen.train.domains, rows_per_domain=50)
    chosen = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, domains=domains))
    with pytest.warns(RobustNLPWarning, match="mostly noise"):
        train(chosen, *splits(), tmp_path)


def test_accuracies_by_domain_are_those_of_their_texts(base):  # noqa: F811
    classifier = HuggingFaceClassifier.from_pretrained(base, device="cpu")
    split = with_domains(reviews("validation", 31))
    domains = [None if i % 5 == 0 else name for i, name in enumerate(split.domains)]
    selection = Selection(
        classifier, split.texts, split.labels, mechanism=None, domains=domains, worst=True
    )
    found = selection(Accelerator(cpu=True))
    right = np.array(answers(classifier, split.texts)) == np.array(split.labels)
    assert found["accuracy"] == pytest.approx(right.mean())
    each = {name: right[[i for i, d in enumerate(domains) if d == name]].mean() for name in DOMAINS}
    assert {name: found[f"{name}_accuracy"] for name in DOMAINS} == pytest.approx(each)
    assert found["worst_domain_accuracy"] == pytest.approx(min(each.values()))
    assert selection.metric == "worst_domain_accuracy"


def test_held_out_domains_are_not_read(base, tmp_path):  # noqa: F811
    path = tmp_path / "rows.jsonl"
    rows = [
        {"text": text, "label": label, "domain": DOMAINS[i % 3]}
        for i, (text, label) in enumerate(
            zip(reviews("t", 30).texts, reviews("t", 30).labels, strict=True)
        )
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    files = {"train": str(path), "validation": str(path)}

    def read(**settings):
        data = DataRecipe(files=files, domain="domain", **settings)
        chosen = dataclasses.replace(recipe(base), data=data)
        return [set(part.domains) for part in pipeline.training_splits(chosen)]

    assert read() == [set(DOMAINS), set(DOMAINS)]
    assert read(hold_out=("dvd",)) == [{"books", "air"}, {"books", "air"}]
    assert read(hold_out=("dvd",), validate_on=("air",)) == [{"books"}, {"air"}]


def test_parts_that_do_not_go_together_are_refused(base, tmp_path):  # noqa: F811
    swaps = GaussianEmbedding(sigma=0.1, swaps={"good": ["great"]})
    chosen = whole(base, mechanism=swaps)
    with pytest.raises(RecipeError, match="does not go together with noise on embeddings"):
        train(chosen, *splits(), tmp_path)
    noisy = {"a": None, "b": {"kind": "embedding_noise", "sigma": 0.1}}
    settings = {"augmentation": None, "environments": Environments(perturbations=noisy)}
    with pytest.raises(RecipeError, match="leave embedding_noise out"):
        train(whole(base, **settings), *splits(), tmp_path)
    values = recipe_to_dict(whole(base))
    assert recipe_to_dict(recipe_from_dict(values)) == values
    values["data"]["domain"] = None
    with pytest.raises(RecipeError, match=r"train.domains compares domains: say with data.domain"):
        recipe_from_dict(values)
    values["train"]["domains"] = None
    with pytest.raises(RecipeError, match=r"train.select=worst_domain_accuracy needs domains"):
        recipe_from_dict(values)
    values["train"] |= {"select": "accuracy", "environments": {"perturbations": {"a": None}}}
    with pytest.raises(RecipeError, match="environments need two perturbations or more"):
        recipe_from_dict(values)
    values["train"]["environments"] = {"perturbations": {"a": None, "b": {"kind": "typos"}}}
    with pytest.raises(RecipeError, match="both rewrite texts; a recipe takes one"):
        recipe_from_dict(values)
    values["train"]["augmentation"] = None
    with pytest.raises(RecipeError, match="environments are domains, and nothing compares them"):
        recipe_from_dict(values)
    wrong = DomainsRecipe(objective="fisher")
    chosen = dataclasses.replace(whole(base), train=whole(base, domains=wrong).train)
    with pytest.raises(RecipeError, match=r"train.domains: objective.kind: expected one of.*fishr"):
        train(chosen, *splits(), tmp_path / "wrong")


def test_labels_are_those_of_the_data():
    assert with_domains(reviews("x", 6)).domains == DOMAINS * 2
    assert LABELS == ["negative", "positive"]


# Noise on the embeddings, and domains.


def noise_of(folder, monkeypatch, chosen, rows=64):
    """Train, and note what is added to the embeddings of each batch, row by row."""
    seen, add = [], embedding_noise.embeddings_changed

    def noted(embedding, change):
        def changed(vectors):
            found = change(vectors)
            seen.append((found - vectors).detach().flatten(1))
            return found

        return add(embedding, changed)

    with monkeypatch.context() as patch:
        for module in (embedding_noise, gaussian):
            patch.setattr(module, "embeddings_changed", noted)
        train(chosen, with_domains(reviews("train", rows)), with_domains(reviews("v", 12)), folder)
    return seen


def test_noise_on_embeddings_is_an_environment(base, tmp_path, monkeypatch):  # noqa: F811
    perturbations = {"clean": None, "noisy": {"kind": "embedding_noise", "sigma": 0.3}}
    settings = {
        "augmentation": None,
        "adversarial": None,
        "averaging": None,
        "consistency": 0.0,
        "noise": False,
        "select": "accuracy",
        "environments": Environments(perturbations=perturbations),
        "args": {"max_steps": 3, "per_device_train_batch_size": 16},
    }
    seen = noise_of(tmp_path / "a", monkeypatch, whole(base, **settings))
    assert len(seen) == 3
    for change in seen:
        sizes = change.std(dim=1)
        assert (sizes == 0.0).sum() == 8  # as many rows of either environment
        assert ((sizes > 0.2) & (sizes < 0.4)).sum() == 8
    again = noise_of(tmp_path / "b", monkeypatch, whole(base, **settings))
    assert all(torch.equal(*pair) for pair in zip(seen, again, strict=True))
    a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_accumulated_passes_have_the_noise_of_their_rows(base, tmp_path, monkeypatch):  # noqa: F811
    """The second pass of the exact mode sees the noise of the first: it would be refused else."""
    perturbations = {"clean": None, "noisy": {"kind": "embedding_noise", "sigma": 0.3}}
    settings = {
        "augmentation": None,
        "adversarial": None,
        "averaging": None,
        "consistency": 0.0,
        "noise": False,
        "select": "accuracy",
        "environments": Environments(perturbations=perturbations),
    }
    args = {"max_steps": 2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    seen = noise_of(tmp_path, monkeypatch, whole(base, args=args, **settings))
    firsts, seconds = seen[0:2] + seen[4:6], seen[2:4] + seen[6:8]
    assert all(torch.equal(*pair) for pair in zip(firsts, seconds, strict=True))


def test_fishr_trains_under_gaussian_noise(base, tmp_path, monkeypatch):  # noqa: F811
    mechanism = GaussianEmbedding(sigma=0.3, swaps={"good": ["great"]})
    settings = {
        "augmentation": None,
        "adversarial": None,
        "averaging": None,
        "consistency": 0.0,
        "projection": ProjectionRecipe(collapse=0.5),
        "args": {"max_steps": 3},
    }
    chosen = whole(base, mechanism=mechanism, **settings)
    seen = noise_of(tmp_path / "with", monkeypatch, chosen)
    batches = [change for change in seen if len(change) == 24]
    assert len(batches) >= 3
    assert all((change.std(dim=1) > 0.2).all() for change in batches)
    without = whole(base, mechanism=mechanism, **{**settings, "projection": None})
    noise_of(tmp_path / "without", monkeypatch, without)
    read = [
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("with", "without")
    ]
    assert any(not torch.equal(read[0][name], read[1][name]) for name in read[0])


# Adversaries that begin later.


def test_an_adversary_may_begin_later(base, tmp_path):  # noqa: F811
    trained = {}
    for name, chosen in {
        "late": FreeLB(steps=2, start=0.5),
        "at once": FreeLB(steps=2),
        "never": None,
    }.items():
        options = {"adversarial": chosen, "args": {"max_steps": 4}}
        train(recipe(base, **options), reviews("train", 32), reviews("v", 8), tmp_path / name)
        trained[name] = load_file(tmp_path / name / "model" / "model.safetensors")
    for name, other in (("late", "never"), ("late", "at once")):
        pairs = zip(trained[name].values(), trained[other].values(), strict=True)
        assert not all(torch.equal(*pair) for pair in pairs)
    term, model = AdversarialLoss(FreeLB(start=0.5), seed=0), torch.nn.Linear(1, 1)
    early = SimpleNamespace(state=SimpleNamespace(global_step=1, max_steps=4))
    assert term.extra_loss(early, model, {}, None) is None
    with pytest.raises(ValueError, match=r"FreeLB needs a start in \[0, 1\)"):
        FreeLB(start=1.0)


def test_a_penalty_and_an_adversary_that_begin_together_are_warned_of(base, tmp_path):  # noqa: F811
    domains = DomainsRecipe(objective="fishr", rows_per_domain=4, ramp_start=0.0, ramp_end=0.2)
    chosen = whole(base, domains=domains, args={"max_steps": 1})
    with pytest.warns(RobustNLPWarning, match="after 0% of the steps and the adversary after 0%"):
        train(chosen, *splits(), tmp_path)
