"""Batches of noisy training texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from robust_nlp.errors import ModelError, RecipeError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.mechanisms import AdaptiveDeletion, RandomizedDeletion, RandomMasking
from robust_nlp.training.collators import NoisyCollator
from robust_nlp.units import keyed_rng

TEXT = "the film was very good and the cast is great , a lovely story it is not boring"


def example(i: int, text: str = TEXT, pair: str | None = None) -> dict[str, object]:
    return {"text": text, "pair": pair, "label": i % 2, "example_id": i}


@pytest.fixture(scope="module")
def tokenizer(tiny_classifier_dir):
    return AutoTokenizer.from_pretrained(tiny_classifier_dir)


def unpadded(batch: dict[str, torch.Tensor]) -> list[list[int]]:
    rows = zip(batch["input_ids"], batch["attention_mask"], strict=True)
    return [ids[: int(mask.sum())].tolist() for ids, mask in rows]


def words(collator: NoisyCollator, tokenizer, examples) -> list[list[str]]:
    """The tokens that are left of each text."""
    return [tokenizer.convert_ids_to_tokens(row)[1:-1] for row in unpadded(collator(examples))]


MECHANISMS = [
    RandomizedDeletion(p_del=0.5),
    RandomizedDeletion(p_del=0.5, unit="character"),
    RandomizedDeletion(p_del=0.5, unit="token"),
    AdaptiveDeletion(keeps=(5.0,)),
    RandomMasking(p_mask=0.6, mask="[MASK]"),
    RandomMasking(p_mask=0.6, mask="[MASK]", unit="token"),
]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: f"{m.kind}-{m.unit}")
@pytest.mark.parametrize(
    ("pair", "protected"), [(None, "second"), ("it is a plot", "second"), ("a plot", "first")]
)
@pytest.mark.parametrize("max_length", [64, 12])
def test_inputs_are_those_of_certification(
    tiny_classifier_dir, tokenizer, mechanism, pair, protected, max_length
):
    settings = {"prefix": "this is :", "protected": protected, "max_length": max_length}
    collator = NoisyCollator(tokenizer, mechanism, seed=3, **settings)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier_dir)
    base = HuggingFaceClassifier(model, tokenizer, **settings)
    batch = collator([example(i, pair=pair) for i in range(4)])
    for i, ids in enumerate(unpadded(batch)):
        opened = base.open(TEXT if pair is None else (TEXT, pair), mechanism)
        rows = mechanism.draw(opened.law.n_units, 1, keyed_rng(3, "train-noise", 0, i, 0))
        types = batch.get("token_type_ids")
        expected = np.array([*ids, *(() if types is None else types[i, : len(ids)])], np.int32)
        assert opened.encode(rows) == [expected.tobytes()]


def test_every_epoch_and_every_example_has_noise_of_its_own(tokenizer):
    collator = NoisyCollator(tokenizer, RandomizedDeletion(p_del=0.5), max_length=64)
    seen = []
    for collator.epoch in range(3):
        seen += words(collator, tokenizer, [example(0), example(1)])
    assert len({tuple(row) for row in seen}) == 6


def test_noise_does_not_depend_on_batches_or_their_order(tokenizer):
    collator = NoisyCollator(
        tokenizer, RandomizedDeletion(p_del=0.5), max_length=64, rates=(0.1, 0.9), clean_share=0.2
    )
    together = words(collator, tokenizer, [example(i) for i in range(6)])
    backwards = words(collator, tokenizer, [example(i) for i in range(5, -1, -1)])
    alone = [words(collator, tokenizer, [example(i)])[0] for i in range(6)]
    assert together == alone == backwards[::-1]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, by torch
def test_worker_processes_that_live_on_see_the_epoch_change(tokenizer):
    collator = NoisyCollator(tokenizer, RandomizedDeletion(p_del=0.5), max_length=64)
    data = [example(i) for i in range(10)]

    def epochs(**options) -> list[list[list[int]]]:
        loader = DataLoader(data, batch_size=3, collate_fn=collator, **options)
        result = []
        for collator.epoch in range(3):
            result.append([row for batch in loader for row in unpadded(batch)])
        return result

    expected = epochs()
    assert expected[0] != expected[1] != expected[2]
    assert epochs(num_workers=2, persistent_workers=True, prefetch_factor=4) == expected


def test_draws_of_an_example_differ_and_share_its_rate(tokenizer):
    collator = NoisyCollator(
        tokenizer, RandomizedDeletion(p_del=0.5), max_length=512, rates=(0.02, 0.98), draws=2
    )
    examples = [example(i, " ".join(["good"] * 300)) for i in range(20)]
    batch = collator(examples)
    first, second = np.split(batch["attention_mask"].sum(dim=1).numpy(), 2)
    assert batch["labels"].tolist() == [e["label"] for e in examples] * 2
    assert np.abs(first - second).max() < 60  # far below the spread of the rates
    assert first.max() - first.min() > 150
    texts = NoisyCollator(tokenizer, RandomizedDeletion(p_del=0.5), max_length=64, draws=2)
    a, b = words(texts, tokenizer, [example(0)])
    assert a != b


def test_rates_are_drawn_evenly_from_their_range(tokenizer):
    collator = NoisyCollator(tokenizer, RandomMasking(p_mask=0.5), max_length=512, rates=(0.2, 0.6))
    batch = collator([example(i, " ".join(["good"] * 200)) for i in range(300)])
    masked = (batch["input_ids"] == tokenizer.mask_token_id).sum(dim=1).numpy() / 200
    assert 0.2 <= masked.min() < 0.22
    assert 0.58 < masked.max() <= 0.6
    assert abs(masked.mean() - 0.4) < 0.03


@pytest.mark.parametrize(
    ("clean_share", "low", "high"), [(0.0, 0, 0), (0.3, 70, 110), (1.0, 300, 300)]
)
def test_a_share_of_examples_goes_without_noise(tokenizer, clean_share, low, high):
    mechanism = RandomizedDeletion(p_del=0.9)
    collator = NoisyCollator(tokenizer, mechanism, max_length=64, clean_share=clean_share)
    rows = words(collator, tokenizer, [example(i) for i in range(300)])
    assert low <= sum(row == tokenizer.tokenize(TEXT) for row in rows) <= high


def test_without_a_mechanism_texts_stay_as_they_are(tokenizer):
    collator = NoisyCollator(tokenizer, None, max_length=64)
    text = "the  film was\tgood"
    assert unpadded(collator([example(0, text)])) == [tokenizer(text)["input_ids"]]


def test_masks_are_those_of_the_tokenizer_unless_named(tokenizer):
    text = " ".join(["good"] * 10)
    for mask, written in ((None, "[MASK]"), ("film", "film")):
        collator = NoisyCollator(tokenizer, RandomMasking(p_mask=0.7, mask=mask), max_length=64)
        (row,) = words(collator, tokenizer, [example(0, text)])
        assert sorted(row) == sorted(["good"] * 3 + [written] * 7)


def test_prefix_and_protected_text_are_never_noised(tokenizer):
    collator = NoisyCollator(
        tokenizer, RandomizedDeletion(p_del=0.99), max_length=64, prefix="it is", protected="first"
    )
    (row,) = words(collator, tokenizer, [example(0, "the plot was poor", pair="good good")])
    assert row == ["the", "plot", "was", "poor", "[SEP]", "it", "is"]


def test_an_empty_noisy_text_has_a_token_even_without_special_tokens(tokenizer):
    from conftest import tiny_tokenizer

    bare = tiny_tokenizer()
    bare.backend_tokenizer.post_processor = None
    collator = NoisyCollator(bare, RandomizedDeletion(p_del=0.5), max_length=64)
    batch = collator([example(0, ""), example(1, "")])
    assert batch["input_ids"].shape == (2, 1)
    assert batch["attention_mask"].tolist() == [[1], [1]]


def test_padding_stands_on_the_right_and_is_masked(tokenizer):
    collator = NoisyCollator(tokenizer, None, max_length=64)
    batch = collator([example(0, "good"), example(1, "the film was good")])
    assert batch["input_ids"][0, 3:].tolist() == [tokenizer.pad_token_id] * 3
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": (0.5, 1.0)}, "low, high within"),
        ({"rates": (0.9, 0.1)}, "low, high within"),
        ({"clean_share": 1.5}, "probability in"),
    ],
)
def test_settings_outside_their_range_are_refused(tokenizer, settings, message):
    with pytest.raises(RecipeError, match=message):
        NoisyCollator(tokenizer, RandomizedDeletion(p_del=0.5), max_length=64, **settings)


def test_a_mechanism_without_a_single_rate_takes_no_rates(tokenizer):
    with pytest.raises(
        RecipeError, match=r"AdaptiveDeletion has no single rate .* leave rates out"
    ):
        NoisyCollator(tokenizer, AdaptiveDeletion(), max_length=64, rates=(0.1, 0.9))


def test_a_tokenizer_without_a_pad_token_is_refused():
    from conftest import tiny_tokenizer

    bare = tiny_tokenizer()
    bare.pad_token = None
    with pytest.raises(ModelError, match="no pad token"):
        NoisyCollator(bare, None, max_length=64)
