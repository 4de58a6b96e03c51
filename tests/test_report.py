"""The report says what the votes say, safely."""

from __future__ import annotations

import json
import math
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest

from robust_nlp.certification import ExactPlan, FixedPlan
from robust_nlp.errors import DataError
from robust_nlp.mechanisms import RandomizedDeletion, RandomMasking
from robust_nlp.recipe import CertifyRecipe, DataRecipe, ModelRecipe, Recipe, ReportRecipe
from robust_nlp.report import RobustnessReport, write_report
from robust_nlp.reporting.accuracy import certified_curve, table_radii, wrong_certificates
from robust_nlp.reporting.schema import FILE, ReportFile, report_schema
from robust_nlp.reporting.texts import certify_rows
from robust_nlp.results import RunDirectory

P_DEL, ALPHA, VOTES = 0.9, 0.01, 400
DELETION = RandomizedDeletion(p_del=P_DEL)
ALL, INSERT, DELETE = "insert+delete+substitute", "insert", "delete"
#: Votes for class 1 of VOTES, length and label of each text: from sure to doubtful; two are wrong.
VOTED = [(400, 30, 1), (390, 20, 1), (0, 12, 0), (300, 40, 1), (380, 25, 0), (230, 15, 1)]
VOTED += [(205, 9, 1), (195, 9, 0), (100, 33, 1), (400, 3, 1)]


def row(example: int, ones: int, n_units: int, label: int | None, text: str | None = None) -> dict:
    """A row of a fixed plan; the selection votes favour the class with more votes."""
    text = f"text {example} of {n_units} words" if text is None else text
    return {
        "example_id": example,
        "text_hash": text,
        "text": text,
        "pair": None,
        "label": label,
        "n_units": n_units,
        "exact": [0.0, 0.0],
        "remainder": 1.0,
        "selection": [0, 10] if ones >= VOTES / 2 else [10, 0],
        "looks": [[VOTES - ones, ones]],
        "schedule": [VOTES],
        "profile": [],
        "votes_asked": VOTES + 10,
        "votes_classified": VOTES - 50,
        "seconds": 0.25,
    }


def exact_row(example: int, mass: float, label: int | None) -> dict:
    """A row whose noisy texts were all classified."""
    exact = {"exact": [1.0 - mass, mass], "remainder": 0.0, "selection": [0, 0], "looks": []}
    return row(example, 400, 20, label) | exact | {"schedule": []}


def hand_made() -> list[dict]:
    return [row(i, *voted) for i, voted in enumerate(VOTED)]


def make_run(
    folder: Path,
    rows: list[dict],
    *,
    mechanism=DELETION,
    plan=None,
    attackers=(ALL, INSERT, DELETE),
    limit=None,
    split_rows=None,
    complete=True,
    texts=True,
) -> Path:
    recipe = Recipe(
        name="hand-made",
        model=ModelRecipe(base="a-model"),
        data=DataRecipe(path="a-data-set"),
        mechanism=mechanism,
        certify=CertifyRecipe(
            plan=plan or FixedPlan(alpha=ALPHA, n_selection=10, n_estimation=VOTES),
            attackers=attackers,
            limit=limit,
        ),
        report=ReportRecipe(texts=texts),
    )
    run = RunDirectory(folder / "run")
    run.start(recipe)
    if rows:
        run.write_part(0, len(rows), rows)
    run.update_manifest(
        labels=["bad", "good"],
        host={"cpu": "a processor", "cores": 2, "device": "cpu"},
        data={"split": "test", "rows": split_rows or len(rows), "limit": limit},
        stages={"certify": {"seconds": 2.0, "processes": 1, "complete": complete}},
    )
    return run.path


def report_of(run: Path, **settings) -> dict:
    write_report(run, **settings)
    found = json.loads((run / "report.json").read_text(encoding="utf-8"))
    ReportFile.model_validate(found)
    return found


def test_the_published_schema_is_that_of_the_types():
    text = (files("robust_nlp") / "resources" / FILE).read_text(encoding="utf-8")
    assert json.loads(text) == report_schema()
    assert "attackers" in json.loads(text)["required"]


def page_of(run: Path, **settings) -> str:
    write_report(run, **settings)
    return (run / "report.html").read_text(encoding="utf-8")


