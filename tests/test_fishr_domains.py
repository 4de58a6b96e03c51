"""Domains of data sets, the balanced order of examples, and the ramp of the penalty."""

from __future__ import annotations

from collections import Counter

import datasets
import numpy as np
import pytest
import torch

from robust_nlp.errors import DataError, RecipeError
from robust_nlp.fishr.domains import AUGMENTED, DomainCollator, DomainNames, columns, domain_name
from robust_nlp.fishr.sampler import DomainBalancedSampler
from robust_nlp.fishr.schedule import ramp

# Names and columns.


def test_numbers_are_learned_by_size_and_keep_their_index():
    domains = DomainNames()
    domains.learn([10, 2, "books", None, -1, "dvd", 2])
    assert domains.names == ["2", "10", "books", "dvd"]
    domains.learn(["air", "dvd"])
    assert domains.names == ["2", "10", "books", "dvd", "air"]
    assert [domains.index(value) for value in (10, "air", -3, "", "unheard of")] == [1, 4] + 3 * [
        -1
    ]


@pytest.mark.parametrize("value", [None, "", -1, float("nan"), torch.tensor(-1), np.int64(-5)])
def test_an_unknown_domain_has_no_name(value):
    assert domain_name(value) is None


@pytest.mark.parametrize(
    ("value", "name"),
    [("books", "books"), (3, "3"), (0, "0"), (np.int64(2), "2"), (torch.tensor(4), "4")],
)
def test_texts_and_whole_numbers_are_domains(value, name):
    assert domain_name(value) == name


@pytest.mark.parametrize("value", [1.5, ["books"], {"a": 1}])
def test_anything_else_is_refused(value):
    with pytest.raises(DataError, match="a domain is a text or a whole number; got"):
        domain_name(value)


@pytest.mark.parametrize("kind", ["datasets", "formatted", "list"])
def test_columns_of_every_kind_of_data_set(kind):
    rows = [{"a": i, "b": f"d{i}"} for i in range(3)]
    data = datasets.Dataset.from_list(rows)
    data = {"datasets": data, "formatted": data.with_format("torch"), "list": rows}[kind]
    assert columns(data, "b", "c", "a") == {"b": ["d0", "d1", "d2"], "a": [0, 1, 2]}


# The collator.


def stack(rows):
    assert all(row.keys() <= {"x", "labels"} for row in rows)  # no other column reaches it
    return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}


def collator(collate=stack) -> DomainCollator:
    domains = DomainNames()
    domains.learn(["books", "dvd"])
    return DomainCollator(collate, domains, column="source")


def test_domains_and_marks_go_past_the_collator():
    batch = collator()(
        [
            {"x": 1, "labels": 0, "source": "dvd", AUGMENTED: True},
            {"x": 2, "labels": 1, "source": "books", AUGMENTED: False},
            {"x": 3, "labels": 1, "source": None, AUGMENTED: False},
        ]
    )
    assert batch["x"].tolist() == [1, 2, 3]
    assert batch["source"].tolist() == [1, 0, -1]
    assert batch["source"].dtype == torch.int64
    assert batch[AUGMENTED].tolist() == [True, False, False]


def test_batches_without_labels_have_no_domains():
    assert collator()([{"x": 1, "source": "dvd"}]).keys() == {"x"}


def test_further_versions_of_the_examples_are_augmented_copies():
    batch = collator(lambda rows: stack([*rows, *rows, *rows]))(
        [{"x": 1, "labels": 0, "source": "dvd"}, {"x": 2, "labels": 1, "source": "books"}]
    )
    assert batch["x"].tolist() == 3 * [1, 2]
    assert batch["source"].tolist() == 3 * [1, 0]
    assert batch[AUGMENTED].tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_collator_that_makes_more_rows_of_some_examples_is_refused(n):
    some = collator(lambda rows: stack([*rows, *rows, *rows][:n]))
    with pytest.raises(DataError, match=f"made {n} rows of 2 examples"):
        some([{"x": 1, "labels": 0}, {"x": 2, "labels": 1}])


# The order of examples.

