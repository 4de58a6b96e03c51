"""Leaks of the clean text into the base classifier are found, and nothing else is called one."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_model, wordpiece

from robust_nlp import CallableClassifier, HuggingFaceClassifier
from robust_nlp.leaks import LeakFound, check_leaks
from robust_nlp.mechanisms import (
    AdaptiveDeletion,
    BagDeletion,
    CombinedNoise,
    RandomizedDeletion,
    RandomMasking,
    Reordering,
    SynonymSmoothing,
)

TEXTS = ["one good film and a bad plot", "no fun at all", "a very long and very slow story ends"]
SWAPS = {"good": ["great", "fine"], "great": ["good"], "bad": ["poor"], "fun": ["joy"]}

MECHANISMS = {
    "deletion": RandomizedDeletion(p_del=0.6),
    "deletion of characters": RandomizedDeletion(p_del=0.8, unit="character"),
    "adaptive": AdaptiveDeletion(keeps=(2,)),
    "masking": RandomMasking(p_mask=0.6, mask="_"),
    "bag": BagDeletion(p_del=0.6),
    "combined": CombinedNoise(p_del=0.3, p_mask=0.3, mask="_"),
    "reordering": Reordering(),
    "synonyms": SynonymSmoothing(swaps=SWAPS),
}


def scores(texts: list[str]) -> list[list[float]]:
    return [[text.count("good") + 0.5, len(text) % 3] for text in texts]


@pytest.mark.parametrize("name", MECHANISMS)
def test_functions_of_the_noisy_text_do_not_leak(name):
    base = CallableClassifier(scores, ["bad", "good"])
    assert check_leaks(base, MECHANISMS[name], TEXTS) >= 10


@pytest.mark.parametrize("name", ["deletion", "adaptive", "masking", "bag", "synonyms"])
def test_hugging_face_classifiers_do_not_leak(name, tiny_classifier):
    mechanism = MECHANISMS[name]
    assert check_leaks(tiny_classifier, mechanism, TEXTS, draws=4) >= 4


def test_pairs_are_compared_as_well():
    base = CallableClassifier(
        lambda pairs: [[len(a), len(b)] for a, b in pairs], ["bad", "good"], protected="first"
    )
    pairs = [("the question", text) for text in TEXTS]
    assert check_leaks(base, MECHANISMS["deletion"], pairs, protected="first") >= 10


class Wrapped:
    """A base classifier around another, with a leak to be planted."""

    def __init__(self, base: HuggingFaceClassifier) -> None:
        self.base, self.model, self.labels = base, base.model, base.labels

    def open(self, text, mechanism):
        opened = self.base.open(text, mechanism)
        self.opened(text, opened)
        return opened

    def opened(self, text, opened): ...

    def classify(self, inputs):
        return self.base.classify(inputs)


class LengthInKey(Wrapped):
    """The cache key has the length of the clean text."""

    def opened(self, text, opened):
        encode = opened.encode
        opened.encode = lambda rows: [(key, len(text)) for key in encode(rows)]

    def classify(self, inputs):
        return self.base.classify([key for key, _ in inputs])


class CleanAttentionMask(LengthInKey):
    """The attention mask is as long as the clean text has words: Text-CRS with BERT."""

    def opened(self, text, opened):
        encode = opened.encode
        opened.encode = lambda rows: [(key, text.count(" ")) for key in encode(rows)]

    def classify(self, inputs):
        answers = []
        for key, words in inputs:
            ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9]])
            mask = (torch.arange(9)[None] <= words).long()
            logits = self.model(input_ids=ids, attention_mask=mask).logits
            answers.append(int(logits.argmax()) if len(key) >= 0 else 0)
        return answers


class AnswerByCleanText(Wrapped):
    """The answer to the clean text is remembered and given for all its noisy versions."""

    def opened(self, text, opened):
        self.answer = len(text) % 2

    def classify(self, inputs):
        return [self.answer for _ in inputs]


class SparesCapitals(Wrapped):
    """Noisy versions are written as the clean text is: in capitals if it has any."""

    def opened(self, text, opened):
        encode = opened.encode
        upper = any(c.isupper() for c in text)
        opened.encode = lambda rows: [key + b"\0\0\0\0" * upper for key in encode(rows)]


@pytest.mark.parametrize(
    ("leak", "what"),
    [
        (LengthInKey, "key"),
        (CleanAttentionMask, "attention_mask of the model"),
        (AnswerByCleanText, "answer"),
        (SparesCapitals, "input_ids of the model"),
    ],
)
def test_planted_leaks_are_found(leak, what, tiny_classifier):
    with pytest.raises(LeakFound, match="no certificate holds") as found:
        check_leaks(leak(tiny_classifier), MECHANISMS["deletion"], TEXTS)
    assert found.value.what == what


def test_noise_that_hides_nothing_is_no_check():
    base = CallableClassifier(scores, ["bad", "good"])
    with pytest.raises(ValueError, match="hid nothing of these 1 texts"):
        check_leaks(base, MECHANISMS["synonyms"], ["one film"])


@pytest.fixture(scope="module")
def tiny_classifier() -> HuggingFaceClassifier:
    tokenizer = wordpiece()
    return HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