def own_radius(ones: int, *, alpha: float, attacker: str, n_units: int) -> int | None:
    """The two-class radius from its formula; None if the votes leave a doubt."""
    hits = max(ones, VOTES - ones)
    p = beta.ppf(alpha, hits, VOTES - hits + 1)
    if p <= 0.5:
        return None
    safe = {
        ALL: lambda r: p - 1 + P_DEL**r > 0.5,
        INSERT: lambda r: p * P_DEL**r > 0.5,
        DELETE: lambda r: P_DEL**r * 0.5 > 1 - p,
    }[attacker]
    most = n_units if attacker == DELETE else 10_000
    return next(r for r in range(10_001) if r == most or not safe(r + 1))


def own_count(radius: int, *, alpha: float, attacker: str) -> int:
    """Texts that are right and certified at a radius."""
    count = 0
    for ones, n_units, label in VOTED:
        certified = own_radius(ones, alpha=alpha, attacker=attacker, n_units=n_units)
        count += (ones >= VOTES / 2) == label and certified is not None and certified >= radius
    return count


@pytest.mark.parametrize("attacker", [ALL, INSERT, DELETE])
@pytest.mark.parametrize("alpha", [None, 0.2])
def test_counts_are_those_of_an_independent_recomputation(tmp_path, attacker, alpha):
    report = report_of(make_run(tmp_path, hand_made()), alpha=alpha)
    curve = next(a for a in report["attackers"] if a["attacker"] == attacker)["curve"]
    for point in curve:
        expected = own_count(point["radius"], alpha=alpha or ALPHA, attacker=attacker)
        assert point["count"] == expected
        assert point["share"] == pytest.approx(expected / len(VOTED))
        ends = binomtest(expected, len(VOTED)).proportion_ci(0.95)
        assert (point["low"], point["high"]) == pytest.approx(tuple(ends))
    assert curve[-1]["count"] == 0
    assert curve[-2]["count"] > 0


def test_text_counts_are_right(tmp_path):
    report = report_of(make_run(tmp_path, hand_made()))
    doubtful = sum(
        own_radius(ones, alpha=ALPHA, attacker=ALL, n_units=n) is None for ones, n, _ in VOTED
    )
    counts = report["counts"]
    assert counts["abstentions"] == doubtful == 2
    assert counts["dead_zone"] == sum(P_DEL**n > 0.5 for _, n, _ in VOTED) == 1
    assert counts["statistical"] == len(VOTED)
    assert sum(outcome["count"] for outcome in report["outcomes"]) == len(VOTED)
    assert {row["class"]: row["texts"] for row in report["classes"]} == {"bad": 3, "good": 7}
    assert sum(row["right"] for row in report["classes"]) == counts["right"]
    assert sum(row["texts"] for row in report["lengths"]) == len(VOTED)


def test_dead_zone_is_left_out_where_the_report_says_so(tmp_path):
    point = report_of(make_run(tmp_path, hand_made()))["attackers"][0]["curve"][0]
    outside = [voted for voted in VOTED if P_DEL ** voted[1] <= 0.5]
    assert point["share_without_dead_zone"] == (point["count"] - 1) / len(outside)


def test_cost_adds_up(tmp_path):
    cost = report_of(make_run(tmp_path, hand_made()))["cost"]
    assert cost["votes_asked"] == cost["votes_at_most"] == 410 * len(VOTED)
    assert cost["votes_saved"] == 60 * len(VOTED)
    assert cost["process_seconds"] == 0.25 * len(VOTED)
    assert cost["texts_per_process_second"] == pytest.approx(4.0)


def test_summary_names_numbers_threat_and_alpha(tmp_path):
    report = report_of(make_run(tmp_path, hand_made()))
    radius = report["telling_radius"]
    right, kept = (own_count(r, alpha=ALPHA, attacker=ALL) for r in (0, radius))
    assert report["summary"][0] == (
        f"Of 10 texts, {right} ({10 * right:.1f} %) are classified correctly by the smoothed "
        f"classifier; {kept} ({10 * kept:.1f} %) provably stay so under any {radius} word edits "
        "(insertions, deletions or substitutions); alpha 0.01 per text."
    )


def same_answers(ones: int, *, true: int, labelled: bool = True, n: int = 30) -> list[dict]:
    """Rows of 12 words: `ones` answers are class 1, `true` labels are; the rest is class 0."""
    return [
        row(i, VOTES if i < ones else 0, 12, int(i < true) if labelled else None) for i in range(n)
    ]