SIZES = (100, 40, 40, 12)
DOMAINS = np.repeat(np.arange(4), SIZES)
BATCH = 24


def order(epoch: int = 0, domains=DOMAINS, **settings) -> np.ndarray:
    settings = {"batch_size": BATCH, "domains_per_batch": 3, "seed": 0, **settings}
    sampler = DomainBalancedSampler(domains.tolist(), **settings)
    sampler.set_epoch(epoch)
    rows = np.array(list(sampler))
    assert len(rows) == len(sampler)
    return rows.reshape(-1, settings["batch_size"])


def test_every_part_of_a_batch_has_equally_many_rows_of_each_of_its_domains():
    for batch in order():
        for part in batch.reshape(4, 6):  # as two processes with two batches each would cut it
            assert sorted(Counter(DOMAINS[part].tolist()).values()) == [2, 2, 2]
        assert len(set(batch.tolist())) == BATCH


def test_numbers_of_rows_differ_by_one_where_they_have_to():
    for batch in order(batch_size=26, domains_per_batch=4):
        assert sorted(Counter(DOMAINS[batch].tolist()).values()) == [6, 6, 7, 7]


def test_an_epoch_is_as_long_as_the_data_set_in_full_batches():
    assert order().shape == (sum(SIZES) // BATCH, BATCH)
    assert order(domains=DOMAINS[:10], domains_per_batch=1).shape == (1, BATCH)


def test_rows_come_again_only_after_all_of_their_domain():
    rows = order(batch_size=4, domains_per_batch=4).ravel()
    for domain, size in enumerate(SIZES):
        counts = Counter(rows[DOMAINS[rows] == domain].tolist())
        assert len(rows) // 4 == sum(counts.values())
        assert set(range(len(rows) // 4 // size, -(-(len(rows) // 4) // size) + 1)) >= set(
            counts.values()
        )
        assert len(counts) == min(size, len(rows) // 4)


def test_a_batch_repeats_a_row_only_if_its_domain_has_too_few():
    # Twelve rows of the smallest domain: five in a batch do not divide them.
    for batch in order(batch_size=20, domains_per_batch=4):
        assert len(set(batch.tolist())) == 20
    for batch in order(batch_size=64, domains_per_batch=4):
        small = [row for row in batch.tolist() if DOMAINS[row] == 3]
        assert (len(small), len(set(small))) == (16, 12)


def test_the_order_depends_on_seed_and_epoch_alone():
    assert (order() == order()).all()
    orders = {order(epoch, seed=seed).tobytes() for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize(
    ("probabilities", "exponent"), [("uniform", 0.0), ("proportional", 1.0), (2.0, 0.5)]
)
def test_domains_are_drawn_with_their_probabilities(probabilities, exponent):
    drawn = [
        DOMAINS[order(epoch, batch_size=8, domains_per_batch=1, probabilities=probabilities)[:, 0]]
        for epoch in range(100)
    ]
    shares = np.bincount(np.concatenate(drawn), minlength=4) / (100 * len(drawn[0]))
    expected = np.array(SIZES) ** exponent
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.04)


def test_labels_spread_evenly_over_the_rows_of_a_domain():
    labels = np.random.default_rng(0).random(sum(SIZES)) < 0.25
    spread = order(domains_per_batch=2, labels=labels.tolist())
    chance = order(domains_per_batch=2)

    def deviation(batches):
        found = []
        for batch in batches:
            for domain in set(DOMAINS[batch].tolist()) - {3}:  # of the smallest there are too few
                mine = labels[batch[DOMAINS[batch] == domain]].mean()
                found.append(abs(mine - labels[domain == DOMAINS].mean()))
        return np.mean(found)

    assert deviation(spread) < 0.05
    assert deviation(chance) > 0.06


def test_a_batch_that_is_cut_has_similar_lengths_in_each_part():
    lengths = np.random.default_rng(0).integers(1, 100, sum(SIZES))
    padded, chance = 0, 0
    for grouped, plain in zip(order(lengths=lengths.tolist()), order(), strict=True):
        assert sorted(grouped.tolist()) == sorted(plain.tolist())
        padded += sum(
            6 * lengths[part].max() - lengths[part].sum() for part in grouped.reshape(4, 6)
        )
        chance += sum(6 * lengths[part].max() - lengths[part].sum() for part in plain.reshape(4, 6))
    assert padded < 0.65 * chance


def test_rows_outside_the_statistics_have_the_share_they_have_in_the_data():
    domains = np.concatenate([DOMAINS, np.full(64, -1)])  # a quarter
    batches = order(domains=domains)
    others = np.array([(domains[batch] == -1).sum() for batch in batches])
    assert others.tolist() == [6] * len(batches)
    for batch in batches:
        known = domains[batch][domains[batch] >= 0]
        assert sorted(Counter(known.tolist()).values()) == [6, 6, 6]
        at = np.flatnonzero(domains[batch] == -1)
        assert np.diff(at).tolist() == [4] * 5  # not in a row
    few = np.concatenate([DOMAINS, [-1, -1]])  # less than one a batch
    drawn = np.concatenate([few[batch] for batch in order(domains=few)])
    assert (drawn == -1).sum() == 1


@pytest.mark.parametrize("number", [0, 5])
def test_a_batch_cannot_have_more_domains_than_there_are(number):
    with pytest.raises(RecipeError, match=f"here 4, and at most .* here 24; got {number}"):
        order(domains_per_batch=number)


@pytest.mark.parametrize("probabilities", ["equal", 0.0, -1.0])
def test_probabilities_must_be_known(probabilities):
    with pytest.raises(RecipeError, match="probabilities are"):
        order(probabilities=probabilities)


def test_some_domain_must_be_known():
    with pytest.raises(DataError, match="none of 5 training examples has a known domain"):
        order(domains=np.full(5, -1))


# The ramp.


def test_the_weight_rises_evenly_between_start_and_end():
    shares = [ramp(step, 100, start=0.3, end=0.5) for step in range(100)]
    assert shares[:31] == [0.0] * 31
    assert shares[50:] == [1.0] * 50
    np.testing.assert_allclose(shares[30:51], np.linspace(0.0, 1.0, 21), atol=1e-12)


def test_a_ramp_may_be_a_jump_and_begin_at_once():
    assert [ramp(step, 10, start=0.5, end=0.5) for step in (4, 5)] == [0.0, 1.0]
    assert ramp(0, 10, start=0.0, end=0.0) == 1.0
    assert ramp(9, 10, start=1.0, end=1.0) == 0.0


def test_copies_are_drawn_by_domain():
    """Of 900 and 100 texts with a copy each, a batch has as many copies of either domain."""
    index = np.array([0] * 900 + [1] * 100)
    drawn = DomainBalancedSampler(
        np.tile(index, 2),
        batch_size=16,
        domains_per_batch=2,
        seed=0,
        copies=np.repeat([False, True], 1000),
    )
    order = np.array(list(drawn)).reshape(-1, 16)
    for batch in order:
        own, copied = batch[batch < 1000], batch[batch >= 1000] - 1000
        assert len(own) == len(copied) == 8
        for rows in (own, copied):
            assert np.bincount(index[rows], minlength=2).tolist() == [4, 4]
    half = order[:, :8]  # what one of two processes has
    assert {int((part >= 1000).sum()) for part in half} <= {3, 4, 5}


def test_domains_without_copies_and_copies_without_domains_fill_batches_all_the_same():
    domains = [0] * 20 + [1] * 20 + [0] * 10 + [2] * 6
    copies = [False] * 40 + [True] * 16
    drawn = DomainBalancedSampler(domains, batch_size=8, domains_per_batch=1, seed=0, copies=copies)
    order = np.array(list(drawn))
    assert len(order) == len(drawn) == 56
    for batch in order.reshape(-1, 8):
        of_copies = {domains[i] for i in batch if copies[i] and domains[i] != 2}
        own = {domains[i] for i in batch if not copies[i]}
        assert len(own) == 1
        assert of_copies <= own
    assert {domains[i] for i in order if copies[i]} == {0, 2}
