"""Pieces of work in step: one call for all, and randomness of their own."""

import random
import threading
import time

import numpy as np
import pytest
import torch

from robust_nlp.attacks.lockstep import Ended, Interruption, Job, OutOfTime, ask, run
from robust_nlp.errors import ModelError


def doubled(calls):
    def answers(items):
        calls.append(list(items))
        return [2 * item for item in items]

    return answers


def results(jobs, **options):
    found = {}
    run(jobs, lambda position, ended: found.update({position: ended}), **{"width": 4, **options})
    return [found[i].result for i in sorted(found)]


def test_what_is_asked_at_the_same_time_is_answered_together():
    calls = []
    answers = doubled(calls)

    def work(start, rounds):
        total = 0
        for i in range(rounds):
            total += sum(ask(answers, [start + i, 100]))
        return total

    jobs = [Job(lambda _, k=k: work(k, 2 + k % 2), 0) for k in range(4)]
    expected = [work(k, 2 + k % 2) for k in range(4)]
    calls.clear()
    assert results(jobs) == expected
    assert [len(call) for call in calls] == [8, 8, 4]
    calls.clear()
    assert results(jobs, width=1) == expected
    assert len(calls) == 10


def test_different_functions_are_called_apart_and_slots_are_not_shared():
    calls, others, busy = [], [], set()
    first, second = doubled(calls), doubled(others)

    def work(slot, k):
        assert slot not in busy
        busy.add(slot)
        found = ask(first if k % 2 else second, [k])
        busy.remove(slot)
        return found[0]

    jobs = [Job(lambda slot, k=k: work(slot, k), 0) for k in range(7)]
    assert results(jobs, width=3) == [0, 2, 4, 6, 8, 10, 12]
    assert sorted(item for call in calls for item in call) == [1, 3, 5]
    assert sorted(item for call in others for item in call) == [0, 2, 4, 6]


def test_draws_belong_to_the_piece_and_leave_the_caller_alone():
    def draw():
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    def answers(items):
        draw()  # a victim that draws, too
        return items

    def work():
        found = []
        for _ in range(3):
            found.append(draw())
            ask(answers, [0])
        return found

    jobs = [Job(lambda _: work(), seed) for seed in range(5)]
    random.seed(1)
    before = random.getstate(), torch.get_rng_state().tolist()
    expected = [results([job], width=1)[0] for job in jobs]
    assert random.getstate() != before[0]  # the victim drew from the generator of the caller
    assert results(jobs) == expected
    assert results(jobs[::-1], width=2) == expected[::-1]
    assert len({tuple(map(tuple, found)) for found in expected}) == 5
    random.seed(1)
    torch.set_rng_state(torch.tensor(before[1], dtype=torch.uint8))
    results([Job(lambda _: draw(), 3)])
    assert (random.getstate(), torch.get_rng_state().tolist()) == before


def test_endless_work_is_ended_and_the_others_go_on():
    def endless():
        while True:
            pass

    def slow():
        while True:
            ask(lambda items: time.sleep(0.02) or items, [1])

    jobs = [Job(lambda _: endless(), 0), Job(lambda _: 7, 0), Job(lambda _: slow(), 0)]
    found = {}
    run(jobs, lambda i, ended: found.update({i: ended}), width=3, max_seconds=0.1)
    assert isinstance(found[0].result, OutOfTime)
    assert found[1] == Ended(7, found[1].seconds)
    assert isinstance(found[2].result, OutOfTime)
    assert found[1].seconds < 0.1 <= found[0].seconds < 2.0


def test_shared_seconds_are_shared():
    def answers(items):
        time.sleep(0.05)
        return items

    found = {}
    jobs = [Job(lambda _, n=n: ask(answers, [0] * n), 0) for n in (1, 4)]
    run(jobs, lambda i, ended: found.update({i: ended}), width=2)
    assert 0.009 <= found[0].seconds < 0.04 <= found[1].seconds


@pytest.mark.parametrize("place", ["work", "answers", "handler"])
def test_errors_end_all_pieces(place):
    def answers(items):
        if place == "answers":
            raise ModelError("out of order")
        return items

    def work(k):
        for i in range(3):
            ask(answers, [i])
            if place == "work" and k == 2 and i == 1:
                raise ModelError("out of order")

    def on_done(position, ended):
        if place == "handler":
            raise ModelError("out of order")

    before = threading.active_count()
    with pytest.raises(ModelError, match="out of order"):
        run([Job(lambda _, k=k: work(k), 0) for k in range(6)], on_done, width=3)
    assert threading.active_count() == before


def test_interruptions_are_results():
    class Enough(Interruption):
        pass

    def work():
        try:
            raise Enough
        except Exception:  # what libraries write
            return "went on"

    (found,) = results([Job(lambda _: work(), 0)])
    assert isinstance(found, Enough)


def test_alone_a_question_is_answered_at_once():
    assert ask(doubled([]), [1, 2]) == [2, 4]


def test_answers_must_be_as_many_as_questions():
    with pytest.raises(ValueError, match="expected 2 answers; got 1"):
        results([Job(lambda _: ask(lambda items: items[:1], [1, 2]), 0)])
