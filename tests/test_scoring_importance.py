"""Importance of words, where the truth is known, and against gradients written out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import across_spaces, byte_level_bpe, tiny_model, unigram, wordpiece

from robust_nlp.base_classifier import CallableClassifier
from robust_nlp.errors import ModelError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.scoring import DeleteWords
from robust_nlp.scoring.importance import base_scores, gradient_x_embedding, leave_one_out
from robust_nlp.scoring.rows import score

WEIGHTS = {"good": 2.0, "fine": 1.0, "bad": -3.0, "poor": -0.5}
TEXT = "a good film , fine cast and bad plot"


def linear(texts):
    sums = [sum(WEIGHTS.get(word, 0.0) for word in text.split()) for text in texts]
    return np.array([[-0.5 * s, 0.5 * s] for s in sums])


def test_leave_one_out_finds_the_weights_of_a_linear_classifier():
    for label, sign in ((1, 1.0), (0, -1.0)):
        (found,) = leave_one_out(linear, [TEXT], [label])
        expected = [sign * WEIGHTS.get(w, 0.0) for w in TEXT.split()]
        assert found == pytest.approx(expected, abs=3e-4)


def test_leave_one_out_does_not_depend_on_the_texts_beside_it():
    texts = [TEXT, "", "bad bad good", TEXT]
    together = leave_one_out(linear, texts, [1, 0, 0, 1])
    alone = [leave_one_out(linear, [t], [y])[0] for t, y in zip(texts, [1, 0, 0, 1], strict=True)]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(together[1]) == 0


def test_a_linear_classifier_loses_its_best_words_first():
    deletions = [DeleteWords(order=o, rates=(0.1,)) for o in ("most_important", "least_important")]
    scores = score(linear, [TEXT, "good bad"], [1, 1], deletions)
    rows = scores.measured[0]
    assert rows.clean.right.tolist() == [[False], [False]]
    # Of 9 words one is deleted: "good", or, for the least important, "bad"; of 2 words none.
    most, least = (curve[0.1] for curve in rows.curves.values())
    assert most.right.tolist() == [[False], [False]]
    assert least.right.tolist() == [[True], [False]]
    assert least.edits.tolist() == [[1], [0]]


class Bag(torch.nn.Module):
    """A sum of embeddings and a linear head: margins are linear in the embeddings."""

    def __init__(self, tokenizer):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embeddings = torch.nn.Embedding(len(tokenizer), 8)
            self.head = torch.nn.Linear(8, 2)
        self.config = SimpleNamespace(
            num_labels=2, problem_type=None, id2label=None, pad_token_id=0
        )
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def get_input_embeddings(self):
        return self.embeddings

    def forward(self, input_ids, token_type_ids=None):
        return SimpleNamespace(logits=self.head(self.embeddings(input_ids).sum(dim=1)))


TEXTS = [
    "the film is a good film and the cast was brilliant",
    "don't you think this is an awful, tedious picture?",
    "numbers 12 and 345, naïve café",
    "",
]


def test_for_a_linear_margin_both_measures_are_the_same():
    base = HuggingFaceClassifier(Bag(wordpiece()), wordpiece())
    loo = leave_one_out(base_scores(base), TEXTS, [0, 1, 1, 0])
    gradient = gradient_x_embedding(base, TEXTS, [0, 1, 1, 0])
    for a, b in zip(loo, gradient, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3 * np.abs(a).max(initial=1.0))


def written_out(base, first, words, last, label, *, pair=None):
    """Sum embedding times gradient over the tokens of each word, put together by hand."""
    tokenizer, model = base.tokenizer, base.model
    ids, owners = list(first), [-1] * len(first)
    for i, word in enumerate(words):
        pieces = tokenizer(word if i == 0 else f" {word}", add_special_tokens=False)["input_ids"]
        ids, owners = ids + pieces, owners + [i] * len(pieces)
    ids, owners = ids + list(last), owners + [-1] * len(last)
    arguments = {} if pair is None else {"token_type_ids": torch.tensor([pair(ids)])}
    vectors = model.get_input_embeddings()(torch.tensor([ids])).detach().requires_grad_()
    logits = model(inputs_embeds=vectors, **arguments).logits[0]
    other = max(logits[j] for j in range(len(logits)) if j != label)
    (logits[label] - other).backward()
    products = (vectors.grad * vectors)[0].sum(dim=-1).tolist()
    found = np.zeros(len(words))
    for owner, product in zip(owners, products, strict=True):
        if owner >= 0:
            found[owner] += product
    return found


@pytest.mark.parametrize("tokenizer", [wordpiece(), byte_level_bpe()], ids=["wordpiece", "bpe"])
def test_gradients_are_those_written_out(tokenizer):
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer, 3), tokenizer)
    first, last = ([2], [3]) if tokenizer.cls_token == "[CLS]" else ([0], [2])
    for label, text in enumerate(TEXTS[:3]):
        (found,) = gradient_x_embedding(base, [text], [label])
        expected = written_out(base, first, text.split(), last, label)
        np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())
        assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("side", ["left", "right"])
def test_words_that_are_cut_off_have_no_importance(side):
    tokenizer = wordpiece()
    tokenizer.truncation_side = side
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer, max_length=6)
    words = ["film", "good", "cast", "bad", "the", "plot"]
    sizes = [len(tokenizer(w, add_special_tokens=False)["input_ids"]) for w in words]
    assert sizes[:2] == sizes[-2:-1] * 2 == [1, 1]
    (found,) = gradient_x_embedding(base, [" ".join(words)], [1])
    kept = words[:4] if side == "right" else words
    if side == "right" and sum(sizes[:4]) == 4:
        expected = written_out(base, [2], kept, [3], 1)
        np.testing.assert_allclose(found[:4], expected, atol=2e-4 * np.abs(expected).max())
    assert (found[-1] == 0.0) == (side == "right")
    assert (found[0] == 0.0) == (side == "left")


@pytest.mark.parametrize("protected", ["first", "second"])
def test_of_pairs_only_the_open_text_is_measured(protected):
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer, protected=protected)
    body, partner = "a good film", "the cast was bad"
    other = tokenizer(partner, add_special_tokens=False)["input_ids"]
    if protected == "first":
        pair, first, last = (partner, body), [2, *other, 3], [3]
        size = len(first)
    else:
        pair, first, last = (body, partner), [2], [3, *other, 3]
        size = None
    (found,) = gradient_x_embedding(base, [pair], [0])

    def types(ids):
        one = size if size is not None else len(ids) - len(other) - 1
        return [0] * one + [1] * (len(ids) - one)

    expected = written_out(base, first, body.split(), last, 0, pair=types)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "make", [unigram, across_spaces, lambda: byte_level_bpe(special_tokens_around=False)]
)
def test_other_tokenizers_and_prefixes_give_one_number_a_word(make):
    tokenizer = make()
    tokenizer.pad_token = tokenizer.pad_token or "</s>"
    plain = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
    prefixed = HuggingFaceClassifier(plain.model, tokenizer, prefix="the plot :")
    for text in TEXTS:
        for base in (plain, prefixed):
            (found,) = gradient_x_embedding(base, [text], [1])
            assert found.shape == (len(text.split()),)
            assert np.isfinite(found).all()
            assert not text or np.abs(found).max() > 0.0


def test_gradients_leave_the_model_as_it_was():
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
    base.model.train()
    gradient_x_embedding(base, TEXTS[:1], [0])
    assert base.model.training
    assert all(parameter.grad is None for parameter in base.model.parameters())


def test_gradients_need_a_model():
    by_gradient = DeleteWords(order="most_important", importance="gradient_x_embedding")
    with pytest.raises(ModelError, match="importance: leave_one_out"):
        score(linear, [TEXT], [1], [by_gradient])
    function = CallableClassifier(linear, ["negative", "positive"])
    with pytest.raises(ModelError, match="importance: leave_one_out"):
        score(function, [TEXT], [1], [by_gradient])
