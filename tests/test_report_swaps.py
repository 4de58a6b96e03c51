"""Reports of mechanisms whose substitutes are limited, and of what certificates prove besides."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, norm
from test_report import ALPHA, VOTES, hand_made, make_run, page_of, report_of, row

from robust_nlp.mechanisms import (
    AdaptiveDeletion,
    BagDeletion,
    CombinedNoise,
    ExponentialSubstitution,
    GaussianEmbedding,
    RandomizedDeletion,
    RandomMasking,
    Reordering,
    SynonymSmoothing,
)
from robust_nlp.mechanisms.base import TextMechanism
from robust_nlp.report import write_report
from robust_nlp.reporting.words import describe_dead_zone
from robust_nlp.results import RunDirectory

#: A file that is not there: reports need profiles, and no swaps.
SWAPS = "nowhere/neighbours.json"
SYNONYMS = SynonymSmoothing(swaps=SWAPS)
GAUSSIAN = GaussianEmbedding(sigma=0.5, swaps=SWAPS)

#: Lower bound of the probability if all votes agree.
P = beta.ppf(ALPHA, VOTES, 1)

#: Votes for class 1, label, and for each word the distances of its swaps. All words of the first
#: can be swapped, one word of the second is too far; then one with nothing to swap that is right,
#: one that is wrong, one that is doubtful; and the empty text.
NEAR, FAR = 0.1, 9.0
TEXTS = [(400, 1, [NEAR, None, NEAR, NEAR]), (400, 1, [NEAR, FAR]), (400, 1, [None] * 5)]
TEXTS += [(400, 0, [None] * 3), (200, 1, [None] * 2), (400, 1, [])]


def swap_rows(encoded) -> list[dict]:
    """Rows with profiles, whose entries stand for a distance."""
    return [
        row(i, ones, len(words), label)
        | {"profile": [[] if word is None else encoded(word) for word in words]}
        for i, (ones, label, words) in enumerate(TEXTS)
    ]


def as_distances(distance: float) -> list[float]:
    return [distance]


def as_shares(distance: float) -> list[float]:
    """Near words share nearly all of their sets, far words nothing."""
    share = 0.95 if distance == NEAR else 0.0
    return [share, share]


def as_levels(distance: float) -> list[float]:
    """Clean masses, then attacked masses."""
    near = distance == NEAR
    return [0.5, 0.5, 0.49, 0.51] if near else [1.0, 0.0, 0.0, 1.0]


CASES = {
    "synonyms": (SYNONYMS, as_shares),
    "exponential": (ExponentialSubstitution(swaps=SWAPS, epsilon=1.0), as_levels),
    "gaussian": (GAUSSIAN, as_distances),
}


@pytest.fixture(params=CASES)
def swap_run(request, tmp_path):
    mechanism, encoded = CASES[request.param]
    return make_run(tmp_path, swap_rows(encoded), mechanism=mechanism, attackers=("substitute",))


def test_texts_with_nothing_to_swap_are_counted_apart(swap_run):
    report = report_of(swap_run)
    counts = report["counts"]
    assert counts["vacuous"] == 3
    assert counts["dead_zone"] == 1
    assert counts["all_swaps"] == 1
    assert counts["swappable"] == pytest.approx(5 / 6)
    found = {outcome["name"]: outcome["count"] for outcome in report["outcomes"]}
    assert found == {
        "right, radius 1 or more": 1,
        "right, radius 0": 1,
        "right, nothing to swap": 1,
        "wrong": 1,
        "abstention": 1,
        "dead zone": 1,
    }


def test_they_are_left_out_where_a_report_says_so(swap_run):
    report = report_of(swap_run)
    at_one = report["attackers"][0]["curve"][1]
    assert at_one["count"] == 2  # one of which is about nothing
    assert at_one["share_with_swaps"] == 1 / 2
    assert at_one["share_without_dead_zone"] == 2 / 5
    quoted = report["most_stable"] + report["most_fragile"]
    assert {text["example_id"] for text in quoted} == {0, 1}
    assert [text["swappable"] for text in quoted] == [3, 2]
    lengths = {row["shortest"]: row for row in report["lengths"]}
    assert lengths[5]["ceiling"] is None
    assert lengths[4]["ceiling"] == lengths[4]["median"] == 4


def test_the_summary_says_what_the_attacker_may_write_and_what_is_about_nothing(swap_run):
    summary = " ".join(report_of(swap_run)["summary"])
    assert "under any 4 word edits (substitutions by allowed substitutes)" in summary
    assert (
        "Caution: 3 (50.0 %) have no word with a substitute that is covered: there is nothing to "
        "swap, and the radius says nothing; without them, certified accuracy at 4 word edits is "
        "50.0 %."
    ) in summary
    assert (
        "However many words are replaced by allowed substitutes, 1 (16.7 %) provably keeps a "
        "right answer, texts with nothing to swap not counted. On average a text has 0.8 words "
        "that can be replaced."
    ) in summary


def test_terminal_and_page_say_so_too(swap_run):
    terminal = write_report(swap_run)
    assert "by allowed\n" in terminal
    page = (swap_run / "report.html").read_text(encoding="utf-8")
    for said in (
        "against substitutions by allowed substitutes",
        "substitute, by allowed substitutes only",
        "One edit replaces one word by one of its allowed substitutes",
        "substitutes that are not among the allowed ones",
        "With something to swap",
        "right, nothing to swap: 1 (16.7 %)",
        "Only the empty text is in the dead zone",
        "4 words, 3 of them with substitutes",
    ):
        assert said in page, said


def test_a_run_in_which_nothing_can_be_swapped(tmp_path):
    rows = [row(i, 400, 3, 1) | {"profile": [[], [], []]} for i in range(4)]
    report = report_of(make_run(tmp_path, rows, mechanism=SYNONYMS, attackers=("substitute",)))
    assert report["counts"]["vacuous"] == 4
    assert report["attackers"][0]["curve"][0]["share_with_swaps"] is None
    assert report["most_stable"] == report["details"] == []
    assert "says nothing." in " ".join(report["summary"])


def test_other_mechanisms_have_no_swaps_to_speak_of(tmp_path):
    run = make_run(tmp_path, hand_made())
    report, page = report_of(run), page_of(run)
    assert (report["counts"]["vacuous"], report["counts"]["all_swaps"]) == (0, None)
    shown = page.split("</style>")[1].split("<h3>Made with</h3>")[0]
    assert "swap" not in " ".join(report["summary"]) + shown
    assert "One edit inserts, deletes or substitutes one word" in page


def test_details_are_quartiles_of_right_answers_that_say_something(tmp_path):
    rows = [
        row(i, ones, 2, label) | {"profile": [[NEAR], [0.2, NEAR]]}
        for i, (ones, label) in enumerate([(400, 1), (390, 1), (380, 1), (370, 1), (400, 0)])
    ]
    rows.append(row(5, 400, 1, 1) | {"profile": [[]]})
    run = make_run(tmp_path, rows, mechanism=GAUSSIAN, attackers=("substitute",))
    l2, texts = report_of(run)["details"]
    radii = [0.5 * norm.ppf(beta.ppf(ALPHA, ones, VOTES - ones + 1)) for ones in (400, 390, 380)]
    radii.append(0.5 * norm.ppf(beta.ppf(ALPHA, 370, 31)))
    assert l2["name"] == "l2_radius"
    assert l2["texts"] == 4
    assert l2["largest"] == pytest.approx(radii[0])
    assert l2["lower_quartile"] == pytest.approx(radii[3])
    assert l2["median"] == pytest.approx(radii[2])
    assert texts["largest"] == pytest.approx(np.log10(6))
    terminal = write_report(run)
    assert f"{l2['meaning']}: median {radii[2]:.3g}, quartiles" in " ".join(terminal.split())
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"<td>4</td><td>{radii[3]:.3g}</td>" in page
    assert f"{l2['meaning']} {radii[0]:.3g}" in page  # beside the most stable text


def test_exponential_substitution_shows_its_metric_radius(tmp_path):
    mechanism, encoded = CASES["exponential"]
    run = make_run(tmp_path, swap_rows(encoded), mechanism=mechanism, attackers=("substitute",))
    (detail,) = report_of(run)["details"]
    assert detail["largest"] == pytest.approx(mechanism.metric_radius(P, 1.0 - P))


def test_files_that_a_mechanism_read_are_named_with_their_content(tmp_path):
    run = make_run(tmp_path, swap_rows(as_shares), mechanism=SYNONYMS, attackers=("substitute",))
    content = {"source": SWAPS, "words": 7, "content_hash": "0123abcd"}
    RunDirectory(run).update_manifest(swaps=content)
    assert report_of(run)["methods"]["read"] == {"swaps": content}
    assert f"source {SWAPS}, words 7, content_hash 0123abcd" in page_of(run)


def test_a_dictionary_of_ones_own_is_not_printed_to_its_end(tmp_path):
    own = {f"a{chr(97 + i)}": ["b"] for i in range(25)}
    mechanism = SynonymSmoothing(swaps=own)
    run = make_run(tmp_path, swap_rows(as_shares), mechanism=mechanism, attackers=("substitute",))
    page = page_of(run)
    assert "ar b, as b, at b, … (25 in all)" in page


@pytest.mark.parametrize(
    "mechanism",
    [
        RandomizedDeletion(p_del=0.9),
        BagDeletion(p_del=0.9),
        CombinedNoise(p_del=0.85, p_mask=0.05, mask="_"),
    ],
    ids=lambda mechanism: mechanism.kind,
)
def test_safe_mixes_are_shown_wherever_certificates_tell_them_apart(tmp_path, mechanism):
    attacker = mechanism.shown[0]
    run = make_run(tmp_path, hand_made(), mechanism=mechanism, attackers=(attacker,))
    stable, middling = report_of(run)["frontiers"]
    assert stable["mixes"]
    if isinstance(mechanism, CombinedNoise):
        for mix in stable["mixes"]:
            assert mechanism.safe(P, 1.0 - P, n_units=stable["n_units"], **mix)
    terminal = " ".join(write_report(run).split())
    assert (
        f"Safe mixes of edits in a middling text ({middling['n_units']} words, radius "
        f"{middling['radius']}): "
    ) in terminal
    first = {move: number for move, number in middling["mixes"][0].items() if number}
    said = terminal.split("Safe mixes")[1].split(": ")[1].split(";")[0]
    assert [int(part.split()[0]) for part in said.split(" + ")] == list(first.values())


def test_a_mechanism_of_ones_own_needs_to_say_nothing_besides(tmp_path):
    run = make_run(
        tmp_path, hand_made(), mechanism=RandomMasking(p_mask=0.9), attackers=("substitute",)
    )
    report = report_of(run)
    assert report["frontiers"] == report["details"] == []
    assert "Proved besides" not in write_report(run)
    assert TextMechanism.detail_names == {}


@pytest.mark.parametrize(
    ("mechanism", "said"),
    [
        (RandomizedDeletion(p_del=0.9), "Texts of at most 6 words"),
        (RandomizedDeletion(p_del=0.6), "Texts of at most 1 word are"),
        (BagDeletion(p_del=0.95, unit="token"), "Texts of at most 13 tokens"),
        (RandomizedDeletion(p_del=0.9999), "Texts of some numbers of words"),
        (AdaptiveDeletion(keeps=(0.5,)), "Texts of some numbers of words"),
        (RandomMasking(p_mask=0.9), "Only the empty text"),
        (RandomMasking(p_mask=0.9, min_kept=0), "Texts of at most 5 words"),
        (Reordering(), "Only the empty text"),
        (GAUSSIAN, "Only the empty text"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_dead_zone_is_described_as_it_is(mechanism, said):
    assert describe_dead_zone(mechanism).startswith(said)
