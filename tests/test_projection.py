"""Training under noise on embeddings, and the projection that pulls allowed swaps together."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import BAD, GOOD, NEUTRAL, NO_DROPOUT, tiny_bert, tiny_tokenizer
from safetensors.torch import load_file
from tiny import ARCHITECTURES, byte_level_bpe, tiny_model
from transformers import TrainingArguments

from robust_nlp.certification.certificates import certificate_from_votes
from robust_nlp.certification.votes import VoteCounts
from robust_nlp.data import Split
from robust_nlp.embedding_noise import gaussian_noise, input_embedding
from robust_nlp.errors import ModelError, RecipeError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.mechanisms import RandomizedDeletion
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.recipe import DataRecipe, ModelRecipe, ProjectionRecipe, Recipe, TrainRecipe
from robust_nlp.settings import build, plain
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.training.gaussian import CLEAN, EmbeddingNoise, EmbeddingNoiseCollator
from robust_nlp.training.projection import PACE, ProjectedEmbedding, fold, project
from robust_nlp.training.run import train
from robust_nlp.training.selection import Selection
from robust_nlp.training.trainer import NoisyTrainer
from robust_nlp.units import keyed_rng

LABELS = ["negative", "positive"]

#: Good words may replace good ones, bad words bad ones, and the two longest neutral words.
SWAPS = {word: [v for v in words if v != word] for words in (GOOD, BAD) for word in words}
SWAPS |= {"story": ["cast", "film", "nonsense"], "cast": ["story"]}
MECHANISM = GaussianEmbedding(sigma=0.5, swaps=SWAPS)


def reviews(name: str, n: int, *, length: int = 8, keywords: int = 4) -> Split:
    """Neutral words in which a few words tell the class."""
    rng = keyed_rng(0, name)
    texts = []
    for i in range(n):
        words = rng.choice(NEUTRAL, length).tolist()
        words[:keywords] = rng.choice(GOOD if 2 * i >= n else BAD, keywords).tolist()
        texts.append(" ".join(rng.permutation(words)))
    labels = [int(2 * i >= n) for i in range(n)]
    return Split(
        name=name,
        texts=texts,
        labels=labels,
        label_names=LABELS,
        content_hash="",
        description="made up",
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("base"), initializer_range=0.2, **NO_DROPOUT)


def recipe(base, *, mechanism=MECHANISM, args: dict[str, Any] | None = None, **settings) -> Recipe:
    defaults = {
        "num_train_epochs": 6,
        "per_device_train_batch_size": 16,
        "learning_rate": 5e-3,
        "disable_tqdm": True,
    }
    return Recipe(
        name="test",
        model=ModelRecipe(base=str(base), device="cpu"),
        data=DataRecipe(path="none"),
        mechanism=mechanism,
        seed=7,
        train=TrainRecipe(**{"selection_votes": 8, "args": defaults | (args or {}), **settings}),
    )


def weights(output) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


# --- the map -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [None, 1, 3])
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "XLNet"])
def test_a_projection_starts_at_the_identity_and_is_folded_into_the_table(architecture, rank):
    tokenizer = byte_level_bpe(special_tokens_around=architecture not in ("GPT2", "Llama", "Qwen2"))
    model = tiny_model(architecture, tokenizer)
    ids = torch.tensor([[5, 9, 11, 30, 31]])
    with torch.no_grad():
        before, names = model(ids).logits, set(model.state_dict())
        project(model, rank=rank)
        assert torch.equal(model(ids).logits, before)
        projected = input_embedding(model)
        noise = torch.randn(projected.left.shape, generator=torch.Generator().manual_seed(1))
        projected.left += 0.02 * noise
        after = model(ids).logits
        assert not torch.allclose(after, before, atol=1e-2)
        fold(model)
    assert type(input_embedding(model)) is torch.nn.Embedding
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model(ids).logits, after, rtol=1e-3, atol=1e-3)
    folded = input_embedding(model).weight
    fold(model)
    assert input_embedding(model).weight is folded


@pytest.mark.parametrize("rank", [None, 2])
def test_the_map_is_linear_and_of_the_rank(rank):
    projected = ProjectedEmbedding(torch.nn.Embedding(20, 6), rank=rank, seed=3)
    with torch.no_grad():
        projected.left.normal_(generator=torch.Generator().manual_seed(0))
    difference = projected.map(torch.eye(6)).T - torch.eye(6)
    right = torch.eye(6) if rank is None else projected.right
    torch.testing.assert_close(difference, PACE * projected.left @ right)
    assert int(torch.linalg.matrix_rank(difference.detach(), tol=1e-3)) == (rank or 6)
    rows = projected.weight[:5] @ (torch.eye(6) + difference).T
    torch.testing.assert_close(projected(torch.arange(5)), rows, rtol=1e-4, atol=1e-4)


def test_directions_depend_on_the_seed():
    one, same, other = (
        ProjectedEmbedding(torch.nn.Embedding(9, 4), rank=2, seed=s) for s in (1, 1, 2)
    )
    assert torch.equal(one.right, same.right)
    assert not torch.equal(one.right, other.right)


def test_tables_that_are_more_than_tables_are_refused():
    class Scaled(torch.nn.Embedding):
        pass

    for table in (Scaled(5, 4), torch.nn.Embedding(5, 4, max_norm=1.0)):
        with pytest.raises(ModelError, match=r"plain torch\.nn\.Embedding"):
            ProjectedEmbedding(table)
    with pytest.raises(ModelError, match=r"rank must be in 1\.\.4"):
        ProjectedEmbedding(torch.nn.Embedding(5, 4), rank=5)


# --- batches -------------------------------------------------------------------------------------


def examples(split: Split) -> list[dict[str, Any]]:
    return [
        {"text": text, "pair": None, "label": label, "example_id": i}
        for i, (text, label) in enumerate(zip(split.texts, split.labels, strict=True))
    ]


def collator(**settings) -> EmbeddingNoiseCollator:
    settings = {"max_length": 64, "seed": 3, **settings}
    return EmbeddingNoiseCollator(tiny_tokenizer(), MECHANISM, **settings)


def test_texts_are_as_they_are_and_seeds_belong_to_example_draw_and_epoch():
    rows = examples(reviews("train", 6))
    collate = collator(draws=2)
    batch = collate(rows)
    expected = tiny_tokenizer()([row["text"] for row in rows] * 2, padding=True)
    assert batch["input_ids"].tolist() == expected["input_ids"]
    seeds = batch["noise_seeds"].tolist()
    assert len(set(seeds)) == 12
    alone = [collate([row])["noise_seeds"].tolist() for row in rows[::-1]][::-1]
    assert [list(pair) for pair in zip(seeds[:6], seeds[6:], strict=True)] == alone
    collate.epoch = 1
    assert not set(collate(rows)["noise_seeds"].tolist()) & set(seeds)
    assert "swap_ids" not in batch


def test_some_examples_go_without_noise():
    seeds = collator(clean_share=0.5, draws=2)(examples(reviews("train", 200)))["noise_seeds"]
    clean = (seeds == CLEAN).view(2, 200)
    assert torch.equal(clean[0], clean[1])
    assert 60 < int(clean[0].sum()) < 140


def test_rates_are_refused():
    with pytest.raises(RecipeError, match="leave rates out"):
        collator(rates=(0.1, 0.5))


def test_a_batch_holds_a_claimed_swap_for_each_word_that_has_one():
    tokenizer, collate = tiny_tokenizer(), collator(with_swaps=True)
    batch = collate([*examples(reviews("train", 4)), {**examples(reviews("x", 2))[0], "text": "a"}])
    words = [tokenizer.convert_ids_to_tokens(pair) for pair in batch["swap_ids"].tolist()]
    assert all(other in SWAPS[word] for word, other in words)
    assert ["story", "nonsense"] not in words  # spelled in several pieces
    assert float(batch["swap_weights"].sum()) == pytest.approx(4.0)  # one for each text with swaps
    first = collate(examples(reviews("train", 4)))["swap_ids"].tolist()
    collate.epoch = 1
    assert first != collate(examples(reviews("train", 4)))["swap_ids"].tolist()


def test_noise_of_the_seeds_is_added_once(base):
    model = HuggingFaceClassifier.from_pretrained(base, device="cpu").model
    noise = EmbeddingNoise(model, sigma=0.5)
    ids = torch.tensor([[2, 50, 51, 3]] * 3)
    seen = []
    with noise.added({"input_ids": ids, "noise_seeds": torch.tensor([4, CLEAN, 9])}) as batch:
        model.bert.embeddings.word_embeddings.register_forward_hook(
            lambda module, inputs, output: seen.append(output.detach())
        )
        model(**batch)
    added = (seen[0] - model.bert.embeddings.word_embeddings(ids)).detach().numpy()
    expected = gaussian_noise([4, 0, 9], 4, 16, sigma=0.5)
    expected[1] = 0.0
    np.testing.assert_allclose(added, expected, atol=1e-6)
    assert noise.pull() == 0.0


def test_the_pull_is_the_mean_squared_distance_over_the_variance_of_the_noise(base):
    model = HuggingFaceClassifier.from_pretrained(base, device="cpu").model
    noise = EmbeddingNoise(model, sigma=0.5, collapse=3.0)
    batch = collator(with_swaps=True)(examples(reviews("train", 4)))
    with noise.added(batch) as rest:
        model(input_ids=rest["input_ids"])
    assert set(rest) == {"input_ids", "attention_mask", "labels"}
    table = model.bert.embeddings.word_embeddings.weight
    squares = (table[batch["swap_ids"][:, 0]] - table[batch["swap_ids"][:, 1]]).square().sum(1)
    expected = 3.0 / 0.25 * (squares * batch["swap_weights"]).sum()
    torch.testing.assert_close(noise.pull(), expected)
    torch.testing.assert_close(noise.pull(0.125), expected / 4.0)
    torch.testing.assert_close(noise.pull(0.5), expected)


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"consistency": 2.0, "projection": ProjectionRecipe()}])
def test_accumulated_gradients_are_those_of_one_batch(base, tmp_path, settings):
    runs = []
    for size, steps in ((8, 1), (4, 2), (5, 2)):
        args = {
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": steps,
            "max_steps": 1,
            "optim": "sgd",
            "learning_rate": 0.01,
            "warmup_steps": 0,
            "weight_decay": 0.0,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
        }
        experiment = recipe(base, args=args, **settings)
        train(experiment, reviews("train", 8), reviews("validation", 4), tmp_path / str(size))
        runs.append(weights(tmp_path / str(size)))
    start = load_file(base / "model.safetensors")
    assert not torch.equal(start["classifier.bias"], runs[0]["classifier.bias"])
    for other in runs[1:]:
        for name, tensor in runs[0].items():
            torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5)


def certify_at_equal_votes(base, texts) -> list:
    """Certificates that the same votes, 990 of 1,000, give the texts of a classifier."""
    certificates = []
    for text in texts:
        profile = base.open(text, MECHANISM).law.profile
        votes = VoteCounts(
            n_units=len(profile),
            exact=(0.0, 0.0),
            remainder=1.0,
            selection=(0, 10),
            looks=((10, 990),),
            schedule=(1000,),
            profile=profile,
        )
        certificates.append(
            certificate_from_votes(votes, MECHANISM, alpha=0.001, attacker="substitute")
        )
    return certificates


def spread(base) -> tuple[float, float]:
    """Mean distance of allowed swaps, and of other pairs of words."""
    table = input_embedding(base.model).weight.detach()
    rows = {word: table[base.tokenizer.convert_tokens_to_ids(word)] for word in [*GOOD, *BAD]}

    def mean(words, others):
        return float(np.mean([float((rows[w] - rows[v]).norm()) for w in words for v in others]))

    return (mean(GOOD, GOOD) + mean(BAD, BAD)) / 2.0, mean(GOOD, BAD)


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """Classifiers after training without, with a full and with a low-rank projection."""
    found = {}
    for name, projection in {
        "without": None,
        "full": ProjectionRecipe(collapse=0.3),
        "rank 6": ProjectionRecipe(rank=6, collapse=0.3),
    }.items():
        output = tmp_path_factory.mktemp("run")
        experiment = recipe(base, projection=projection)
        result = train(experiment, reviews("train", 160), reviews("validation", 40), output)
        found[name] = result, HuggingFaceClassifier.from_pretrained(output / "model", device="cpu")
    return found


def test_training_under_noise_learns_and_its_votes_choose_the_checkpoint(trained):
    validation = reviews("validation", 40)
    for result, base in trained.values():
        assert result["metric"] == "eval_smoothed_accuracy"
        measure = Selection(
            base, validation.texts, validation.labels, mechanism=MECHANISM, n_votes=8, seed=7
        )
        assert measure(Accelerator())["smoothed_accuracy"] == result["best"] > 0.8


@pytest.mark.parametrize("name", ["full", "rank 6"])
def test_collapse_brings_allowed_swaps_together_and_certifies_more(base, trained, name):
    start = HuggingFaceClassifier.from_pretrained(base, device="cpu")
    plain, projected = trained["without"][1], trained[name][1]
    near, far = spread(projected)
    for other in (start, plain):
        other_near, other_far = spread(other)
        assert near / far < 0.5 * other_near / other_far
    texts = reviews("test", 30).texts
    radii = {
        which: [c.radius for c in certify_at_equal_votes(classifier, texts)]
        for which, classifier in (("plain", plain), ("projected", projected))
    }
    assert np.mean(radii["projected"]) > np.mean(radii["plain"]) + 1.0
    covered = [
        np.mean([c.details["log10_texts"] for c in certify_at_equal_votes(classifier, texts)])
        for classifier in (plain, projected)
    ]
    assert covered[1] > covered[0]


@pytest.mark.parametrize("name", ["without", "full", "rank 6"])
def test_the_result_is_a_plain_checkpoint(base, trained, name):
    classifier = trained[name][1]
    assert type(input_embedding(classifier.model)) is torch.nn.Embedding
    assert set(classifier.model.state_dict()) >= set(load_file(base / "model.safetensors"))
    smoothed = SmoothedClassifier(classifier, MECHANISM)
    shares = smoothed.vote_shares(["good great lovely film", "bad awful poor plot"], 50)
    assert shares.argmax(axis=1).tolist() == [1, 0]


def test_an_interrupted_training_ends_with_the_same_weights(base, tmp_path, monkeypatch):
    args = {"num_train_epochs": 3, "load_best_model_at_end": False}
    experiment = recipe(base, args=args, projection=ProjectionRecipe(rank=4), consistency=1.0)
    splits = reviews("train", 32), reviews("validation", 4)
    train(experiment, *splits, tmp_path / "whole")
    calls = []

    def stop(selection, accelerator):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return {selection.metric: 0.5}

    with monkeypatch.context() as patch:
        patch.setattr(Selection, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            train(experiment, *splits, tmp_path / "parts")
    assert train(experiment, *splits, tmp_path / "parts")["resumed_at"] == 2
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_projection_needs_noise_on_embeddings(base, tmp_path):
    splits = reviews("train", 8), reviews("validation", 4)
    deletion = recipe(base, mechanism=RandomizedDeletion(p_del=0.5), projection=ProjectionRecipe())
    for experiment in (deletion, recipe(base, noise=False, projection=ProjectionRecipe())):
        with pytest.raises(RecipeError, match="needs a mechanism of kind gaussian_embedding"):
            train(experiment, *splits, tmp_path)


def test_one_process_for_several_devices_is_refused(base, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda args: 2))
    monkeypatch.setattr(NoisyTrainer, "__init__", lambda trainer, **kwargs: None)
    monkeypatch.setattr(NoisyTrainer, "is_fsdp_enabled", False, raising=False)
    monkeypatch.setattr(NoisyTrainer, "is_deepspeed_enabled", False, raising=False)
    with pytest.raises(RecipeError, match=r"one process per GPU.*over 2"):
        train(recipe(base), reviews("train", 8), reviews("validation", 4), tmp_path)


# --- recipes -------------------------------------------------------------------------------------


def test_projections_are_read_from_recipes():
    made = build(TrainRecipe, {"projection": {"rank": 8, "collapse": 2}}, "train")
    assert made.projection == ProjectionRecipe(rank=8, collapse=2.0)
    assert build(TrainRecipe, plain(made), "train") == made
    assert build(TrainRecipe, {"projection": {}}, "train").projection == ProjectionRecipe()
    assert build(TrainRecipe, {"projection": None}, "train").projection is None
    assert dataclasses.replace(made, projection=None) != made


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"colapse": 1}, r"train\.projection.*colapse"),
        ({"collapse": -1}, "collapse is a weight of at least 0"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"rank": "many"}, r"train\.projection.*rank"),
    ],
)
def test_wrong_projections_are_refused(entry, message):
    with pytest.raises(RecipeError, match=message):
        build(TrainRecipe, {"projection": entry}, "train")
