"""The map in closed form that shortens allowed swaps and keeps what a classifier reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_projection import MECHANISM, base, examples, recipe, reviews, spread  # noqa: F401

from robust_nlp.embedding_noise import input_embedding
from robust_nlp.errors import RecipeError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.recipe import ProjectionRecipe
from robust_nlp.settings import build
from robust_nlp.training.gaussian import EmbeddingNoiseCollator
from robust_nlp.training.run import train
from robust_nlp.training.swap_filter import RIDGE, moments_of, shrink_swaps, swap_filter
from robust_nlp.units import keyed_rng


def moments(size: int, seed: int, *, rank: int | None = None) -> list[np.ndarray]:
    rng = keyed_rng(seed, "moments")
    found = []
    for k in range(3):
        rows = rng.standard_normal((3 * size if rank is None or k < 2 else rank, size))
        found.append(rows.T @ rows / len(rows))
    return found


def cost(matrix, gradients, rows, swaps, strength):
    """The objective, written out from scratch."""
    size = len(swaps)
    ridged = swaps + RIDGE * np.trace(swaps) / size * np.eye(size)
    values = np.sort(np.linalg.eigvals(np.linalg.solve(ridged, rows)).real)
    scale = np.trace(gradients) / size * np.median(values)
    off = matrix - np.eye(size)
    change = np.trace(gradients @ off @ rows @ off.T)
    return change + strength * scale * np.trace(matrix @ ridged @ matrix.T)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("strength", [0.05, 1.0, 30.0])
def test_no_other_map_has_a_lower_cost(strength, rank):
    given = moments(5, 3, rank=rank)
    best = swap_filter(*given, strength=strength)
    least = cost(best, *given, strength)
    assert least < cost(np.eye(5), *given, strength)
    rng = keyed_rng(0, "directions")
    for _ in range(50):
        direction = rng.standard_normal((5, 5))
        around = [cost(best + step * direction, *given, strength) for step in (-1e-3, 1e-3)]
        assert min(around) > least
        # The slope is zero: what remains is the curvature.
        assert abs(around[1] - around[0]) < 1e-6 * max(around)
    assert cost(best.T, *given, strength) > least


def test_the_strength_trades_fidelity_for_short_swaps():
    gradients, rows, swaps = moments(6, 1)
    assert np.array_equal(swap_filter(gradients, rows, swaps, strength=0.0), np.eye(6))
    length, change = [], []
    for strength in (1e-6, 0.1, 1.0, 10.0, 1e8):
        matrix = swap_filter(gradients, rows, swaps, strength=strength)
        off = matrix - np.eye(6)
        length.append(np.trace(matrix @ swaps @ matrix.T) / np.trace(swaps))
        change.append(np.trace(gradients @ off @ rows @ off.T))
    assert length == sorted(length, reverse=True)
    assert change == sorted(change)
    assert length[0] > 0.999
    assert length[-1] < 1e-6


def test_a_direction_of_mean_gradient_and_median_spread_is_halved():
    matrix = swap_filter(np.eye(3), np.diag([1.0, 2.0, 8.0]), np.eye(3), strength=1.0)
    np.testing.assert_allclose(matrix, np.diag([1 / 3, 1 / 2, 4 / 5]), atol=1e-5)


def test_directions_that_nobody_reads_are_dropped():
    matrix = swap_filter(np.diag([1.0, 0.0]), np.eye(2), np.eye(2), strength=1e-3)
    np.testing.assert_allclose(matrix, np.diag([1.0, 0.0]), atol=5e-3)


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory):  # noqa: F811
    """A classifier that was fine-tuned the ordinary way."""
    output = tmp_path_factory.mktemp("plain")
    train(recipe(base, noise=False), reviews("train", 160), reviews("validation", 40), output)
    return output / "model"


def reader(classifier, mechanism=MECHANISM) -> EmbeddingNoiseCollator:
    return EmbeddingNoiseCollator(
        classifier.tokenizer, mechanism, max_length=classifier.max_length, with_swaps=True
    )


def test_moments_are_those_of_each_token_of_each_text(plain):
    classifier = HuggingFaceClassifier.from_pretrained(plain, device="cpu")
    model, tokenizer = classifier.model, classifier.tokenizer
    texts, collator = examples(reviews("other", 7)), reader(classifier)
    found = moments_of(model, collator, texts, seed=3)
    table = input_embedding(model).weight.detach().double().numpy()
    special = set(tokenizer.all_special_ids)
    rows, gradients = [], []
    for text in texts:
        ids = tokenizer(text["text"], return_tensors="pt")["input_ids"]
        vectors = input_embedding(model)(ids).detach().requires_grad_()
        logits = model(inputs_embeds=vectors).logits[0].double()
        own = [i for i, token in enumerate(ids[0].tolist()) if token not in special]
        rows += [table[ids[0, i]] for i in own]
        for score in logits - logits.mean():
            (gradient,) = torch.autograd.grad(score, vectors, retain_graph=True)
            gradients += [gradient[0, i].double().numpy() for i in own]
    n = len(rows)
    np.testing.assert_allclose(found.mean, np.mean(rows, axis=0), atol=1e-7)
    np.testing.assert_allclose(found.rows, np.cov(np.array(rows).T, bias=True), atol=1e-7)
    expected = np.array(gradients).T @ np.array(gradients) / n
    np.testing.assert_allclose(found.gradients, expected, rtol=1e-4, atol=1e-8)
    swaps, weight = np.zeros_like(found.swaps), 0.0
    for text in texts:
        batch = collator([text])
        for (own, other), share in zip(batch["swap_ids"], batch["swap_weights"], strict=True):
            difference = table[own] - table[other]
            swaps += float(share) * np.outer(difference, difference)
            weight += float(share)
    assert weight > 0.0
    np.testing.assert_allclose(found.swaps, swaps / weight, atol=1e-7)


def test_swaps_come_closer_and_answers_stay(plain):
    classifier = HuggingFaceClassifier.from_pretrained(plain, device="cpu")
    before = input_embedding(classifier.model).weight.detach().clone()
    inside, outside = spread(classifier)
    test = reviews("test", 60)

    def accuracy() -> float:
        with torch.inference_mode():
            batch = classifier.tokenizer(test.texts, return_tensors="pt", padding=True)
            answers = classifier.model(**batch).logits.argmax(dim=-1)
        return float((answers == torch.tensor(test.labels)).double().mean())

    assert accuracy() > 0.9
    rows = examples(reviews("train", 60))
    shrink_swaps(classifier.model, reader(classifier), rows, strength=3.0)
    shorter, others = spread(classifier)
    assert shorter < 0.5 * inside
    assert shorter / others < 0.8 * inside / outside
    assert accuracy() > 0.9
    after = input_embedding(classifier.model).weight.detach()
    special = classifier.tokenizer.all_special_ids
    assert torch.equal(after[special], before[special])


def test_a_classifier_that_reads_nothing_is_refused(base):  # noqa: F811
    classifier = HuggingFaceClassifier.from_pretrained(base, device="cpu")
    with torch.no_grad():
        classifier.model.classifier.weight.zero_()
    with pytest.raises(RecipeError, match=r"right on 10 of 20 training texts.*Fine-tune it first"):
        shrink_swaps(
            classifier.model, reader(classifier), examples(reviews("train", 20)), strength=1.0
        )


def test_texts_without_swaps_are_refused(plain):
    classifier = HuggingFaceClassifier.from_pretrained(plain, device="cpu")
    nothing = GaussianEmbedding(sigma=0.5, swaps={"zebra": ["horse"]})
    rows = examples(reviews("train", 20))
    with pytest.raises(RecipeError, match="no word of the training texts has one"):
        shrink_swaps(classifier.model, reader(classifier, nothing), rows, strength=1.0)


def test_training_goes_on_from_the_filtered_table(plain, tmp_path):
    tables = {}
    for name, strength in {"without": None, "with": 3.0}.items():
        chosen = ProjectionRecipe(filter=strength, collapse=0.0)
        experiment = recipe(plain, projection=chosen, args={"max_steps": 1, "learning_rate": 1e-7})
        train(experiment, reviews("train", 32), reviews("validation", 8), tmp_path / name)
        model = HuggingFaceClassifier.from_pretrained(tmp_path / name / "model", device="cpu")
        tables[name] = spread(model)[0]
    assert tables["with"] < 0.5 * tables["without"]


def test_filters_are_read_from_recipes():
    assert build(ProjectionRecipe, {"filter": 3}).filter == 3.0
    with pytest.raises(RecipeError, match="filter is a strength above 0"):
        build(ProjectionRecipe, {"filter": 0})
