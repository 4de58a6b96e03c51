"""The embedded reviews are what their data card says."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from importlib import resources

import numpy as np
import pytest
from rapidfuzz import fuzz, process

STYLES = ("plain", "intricate")
DOMAINS = ("books", "electronics", "kitchen", "outdoor")


@pytest.fixture(scope="module")
def reviews() -> list[dict]:
    file = resources.files("robust_nlp") / "resources" / "reviews.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_there_are_1920_reviews_in_equal_shares(reviews):
    assert len(reviews) == 1920
    shares = Counter((r["split"], r["domain"], r["style"], r["label"]) for r in reviews)
    per_split = {"train": 80, "validation": 15, "test": 25}
    assert shares == {
        (split, domain, style, label): size
        for (split, size), domain, style, label in itertools.product(
            per_split.items(), DOMAINS, STYLES, (0, 1)
        )
    }


def test_the_first_reviews_of_each_split_are_a_mixture(reviews):
    for split in ("train", "validation", "test"):
        first = [r for r in reviews if r["split"] == split][:80]
        for field, values in (("label", 2), ("domain", 4), ("style", 2)):
            counts = Counter(r[field] for r in first)
            assert len(counts) == values
            assert min(counts.values()) >= 0.6 * len(first) / values


def test_reviews_have_4_to_45_words_of_all_lengths(reviews):
    lengths = np.array([len(r["text"].split()) for r in reviews])
    assert lengths.min() >= 4
    assert lengths.max() <= 45
    assert np.percentile(lengths, 10) <= 9
    assert np.percentile(lengths, 90) >= 28


def test_no_two_reviews_are_near_duplicates(reviews):
    texts = [r["text"].lower() for r in reviews]
    alike = process.cdist(texts, texts, scorer=fuzz.token_sort_ratio)
    np.fill_diagonal(alike, 0)
    first, second = np.unravel_index(alike.argmax(), alike.shape)
    assert alike.max() < 75, (texts[first], texts[second])


def test_no_two_reviews_share_a_run_of_seven_words(reviews):
    runs: dict[tuple[str, ...], str] = {}
    for review in reviews:
        words = review["text"].lower().split()
        for start in range(len(words) - 6):
            run = tuple(words[start : start + 7])
            assert runs.setdefault(run, review["text"]) == review["text"], run


def test_reviews_do_not_open_alike(reviews):
    openings = Counter(" ".join(r["text"].lower().split()[:3]) for r in reviews)
    assert openings.most_common(1)[0][1] <= 8, openings.most_common(3)


def test_single_words_do_not_decide_intricate_reviews(reviews):
    counts: dict[str, Counter] = {}
    for review in (r for r in reviews if r["style"] == "intricate"):
        for word in set(review["text"].lower().split()):
            counts.setdefault(word, Counter())[review["label"]] += 1
    frequent = {word: c for word, c in counts.items() if sum(c.values()) >= 40}
    assert len(frequent) > 20
    assert all(max(c.values()) / sum(c.values()) < 0.9 for c in frequent.values())
