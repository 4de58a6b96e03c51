"""Pictures of a comparison against counts by hand, which likely wrong ones do not pass."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from compare_reviews import CERTIFIED, SCORED, TRIED
from hypothesis import given
from hypothesis.strategies import lists, sampled_from
from test_compare_page import facts, made, with_attacks  # noqa: F401

from robust_nlp.attacks.rows import AttackRow
from robust_nlp.compare.charts import (
    SMALL_HEIGHT,
    SMALL_WIDTH,
    certified_chart,
    deletion_chart,
    length_chart,
    sandwich_chart,
)
from robust_nlp.compare.cost_chart import cost_chart
from robust_nlp.compare.domain_chart import domain_chart
from robust_nlp.compare.facts import main_threats
from robust_nlp.compare.highlights import highlights
from robust_nlp.compare.lengths import length_facts
from robust_nlp.compare.sandwich import _shares, broken_at, countable, sandwiches
from robust_nlp.compare.texts import text_facts
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from robust_nlp.reporting.differences import LEFT_OUT, word_difference
from robust_nlp.scoring.store import ScoreStore
from robust_nlp.threats import ThreatModel, parse_attacker

ALL = "insert+delete+substitute"

#: Edits by which the finds of `TRIED` break a text, by attacker: swapped words are no insertions.
EDITS = {
    ALL: [1, 0, math.inf, 2, math.inf, math.inf],
    "substitute": [1, 0, math.inf, math.inf, math.inf, math.inf],
    "insert": [math.inf, 0, math.inf, 2, math.inf, math.inf],
    "delete": [math.inf, 0, math.inf, math.inf, math.inf, math.inf],
}


@pytest.fixture(scope="module")
def pictures(made) -> Any:  # noqa: F811
    return sandwiches(with_attacks(made[0]))


@pytest.mark.parametrize("threat", EDITS)
def test_sandwiches_count_what_is_proved_and_broken(made, pictures, threat):  # noqa: F811
    picture = pictures[threat]
    radii = picture["radii"]
    methods = {method.name: method for method in made[0].methods}
    assert [row["method"] for row in picture["methods"]] == list(methods)
    for row in picture["methods"]:
        assert row["texts"] == len(TRIED)
        assert row["counted"] is True
        assert row["doubts"] == sum(how in ("abstains", "uncertain") for how, *_ in TRIED)
        left = [sum(edits > r for edits in EDITS[threat]) / len(TRIED) for r in radii]
        assert row["unbroken"] == left
        report = methods[row["method"]].report
        if report is None or threat not in report.texts[0].certificates:
            assert row["certified"] is None
            assert row["inside"] == []
            continue
        texts = report.texts[: len(TRIED)]
        for r, share in zip(radii, row["certified"], strict=True):
            assert share == sum(text.survives(threat, r) for text in texts) / len(TRIED)
        assert row["inside"] == [
            text.example_id
            for text, edits in zip(texts, EDITS[threat], strict=True)
            if math.isfinite(edits) and text.survives(threat, int(edits))
        ]
    proved = [row["certified"] for row in picture["methods"] if row["certified"] is not None]
    assert radii == list(range(len(radii)))
    assert all(curve[-1] == 0.0 for curve in proved)


def test_an_upper_line_is_never_below_the_lower_one_but_for_contradictions(pictures):
    for picture in pictures.values():
        for row in picture["methods"]:
            if row["certified"] is not None and not row["inside"]:
                pairs = zip(row["certified"], row["unbroken"], strict=True)
                assert all(low <= high for low, high in pairs)


def test_texts_that_are_broken_at_their_radius_are_broken_inside_it():
    reached = {5: (1, 1.0), 4: (1, 2.0), 3: (-1, 0.0), 2: (0, 0.0), 1: (0, math.inf)}
    shares = _shares(reached, [0, 1])
    assert shares["inside"] == [2, 5]
    assert shares["certified"] == [0.8, 0.4]
    assert shares["unbroken"] == [0.6, 0.4]
    assert shares["beyond"] == 1


def test_edits_that_cannot_be_counted_break_nothing():
    row = AttackRow(
        attack="a",
        example_id=0,
        label=0,
        outcome="success",
        text="a b",
        clean_predicted=0,
        found="a c",
        found_predicted=1,
    )
    again = ThreatModel(attacker=parse_attacker("substitute"))
    letters = ThreatModel(unit="character")
    other = AttackRow(**{**row.__dict__, "found": "a bcde", "attack": "b"})
    assert broken_at([row], None, "second") == {0: math.inf}
    assert broken_at([row, other], again, "second") == {0: 1.0}
    assert broken_at([other], letters, "second") == {0: 3.0}
    pair = AttackRow(**{**row.__dict__, "text": "kept", "pair": "a b"})
    assert broken_at([pair], again, "first") == {0: 1.0}
    assert broken_at([pair], again, "second") == {0: math.inf}


def test_edits_of_tokens_need_the_classifier(made):  # noqa: F811
    method = next(m for m in made[0].methods if m.name == "deletion")
    swaps = ThreatModel(attacker=parse_attacker("substitute"), substitutes=lambda _: ())
    assert countable(method, ThreatModel())
    assert countable(method, ThreatModel(unit="character"))
    assert countable(method, swaps)
    assert not countable(method, ThreatModel(unit="token"))
    # Which swaps of Gaussian noise keep the number of tokens, only the tokenizer knows.
    gaussian = object.__new__(GaussianEmbedding)
    recipe = copy.copy(method.run.recipe)
    object.__setattr__(recipe, "mechanism", gaussian)
    run = dataclasses.replace(method.run, recipe=recipe)
    assert not countable(dataclasses.replace(method, run=run), swaps)


def places(path: str) -> list[tuple[float, float]]:
    """Corners of an SVG path."""
    return [
        (float(x), float(y))
        for corner in path.removeprefix("M").removesuffix(" Z").split(" L")
        for x, y in [corner.split(",")]
    ]


def height(share: float, of: float = HEIGHT) -> float:
    return round(of - BOTTOM + (TOP - of + BOTTOM) * share, 2)


def across(share: float, of: float = WIDTH) -> float:
    return round(LEFT + (of - RIGHT - LEFT) * share, 2)


def test_sandwiches_are_drawn_as_steps_with_the_unknown_between(facts):  # noqa: F811
    picture = {"radii": [0, 1, 2]}
    row = {"method": "m", "certified": [0.5, 0.25, 0.0], "unbroken": [1.0, 0.75, 0.5]}
    chart = sandwich_chart(picture, row, "n", threat="delete", unit="word")
    upper, lower = chart.series

    def up(share):
        return height(share, SMALL_HEIGHT)

    def to(share):
        return across(share, SMALL_WIDTH)

    ends = [to(0.0), to(0.5), to(0.5), to(1.0), to(1.0)]
    assert [p[0] for p in places(lower.line)[:5]] == ends
    heights = [up(v) for v in (0.5, 0.5, 0.25, 0.25, 0.0)]
    assert [p[1] for p in places(lower.line)[:5]] == heights
    assert [p[1] for p in places(upper.line)[:3]] == [up(v) for v in (1.0, 1.0, 0.75)]
    assert upper.points == [
        (to(r / 2), up(v)) for r, v in zip((0, 1, 2), row["unbroken"], strict=True)
    ]
    assert places(upper.band) == [*places(upper.line), *reversed(places(lower.line))]
    assert upper.style != lower.style
    assert "50.0 % to 100.0 % at radius 0" in chart.description
    unproved = sandwich_chart(picture, {**row, "certified": None}, "n", threat="t", unit="word")
    assert [series.name for series in unproved.series] == [upper.name]
    assert min(y for _, y in places(unproved.series[0].line)) == up(1.0)
    assert max(y for _, y in places(unproved.series[0].band)) == up(0.0)


def test_methods_keep_their_style_in_all_pictures(facts):  # noqa: F811
    order = [method["method"] for method in facts["methods"]]
    drawn = [
        certified_chart(facts, "substitute", "a"),
        deletion_chart(facts, facts["perturbations"][0], "b"),
        length_chart(
            facts, {m["method"]: m["clean"] for m in facts["lengths"]["methods"]}, "c", title="t"
        ),
    ]
    for chart in drawn:
        assert chart is not None
        assert chart.series
        for series in chart.series:
            assert series.style == order.index(series.name)
    # `none` certifies nothing, so that styles are not just counted.
    assert [series.style for series in drawn[0].series] == [1, 2]
    for front in facts["fronts"]:
        for place in cost_chart(facts, front, "d").places:
            assert place.style == order.index(place.method)


def test_deletion_curves_begin_at_the_clean_accuracy(facts):  # noqa: F811
    name = facts["perturbations"][1]
    chart = deletion_chart(facts, name, "n")
    for series, method in zip(chart.series, facts["methods"], strict=True):
        score = next(s for s in method["scores"] if s["perturbation"] == name)
        values = [method["clean_accuracy"], *(p["accuracy"] for p in score["points"])]
        assert [y for _, y in series.points] == [height(v["value"]) for v in values]
        rates = [0.0, *(p["rate"] for p in score["points"])]
        assert [x for x, _ in series.points] == [across(r / rates[-1]) for r in rates]
        assert series.band == ""


def front_of(*points: tuple[str, float, float], front: list[str]) -> dict[str, Any]:
    found = [{"method": m, "robustness": r, "cost": c} for m, r, c in points]
    return {
        "kind": "attacked",
        "threat": None,
        "radius": None,
        "perturbation": None,
        "points": found,
        "front": front,
        "dominated": {},
    }


def test_the_front_is_a_staircase_and_equal_factors_are_equal_distances():
    methods = [{"method": name} for name in "abcd"]
    front = front_of(
        ("a", 0.2, 0.001), ("b", 0.6, 0.01), ("c", 0.9, 0.1), ("d", 0.1, 0.1), front=["a", "b", "c"]
    )
    chart = cost_chart({"methods": methods}, front, "n")
    a, b, c, d = chart.places
    assert b.x - a.x == pytest.approx(c.x - b.x, abs=0.02)
    assert (c.x, d.on_front, a.on_front) == (d.x, False, True)
    assert [place.y for place in chart.places] == [height(v) for v in (0.2, 0.6, 0.9, 0.1)]
    end = WIDTH - RIGHT
    stairs = [(a.x, a.y), (b.x, a.y), (b.x, b.y), (c.x, b.y), (c.x, c.y), (end, c.y)]
    assert places(chart.front) == stairs
    for x, label in chart.axes.x_ticks:
        # From the positions of two points the label of any tick follows.
        seconds = 0.001 * 10 ** ((x - a.x) / (b.x - a.x))
        assert float(label) == pytest.approx(1000 * seconds, rel=0.01)
    assert len(chart.axes.x_ticks) >= 3
    assert "c: 90.0 %, 100 ms, on the Pareto front" in chart.axes.description
    assert "d: 10.0 %, 100 ms" in chart.axes.description


def test_names_of_the_front_cover_nothing_and_are_left_out_without_room():
    names = ["a_long_name", "another_name", "a_third_name", "off_the_front"]
    points = [(name, 0.5 + 0.02 * k, 0.01 * 1.3**k) for k, name in enumerate(names[:3])]
    facts = {"methods": [{"method": name} for name in names]}  # noqa: F811
    front = front_of(*points, (names[3], 0.1, 0.1), front=names[:3])
    chart = cost_chart(facts, front, "n")
    assert chart.places[3].name is None
    boxes = []
    for place in chart.places:
        if place.name is None:
            continue
        width = 6.0 * len(place.method)
        left = place.name.x - {"start": 0.0, "middle": width / 2, "end": width}[place.name.anchor]
        boxes.append((left, left + width, place.name.y - 10, place.name.y))
        assert left > 0.0
        assert left + width <= WIDTH
        assert all(
            not left <= p.x <= left + width or not -10 <= p.y - place.name.y <= 0
            for p in chart.places
        )
    assert len(boxes) >= 2
    for k, (l1, r1, t1, b1) in enumerate(boxes):
        for l2, r2, t2, b2 in boxes[:k]:
            assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1
    crowd = [(f"crowded_{k}", 0.5 + 0.001 * k, 0.01 * 1.001**k) for k in range(9)]
    facts = {"methods": [{"method": name} for name, *_ in crowd]}
    chart = cost_chart(facts, front_of(*crowd, front=[name for name, *_ in crowd]), "n")
    assert 1 <= sum(place.name is not None for place in chart.places) < 9


def test_bars_end_at_the_accuracy_of_the_domain(facts):  # noqa: F811
    chart = domain_chart(facts)
    assert chart is not None
    length = WIDTH - RIGHT - chart.start
    for group in chart.groups:
        for bar, method in zip(group.bars, facts["methods"], strict=True):
            found = next(d for d in method["domains"] if d["domain"] == group.domain)
            for at, what in ((bar.end, "value"), (bar.low, "low"), (bar.high, "high")):
                expected = chart.start + length * found["accuracy"][what]
                assert at == pytest.approx(expected, abs=0.01)
            assert bar.worst == (method["worst_domain"]["domain"] == group.domain)
    tops = [bar.y for group in chart.groups for bar in group.bars]
    assert tops == sorted(set(tops))
    assert chart.bottom >= tops[-1] + chart.bar
    fewer = copy.deepcopy(facts)
    for method in fewer["methods"]:
        method["domains"] = []
    assert domain_chart(fewer) is None


def test_length_classes_are_shared_and_count_every_text(made, facts):  # noqa: F811
    lengths = facts["lengths"]
    comparison = with_attacks(made[0])
    words = [len(text.split()) for text in comparison.split.texts]
    spans = [(c["shortest"], c["longest"]) for c in lengths["classes"]]
    assert len(spans) >= 2
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))

    def member(low, high, n):
        return [i for i in range(n) if low <= words[i] <= high]

    for method, row in zip(comparison.methods, lengths["methods"], strict=True):
        assert method.measured is not None
        right = method.measured.clean.right[:, 0]
        for (low, high), cell in zip(spans, row["clean"], strict=True):
            ids = member(low, high, SCORED)
            assert cell["texts"] == len(ids)
            assert cell["accuracy"]["value"] == pytest.approx(np.mean([right[i] for i in ids]))
        standing = [i for i, each in enumerate(TRIED) if each[0] == "failed"]
        for (low, high), cell in zip(spans, row["attacked"], strict=True):
            ids = member(low, high, len(TRIED))
            assert cell["texts"] == len(ids)
            if ids:
                share = len(set(ids) & set(standing)) / len(ids)
                assert cell["accuracy"]["value"] == pytest.approx(share)
        assert list(row["certified"]) == (
            [] if method.report is None else list(method.report.texts[0].certificates)
        )
        for threat, cells in row["certified"].items():
            assert method.report is not None
            for (low, high), cell in zip(spans, cells, strict=True):
                ids = member(low, high, CERTIFIED)
                proved = [method.report.texts[i].survives(threat, 1) for i in ids]
                assert cell["texts"] == len(ids)
                if ids:
                    assert cell["accuracy"]["value"] == pytest.approx(np.mean(proved))
    assert length_facts(comparison, radius=0)["methods"] != lengths["methods"]


def test_fragile_texts_come_before_stable_ones_and_none_is_both(made):  # noqa: F811
    comparison = with_attacks(made[0])
    found = text_facts(comparison)
    assert found["texts"] == len(TRIED)
    fragile, stable = ([each["example_id"] for each in found[k]] for k in ("fragile", "stable"))
    assert not set(fragile) & set(stable)
    won = {i: swapped + added for i, (how, swapped, added) in enumerate(TRIED) if how == "success"}
    right: dict[int, list[bool]] = {}
    for i in range(len(TRIED)):
        right[i] = [
            next(
                row["right"]
                for row in ScoreStore(method.run.path).rows()
                if row["example_id"] == i and row["perturbation"] == "clean"
            )
            for method in comparison.methods
        ]
    broken = [i for i in sorted(won, key=lambda i: won[i]) if any(right[i])]
    assert fragile[: len(broken)] == broken
    assert all(any(right[i]) for i in fragile)
    assert all(all(right[i]) and i not in won for i in stable)
    for each in found["fragile"]:
        for fate in each["methods"]:
            if each["example_id"] in won:
                assert fate["version"]["confirmed"] is True
                assert fate["version"]["edits"] == won[each["example_id"]]


def test_labels_are_those_of_the_classifiers(made):  # noqa: F811
    """A split that was read alone may have its classes in another order."""
    comparison = made[0]
    split = comparison.split
    assert split.labels is not None
    turned = dataclasses.replace(split, labels=[1 - label for label in split.labels])
    found = text_facts(dataclasses.replace(comparison, split=turned))
    assert found == text_facts(comparison)
    names = {i: split.label_names[label] for i, label in enumerate(split.labels)}
    shown = [*found["fragile"], *found["stable"]]
    assert [each["label"] for each in shown] == [names[each["example_id"]] for each in shown]
    assert shown


def test_of_wrongly_answered_versions_the_one_with_the_fewest_edits_is_shown(made, monkeypatch):  # noqa: F811
    def rows(store):
        return [
            {
                "example_id": i,
                "perturbation": "delete_words[random]",
                "predicted": predicted,
                "label": 0,
                "edits": edits,
                "text": f"{edits} edits",
            }
            for i in range(SCORED)
            for edits, predicted in ((4, 1), (1, 0), (2, 1), (1, None), (0, 1), (3, 1))
        ]

    monkeypatch.setattr(ScoreStore, "rows", rows)
    found = text_facts(made[0])
    fates = [fate for k in ("fragile", "stable") for each in found[k] for fate in each["methods"]]
    assert {fate["right"] for fate in fates} == {True, False}
    for fate in fates:
        version = fate["version"]
        assert (None if version is None else version["text"]) == (
            "2 edits" if fate["right"] else None
        )


def test_the_best_methods_are_named(facts):  # noqa: F811
    found = {each.what: each for each in highlights(facts)}
    clean = {m["method"]: m["clean_accuracy"]["value"] for m in facts["methods"]}
    best = found["best clean accuracy"]
    assert set(best.methods) == {m for m, v in clean.items() if v == max(clean.values())}
    assert best.value == f"{100 * max(clean.values()):.1f} %"
    times = {m["method"]: m["cost"]["answer"]["seconds"] for m in facts["methods"]}
    assert found["quickest answer"].methods == [min(times, key=lambda name: times[name])]
    assert main_threats(facts["methods"]) == [ALL, "substitute"]
    shares = {
        m["method"]: next(p["share"] for p in curve["curve"] if p["radius"] == 1)
        for m in facts["methods"]
        if (curve := (m["certified"] or {}).get("substitute"))
    }
    most = found["most certified at 1 edit (substitute)"]
    assert set(most.methods) == {m for m, v in shares.items() if v == max(shares.values())}


@given(*(lists(sampled_from("abcd"), max_size=12) for _ in range(2)))
def test_differences_hold_both_texts_in_as_few_changes_as_possible(before, after):
    pieces = word_difference(" ".join(before), " ".join(after), around=None)
    for other, text in (("new", before), ("gone", after)):
        words = [word for piece in pieces if piece.kind != other for word in piece.text.split()]
        assert words == text
    kept = sum(len(piece.text.split()) for piece in pieces if piece.kind == "same")
    changes = 0
    for k, piece in enumerate(pieces):
        if piece.kind == "gone":
            follows = pieces[k + 1 : k + 2]
            new = len(follows[0].text.split()) if follows and follows[0].kind == "new" else 0
            changes += max(len(piece.text.split()), new)
        elif piece.kind == "new" and (k == 0 or pieces[k - 1].kind != "gone"):
            changes += len(piece.text.split())
    assert changes == edit_distance(before, after)
    assert kept <= min(len(before), len(after))


def edit_distance(before: list[str], after: list[str]) -> int:
    row = list(range(len(after) + 1))
    for i, old in enumerate(before, start=1):
        diagonal, row[0] = row[0], i
        for j, new in enumerate(after, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (old != new))
    return row[-1]


def test_words_far_from_a_change_are_left_out():
    words = [f"w{k}" for k in range(40)]
    changed = [*words[:20], "odd", *words[21:]]
    pieces = word_difference(" ".join(words), " ".join(changed), around=3)
    assert [(piece.kind, piece.text) for piece in pieces] == [
        ("same", f"{LEFT_OUT} w17 w18 w19"),
        ("gone", "w20"),
        ("new", "odd"),
        ("same", f"w21 w22 w23 {LEFT_OUT}"),
    ]
    twice = [*changed[:35], "odd", *changed[36:]]
    middle = word_difference(" ".join(words), " ".join(twice), around=3)[3]
    assert middle.text == f"w21 w22 w23 {LEFT_OUT} w32 w33 w34"
