"""The first texts of a split may not be like the others, and then a comparison says so."""

from __future__ import annotations

import pytest

from robust_nlp.compare.coverage import skews
from robust_nlp.data import Split


def split_of(labels: list[int], domains: list[str | None] | None = None) -> Split:
    return Split(
        name="test",
        texts=["a text"] * len(labels),
        labels=labels,
        label_names=["bad", "good"],
        content_hash="",
        description="made up",
        domains=domains,
    )


def test_sorted_texts_are_noticed():
    sorted_ = split_of([0] * 100 + [1] * 300)
    found = skews(sorted_, {"score": 50, "certify": 400})
    assert found == [
        {"stage": "score", "of": "class", "name": "bad", "share": 1.0, "share_of_split": 0.25},
        {"stage": "score", "of": "class", "name": "good", "share": 0.0, "share_of_split": 0.75},
    ]


def test_a_missing_domain_is_noticed_though_it_is_small():
    domains = ["books"] * 50 + ["films"] * 50 + ["songs"] * 20
    (found,) = skews(split_of([0, 1] * 60, domains), {"score": 100})
    assert (found["of"], found["name"], found["share"]) == ("domain", "songs", 0.0)


@pytest.mark.parametrize(
    ("labels", "size"),
    [
        ([0, 1] * 100, 40),
        ([0] * 10 + [1] * 90, 19),  # too few to say
        ([0] * 13 + [1, 0, 0] * 40, 20),  # 15 % more than of all
        ([1] * 30 + [1] * 69 + [0], 30),  # none of a class with one text in a hundred
    ],
)
def test_chance_is_not(labels, size):
    assert skews(split_of(labels), {"score": size}) == []


def test_rows_without_a_domain_do_not_count():
    domains = [None] * 30 + ["books", "films"] * 30
    assert skews(split_of([0, 1] * 45, domains), {"score": 30}) == []