def test_nearly_constant_answers_are_cautioned_against(tmp_path):
    report = report_of(make_run(tmp_path, same_answers(28, true=15)))
    assert report["same_answer"] == {"class": "good", "answers": 28, "answered": 30, "true": 15}
    assert report["summary"][1].startswith("Caution: 28 of the 30 answers are “good”, although")


@pytest.mark.parametrize(
    "rows",
    [
        same_answers(26, true=15),  # both classes are given
        same_answers(28, true=26),  # nearly all texts are of that class
        same_answers(12, true=6, n=12),  # too few to say
        [row(i, VOTES, 3, 0) for i in range(30)],  # dead zone
    ],
)
def test_other_answers_are_not(tmp_path, rows):
    report = report_of(make_run(tmp_path, rows))
    assert report["same_answer"] is None
    assert not any("Caution" in line for line in report["summary"])


def test_nearly_constant_answers_without_labels(tmp_path):
    report = report_of(make_run(tmp_path, same_answers(30, true=0, labelled=False)))
    assert report["same_answer"]["true"] is None
    assert "30 of the 30 answers are “good”. A" in report["summary"][1]


def test_another_alpha_is_named_beside_the_plans_own(tmp_path):
    run = make_run(tmp_path, hand_made())
    assert report_of(run, alpha=0.2)["alpha"] == 0.2
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "at most 0.2 (alpha); the plan's own alpha was 0.01" in page
    assert "own alpha was" not in page_of(run)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_alpha_must_be_a_probability(tmp_path, alpha):
    with pytest.raises(ValueError, match="alpha is a failure probability"):
        write_report(make_run(tmp_path, hand_made()), alpha=alpha)


@pytest.mark.parametrize("trials", [1, 20, 1000])
@pytest.mark.parametrize("alpha", [1e-3, 0.05, 0.3])
def test_bound_of_wrong_certificates_is_the_smallest_that_holds(trials, alpha):
    bound = wrong_certificates(trials, alpha=alpha)
    assert binom.sf(bound, trials, alpha) <= 0.05
    assert bound == 0 or binom.sf(bound - 1, trials, alpha) > 0.05


def test_corrected_accuracy_is_a_lower_bound_and_the_plain_one_is_not():
    """Texts whose true probability just misses a radius, so that wrong certificates do happen."""
    n_texts, repetitions, alpha, radius = 30, 200, 0.1, 2
    truth = 1.5 - P_DEL**radius - 1e-9
    rng = np.random.default_rng(0)
    plain_fails = corrected_fails = 0
    for _ in range(repetitions):
        ones = rng.binomial(VOTES, truth, size=n_texts)
        rows = [row(i, int(k), 20, 1) for i, k in enumerate(ones)]
        texts = certify_rows(rows, DELETION, alpha=alpha, attackers=[ALL])
        (point,) = certified_curve(texts, ALL, [radius])
        plain_fails += point.share > 0.0  # not one text truly has this radius
        corrected_fails += point.corrected > 0.0
    assert plain_fails > 0.5 * repetitions
    assert binomtest(corrected_fails, repetitions, 0.05, alternative="greater").pvalue > 1e-3


def test_copies_of_a_text_fail_together():
    rows = [row(i, 400, 20, 1, text="one and the same") for i in range(4)]
    rows += [row(i, 400, 20, 1) for i in range(4, 10)]
    texts = certify_rows(rows, DELETION, alpha=0.01, attackers=[ALL])
    assert wrong_certificates(7, alpha=0.01) == 1
    (point,) = certified_curve(texts, ALL, [0])
    assert point.corrected == pytest.approx(0.6)


def test_exact_certificates_need_no_correction(tmp_path):
    rows = [exact_row(i, mass, 1) for i, mass in enumerate((1.0, 0.9, 0.6, 0.4))]
    report = report_of(make_run(tmp_path, rows, plan=ExactPlan()))
    assert report["alpha"] == 0.0
    assert report["counts"]["exact"] == 4
    assert all(p["corrected"] == p["share"] for p in report["attackers"][0]["curve"])
    assert "exact, without a failure probability" in report["summary"][0]


def test_only_statistical_certificates_are_corrected(tmp_path):
    rows = [exact_row(0, 1.0, 1), exact_row(1, 1.0, 1), row(2, 400, 20, 1)]
    point = report_of(make_run(tmp_path, rows))["attackers"][0]["curve"][0]
    assert (point["share"], point["corrected"]) == (1.0, pytest.approx(1.0))
    point = report_of(make_run(tmp_path, rows), alpha=0.06)["attackers"][0]["curve"][0]
    assert point["corrected"] == pytest.approx(2 / 3)


