"""How many texts a budget allows."""

from __future__ import annotations

import itertools

import pytest

from robust_nlp.compare.sizes import FILE, PROBED, Sizes, share_out


def spent(costs, texts):
    return sum(costs[stage] * n for stage, n in texts.items())


@pytest.mark.parametrize(
    ("seconds", "costs", "most", "texts"),
    [
        # equal shares of the time, not of the texts
        (120.0, {"score": 1.0, "certify": 3.0}, {"score": 99, "certify": 99}, [60, 20]),
        # what scores do not need goes to the others
        (
            120.0,
            {"score": 1.0, "certify": 5.0, "attack": 2.0},
            {"score": 10, "certify": 99, "attack": 99},
            [10, 11, 27],
        ),
        # enough for everything
        (1e6, {"score": 1.0, "certify": 3.0}, {"score": 7, "certify": 9}, [7, 9]),
        # never less than was tried out, nor more than there is
        (0.01, {"score": 1.0, "certify": 3.0}, {"score": 99, "certify": 3}, [PROBED, 3]),
        # what costs nothing is measured whole
        (60.0, {"score": 0.0, "certify": 3.0}, {"score": 99, "certify": 99}, [99, 20]),
    ],
)
def test_stages_share_the_time(seconds, costs, most, texts):
    assert list(share_out(seconds, costs, most).values()) == texts


def test_the_time_is_kept_and_no_stage_could_have_more():
    grid = itertools.product([60.0, 200.0, 5000.0], [0.1, 1.0, 4.0], [0.5, 2.0], [5, 40], [8, 300])
    for seconds, score, certify, few, many in grid:
        costs, most = {"score": score, "certify": certify}, {"score": few, "certify": many}
        texts = share_out(seconds, costs, most)
        whole = all(texts[stage] == most[stage] for stage in most)
        least = all(texts[stage] <= PROBED for stage in most)
        assert spent(costs, texts) <= seconds or least
        # Of a stage that could take more texts, one more would exceed the time or its share.
        for stage in most:
            if texts[stage] < most[stage] and not whole:
                more = costs[stage] * (texts[stage] + 1)
                assert more > seconds / 2


def test_methods_that_were_not_tried_out_count_as_the_mean():
    sizes = Sizes(budget=1.0, most={"score": 99, "certify": 99})
    sizes.probes = {
        "none": {"score": {"texts": 4, "seconds": 2.0}},
        "deletion": {
            "score": {"texts": 4, "seconds": 6.0},
            "certify": {"texts": 2, "seconds": 4.0},
        },
    }
    methods = {"score": ["none", "deletion", "other"], "certify": ["deletion", "other"]}
    sizes.choose(methods, processes=1)
    # A score costs (0.5 + 1.5) / 2 * 3 = 3 seconds, a certificate 2 * 2 = 4, of 30 each.
    assert sizes.texts == {"score": 10, "certify": 7}
    assert sizes.minutes == pytest.approx((10 * 3 + 7 * 4) / 60)
    sizes.choose(methods, processes=2)
    assert sizes.texts == {"score": 20, "certify": 15}


def test_sizes_are_kept_for_the_same_question_only(tmp_path):
    most = {"score": 50, "certify": 40}
    probes = {"none": {"score": {"texts": 4, "seconds": 2.0}}}
    kept = Sizes(budget=3.0, most=most, texts={"score": 9, "certify": 4}, probes=probes)
    kept.minutes = 2.5
    kept.save(tmp_path)
    assert (tmp_path / FILE).is_file()
    assert Sizes.load(tmp_path, 3.0, most) == kept
    for budget, other in ((4.0, most), (None, most), (3.0, {**most, "certify": 41})):
        again = Sizes.load(tmp_path, budget, other)
        assert (again.texts, again.minutes, again.probes) == ({}, None, probes)
    assert Sizes.load(tmp_path / "elsewhere", 3.0, most).probes == {}


def test_without_a_budget_all_is_measured():
    sizes = Sizes(budget=None, most={"score": 50, "certify": 40})
    sizes.choose({"score": ["none"], "certify": []}, processes=1)
    assert (sizes.texts, sizes.minutes) == ({"score": 50, "certify": 40}, None)
