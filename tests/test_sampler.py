"""The order of training examples: all of them, similar lengths together, drawn anew."""

from __future__ import annotations

import numpy as np

from robust_nlp.training.sampler import LengthGroupedSampler

LENGTHS = np.random.default_rng(0).integers(1, 100, 203).tolist()


def order(epoch: int = 0, seed: int = 0, batch_size: int = 10) -> list[int]:
    sampler = LengthGroupedSampler(LENGTHS, batch_size=batch_size, seed=seed)
    assert len(sampler) == len(LENGTHS)
    sampler.set_epoch(epoch)
    return list(sampler)


def padding(examples: list[int], batch_size: int = 10) -> int:
    lengths = [LENGTHS[i] for i in examples]
    batches = [lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


def test_every_example_comes_once():
    assert sorted(order()) == list(range(203))
    assert sorted(order(batch_size=300)) == list(range(203))


def test_there_is_little_padding():
    shuffled = np.random.default_rng(1).permutation(203).tolist()
    assert padding(order()) < padding(shuffled) / 3


def test_the_order_depends_on_seed_and_epoch_alone():
    assert order() == order()
    assert len({tuple(order(epoch, seed)) for epoch in range(3) for seed in range(3)}) == 9


def test_batches_are_not_sorted_by_length_and_do_not_stay_together():
    means = [np.mean([LENGTHS[i] for i in order()[at : at + 10]]) for at in range(0, 200, 10)]
    assert abs(np.corrcoef(means, range(20))[0, 1]) < 0.6
    batches = [
        {frozenset(order(epoch)[at : at + 10]) for at in range(0, 200, 10)} for epoch in range(2)
    ]
    assert not batches[0] & batches[1]