def test_texts_are_escaped(tmp_path):
    evil = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\" </td></table>"
    rows = [row(0, 400, 20, 1, text=evil), row(1, 230, 20, 1, text=evil + "!")]
    page = page_of(make_run(tmp_path, rows))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(" in page


def test_names_are_escaped(tmp_path):
    run = make_run(tmp_path, hand_made())
    RunDirectory(run).update_manifest(labels=["<b>bad", "<i>good"], command="<u>")
    page = page_of(run)
    assert "<b>bad" not in page
    assert "&lt;b&gt;bad" in page
    assert "<u>" not in page


def test_page_loads_nothing(tmp_path):
    page = page_of(make_run(tmp_path, hand_made())).lower()
    for outside in ("http://", "https://", "src=", "href=", "url(", "@import", "<script", "<link"):
        assert outside not in page


class Page(HTMLParser):
    """Checks that tags are balanced, and collects what accessibility needs."""

    VOID = frozenset({"meta", "br", "circle", "rect", "path", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.named: list[str] = []
        self.images: list[dict] = []
        self.headers: list[dict] = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids.update([values["id"]] if "id" in values else [])
        self.named += (values.get("aria-labelledby") or "").split()
        if tag == "svg":
            self.images.append(values)
        if tag == "th":
            self.headers.append(values)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag


@pytest.mark.parametrize("mechanism", [DELETION, RandomMasking(p_mask=0.8)], ids=["del", "mask"])
def test_page_is_well_formed_and_named_for_screen_readers(tmp_path, mechanism):
    attackers = (ALL, DELETE) if mechanism is DELETION else ("substitute",)
    page = Page()
    page.feed(page_of(make_run(tmp_path, hand_made(), mechanism=mechanism, attackers=attackers)))
    assert page.open == []
    assert max(page.ids.values()) == 1
    assert set(page.named) <= set(page.ids)
    assert all("role" in image or image.get("aria-hidden") == "true" for image in page.images)
    assert page.headers
    assert all(header.get("scope") in ("row", "col") for header in page.headers)


def test_whole_run_has_no_marks(tmp_path):
    report = report_of(make_run(tmp_path, hand_made()))
    assert report["marks"] == []
    assert report["title"] == "hand-made: certified robustness"


def test_limited_run_is_marked_in_the_title(tmp_path):
    run = make_run(tmp_path, hand_made(), limit=10, split_rows=872)
    title = "hand-made: certified robustness (limited run: the first 10 of 872 texts of the split)"
    assert f"<title>{title}</title>" in page_of(run)
    assert write_report(run).startswith(title)


def test_limit_that_takes_all_texts_is_no_limit(tmp_path):
    assert report_of(make_run(tmp_path, hand_made(), limit=10, split_rows=10))["marks"] == []


@pytest.mark.parametrize(
    ("settings", "mark"),
    [
        ({"split_rows": 20}, "incomplete run: 10 of 20 texts are certified"),
        ({"split_rows": 99, "limit": 12}, "incomplete run: 10 of 12 texts are certified"),
        ({"complete": False}, "incomplete run: 10 texts certified so far"),
    ],
    ids=["rows", "limit", "stage"],
)
def test_incomplete_run_is_marked_in_the_title(tmp_path, settings, mark):
    report = report_of(make_run(tmp_path, hand_made(), **settings))
    assert mark in report["marks"]
    assert mark in report["title"]


def test_run_without_labels_shows_radii(tmp_path):
    rows = [each | {"label": None} for each in hand_made()]
    run = make_run(tmp_path, rows)
    report = report_of(run)
    radii = [own_radius(k, alpha=ALPHA, attacker=ALL, n_units=n) for k, n, _ in VOTED]
    for point in report["attackers"][0]["curve"]:
        assert point["count"] == sum(r is not None and r >= point["radius"] for r in radii)
    page = page_of(run).lower()
    assert "certified share" in page
    assert "accuracy" not in page
    assert "correctly" not in page


def test_missing_label_makes_the_whole_run_one_without_labels(tmp_path):
    rows = hand_made()
    rows[3]["label"] = None
    assert not report_of(make_run(tmp_path, rows))["labelled"]


def test_run_without_any_certified_text(tmp_path):
    run = make_run(tmp_path, [row(i, 200, 20, 1) for i in range(5)])
    report = report_of(run)
    assert report["attackers"][0]["largest_radius"] is None
    assert [p["count"] for p in report["attackers"][0]["curve"]] == [0, 0]
    assert report["frontiers"] == []
    assert "5 (100.0 %)" in report["summary"][1]


def test_run_of_one_text(tmp_path):
    report = report_of(make_run(tmp_path, [row(0, 400, 20, 1)]))
    assert report["summary"][0].startswith("Of 1 text, 1 (100.0 %) is classified correctly")
    assert len(report["most_stable"]) == 1
    assert report["most_fragile"] == []


def test_run_whose_texts_are_all_in_the_dead_zone(tmp_path):
    report = report_of(make_run(tmp_path, [row(i, 400, 2, 1) for i in range(3)]))
    assert report["attackers"][0]["curve"][0]["share_without_dead_zone"] is None
    assert report["most_stable"] == []


def test_run_without_certificates_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no certificates"):
        write_report(make_run(tmp_path, []))


def test_stable_and_fragile_texts_are_at_the_ends(tmp_path):
    report = report_of(make_run(tmp_path, hand_made()))
    assert {t["example_id"] for t in report["most_stable"][:2]} == {0, 2}
    assert {t["example_id"] for t in report["most_fragile"][:2]} == {6, 7}
    assert 9 not in {t["example_id"] for t in report["most_stable"] + report["most_fragile"]}


def test_texts_are_not_quoted_when_the_recipe_says_so(tmp_path):
    run = make_run(tmp_path, hand_made(), texts=False)
    assert "words" not in json.dumps(report_of(run)["most_stable"])
    assert "text 0 of" not in page_of(run)


def test_partner_of_a_pair_is_quoted(tmp_path):
    page = page_of(make_run(tmp_path, [row(0, 400, 20, 1) | {"pair": "its <partner>"}]))
    assert "<bdi>its &lt;partner&gt;</bdi>" in page


def test_frontier_lists_safe_mixes_of_randomized_deletion(tmp_path):
    example = report_of(make_run(tmp_path, hand_made()))["frontiers"][0]
    p = beta.ppf(ALPHA, 400, 1)
    assert example["example_id"] == 0
    assert example["mixes"]
    for mix in example["mixes"]:
        a, b, c = mix["insertions"], mix["deletions"], mix["substitutions"]
        low = P_DEL ** (a - b) * (p - 1 + P_DEL ** (b + c))
        assert low > 0.5


def test_masking_has_no_frontier_and_counts_substitutions(tmp_path):
    run = make_run(
        tmp_path, hand_made(), mechanism=RandomMasking(p_mask=0.9), attackers=("substitute",)
    )
    report = report_of(run)
    assert report["frontiers"] == []
    assert "word edits (substitutions)" in report["summary"][0]


def test_chosen_radii_fill_the_tables(tmp_path):
    run = make_run(tmp_path, hand_made())
    table = write_report(run, radii=[0, 2, 5000])
    cells = [line.split() for line in table.split("by attacker")[1].splitlines()]
    first = [line[0] for line in cells if line and line[0].isdecimal()]
    assert first == ["0", "2", "5000"]
    with pytest.raises(ValueError, match="radii"):
        write_report(run, radii=[-1])


def test_terminal_table_names_unit_and_attackers(tmp_path):
    table = RobustnessReport.load(make_run(tmp_path, hand_made())).table()
    assert "(word edits)" in table
    for move in ("insert", "delete", "substitute"):
        assert move in table
    assert max(len(line) for line in table.splitlines()) <= 100


def test_page_is_optional(tmp_path):
    run = make_run(tmp_path, hand_made())
    write_report(run, html=False)
    assert (run / "report.json").exists()
    assert not (run / "report.html").exists()


def test_page_can_be_saved_elsewhere(tmp_path):
    report = RobustnessReport.load(make_run(tmp_path, hand_made()))
    report.save_html(tmp_path / "elsewhere.html")
    assert "hand-made" in (tmp_path / "elsewhere.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("largest", [0, 3, 11, 12, 40, 1000])
def test_tables_stay_short_and_end_at_the_largest_radius(largest):
    radii = table_radii(largest)
    assert radii[0] == 0
    assert radii[-1] == largest
    assert radii == sorted(set(radii))
    assert len(radii) <= 12
