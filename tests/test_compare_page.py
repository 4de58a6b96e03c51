"""The page of a comparison: what it draws and says are the facts, for everybody's eyes."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_reviews import METHODS, SCORED, TRIED, attacked, compare_recipe, facts_of, loaded
from pydantic import ValidationError
from test_report import Page
from typer.testing import CliRunner

from robust_nlp.cli import app
from robust_nlp.compare.contradictions import LOUD, check_sentence, contradictions, verdict
from robust_nlp.compare.drive import compare_methods
from robust_nlp.compare.highlights import highlights
from robust_nlp.compare.page import render
from robust_nlp.compare.report import all_facts, write_page
from robust_nlp.compare.results import Comparison
from robust_nlp.compare.schema import FILE, ComparisonFile, comparison_schema
from robust_nlp.compare.tables import named_tables
from robust_nlp.compare.words import front_sentence
from robust_nlp.errors import DataError
from robust_nlp.recipe import ReportRecipe
from robust_nlp.reporting import same_answer
from robust_nlp.scoring.measured import ABSTAINS
from robust_nlp.scoring.store import ScoreStore

ALL = "insert+delete+substitute"
PACKAGE = Path(__file__).parents[1] / "robust_nlp"
THREE = {name: METHODS[name] for name in ("none", "deletion", "masking")}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Comparison, Path]:
    """Three methods without attacks."""
    folder = tmp_path_factory.mktemp("page")
    recipe = compare_recipe(folder, methods=THREE)
    compare_methods(recipe, folder / "out")
    return loaded(recipe, folder / "out"), folder / "out"


def with_attacks(found: Comparison, **certificates: Any) -> Comparison:
    methods = [attacked(method, found.split, **certificates) for method in found.methods]
    sizes = copy.deepcopy(found.sizes)
    sizes.texts["attack"] = len(TRIED)
    return dataclasses.replace(found, methods=methods, sizes=sizes)


def as_read(found: Comparison) -> dict[str, Any]:
    """The facts as they are read from compare.json."""
    return json.loads(json.dumps(all_facts(found), allow_nan=False))


@pytest.fixture(scope="module")
def facts(made) -> dict[str, Any]:
    """Facts of the same methods after an attack."""
    return as_read(with_attacks(made[0]))


class Read(Page):
    """Also collects cells of tables, paths by chart, and what is between tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        super().handle_starttag(tag, attributes)
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        self.said.append(data)
        if self.rows and self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_the_page_is_that_of_the_file(made):
    _, output = made
    assert (output / "report.html").read_text(encoding="utf-8") == render(facts_of(output))


def test_the_page_is_made_again_from_the_file_alone(made, tmp_path):
    _, output = made
    written = (output / "report.html").read_bytes()
    (tmp_path / "compare.json").write_bytes((output / "compare.json").read_bytes())
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report.html").read_bytes() == written
    for option in (["--no-html"], ["--radii", "0,1"], ["--alpha", "0.1"]):
        refused = CliRunner().invoke(app, ["report", str(tmp_path), *option])
        assert refused.exit_code == 2
        assert "is a comparison, whose page takes no options" in " ".join(refused.stderr.split())
    (tmp_path / "compare.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="is not a comparison that this version reads"):
        write_page(tmp_path)


def test_the_page_is_well_formed_and_named_for_screen_readers(facts):
    html = render(facts)
    page = Read(html)
    assert page.open == []
    assert max(page.ids.values()) == 1
    assert set(page.named) <= set(page.ids)
    assert all("role" in image or image.get("aria-hidden") == "true" for image in page.images)
    assert all(header.get("scope") in ("row", "col") for header in page.headers)
    for tag in ("title", "desc"):
        named = re.findall(rf"<{tag}[^>]*>([^<]*)</{tag}>", html)
        assert len(named) >= 10
        assert all(len(each) > 5 for each in named)
    assert not re.search(r"<script|<img|<link|@import|url\(|src=|href=", html)
    assert "default-src 'none'" in html


def test_all_tables_stand_in_the_page_with_their_numbers(facts):
    rows = Read(render(facts)).rows
    for method in facts["methods"]:
        name = method["method"]
        for perturbation in method["scores"]:
            clean = f"{100 * method['clean_accuracy']['value']:.1f}"
            points = [f"{100 * p['accuracy']['value']:.1f}" for p in perturbation["points"]]
            assert any(
                row[0] == name and [cell.split(" [")[0] for cell in row[1:]] == [clean, *points]
                for row in rows
                if len(row) == 2 + len(points)
            )
        under = f"{100 * method['attacks']['worst_case']['value']:.1f} ["
        assert any(row[:1] == [name] and any(c.startswith(under) for c in row[1:]) for row in rows)
    for threat, picture in facts["sandwiches"].items():
        for row in picture["methods"]:
            unbroken = [f"{100 * share:.1f}" for share in row["unbroken"]]
            assert [f"{row['method']}, not broken", *unbroken] in rows, threat
    for k, domain in enumerate(facts["methods"][0]["domains"]):
        shares = [f"{100 * m['domains'][k]['accuracy']['value']:.1f}" for m in facts["methods"]]
        cells = next(row for row in rows if row[:2] == [domain["domain"], f"{domain['texts']}"])
        assert [cell.split(" [")[0] for cell in cells[2:]] == shares


def without_doubts(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as if no judge had called a right certificate wrong."""
    calm = copy.deepcopy(facts)
    for picture in calm["sandwiches"].values():
        for row in picture["methods"]:
            row["inside"] = []
    calm["contradictions"] = contradictions(calm["methods"], calm["sandwiches"])
    return calm


def test_alarms_are_raised_only_by_contradictions(made, facts):
    calm = without_doubts(facts)
    assert calm["contradictions"]["held"] is True
    quiet = render(calm)
    assert '<strong class="alarm"' not in quiet
    assert "no contradiction." in quiet
    found = {
        "attack": "made-up",
        "example_id": 0,
        "attacker": ALL,
        "distance": 1,
        "radius": 2,
        "text": "all fine here",
        "found": "all odd here",
    }
    wrong = with_attacks(made[0], contradictions=[found], held=False)
    loud = as_read(wrong)
    assert loud["contradictions"]["held"] is False
    page = render(loud)
    assert '<strong class="alarm" role="alert">' in page
    assert LOUD in page
    assert "<span>all</span> <del>fine</del> <ins>odd</ins> <span>here</span>" in page
    assert "at distance 1, inside the certified radius 2" in page
    allowed = as_read(with_attacks(made[0], contradictions=[found], allowed=6))
    assert allowed["contradictions"]["held"] is True
    assert "no more than their failure probability allows" in render(allowed)


def test_only_right_certificates_are_judged_anew(made, facts):
    reports = {m.name: m.report.texts[: len(TRIED)] for m in made[0].methods if m.report}
    clean = [c for c in facts["contradictions"]["checks"] if c["by"] == "clean"]
    counts = {check["method"]: check["compared"] for check in clean}
    assert counts == {name: sum(t.right for t in texts) for name, texts in reports.items()}
    assert min(counts.values()) < len(TRIED)


def test_judges_that_contradict_certificates_are_an_alarm(facts):
    # The made-up attack calls the answer to the second text wrong, which masking certifies.
    inside = {
        row["method"]: row["inside"]
        for picture in facts["sandwiches"].values()
        for row in picture["methods"]
        if row["inside"]
    }
    assert inside
    found = facts["contradictions"]
    assert found["held"] is False
    wrong = {c["method"]: c["texts"] for c in found["checks"] if not c["held"]}
    assert wrong == inside
    for texts in inside.values():
        assert f"allowed; texts {', '.join(map(str, texts))})" in render(facts)
    assert '<strong class="alarm" role="alert">' in render(facts)


def test_audits_count(facts):
    methods = without_doubts(facts)["methods"]
    evidence = {
        "example_id": 3,
        "attacker": ALL,
        "distance": 1,
        "radius": 1,
        "text": None,
        "attacked": None,
    }
    audit = {"passed": False, "judged": 7, "wrong": 1, "allowed": 0, "contradictions": [evidence]}
    methods[1]["report"]["audit"] = audit
    found = contradictions(methods, {})
    assert found["held"] is False
    assert found["found"] == [
        {
            "method": "deletion",
            "by": "audit",
            "attack": None,
            "example_id": 3,
            "attacker": ALL,
            "distance": 1,
            "radius": 1,
            "text": None,
            "found": None,
        }
    ]
    assert verdict(found) == f"{LOUD} deletion."
    (told,) = [check for check in found["checks"] if check["by"] == "audit"]
    assert "1 against certificates (0 allowed; text 3): a certificate" in check_sentence(told)
    more = check_sentence({**told, "inside": 12})  # audits quote the first of them
    assert "12 against certificates (0 allowed; among them text 3): a certificate" in more
    methods[1]["report"]["audit"] = {**audit, "passed": True, "wrong": 0, "contradictions": []}
    assert contradictions(methods, {})["held"] is True


def test_without_checks_nothing_is_claimed(made):
    found, output = made
    page = (output / "report.html").read_text(encoding="utf-8")
    assert facts_of(output)["contradictions"] == {"held": None, "checks": [], "found": []}
    assert "Nothing was held against the certificates" in page
    assert "no contradiction" not in page
    assert "No attack was made: there are lower bounds only." in page
    assert "under attack (found)" not in page
    assert as_read(found)["sandwiches"] == {}


def test_sections_without_facts_are_left_out(facts):
    whole = render(facts)
    assert "<h2>By domain</h2>" in whole
    assert "<h2>By length</h2>" in whole
    fewer = copy.deepcopy(facts)
    for method in fewer["methods"]:
        method["domains"], method["worst_domain"] = [], None
    fewer["lengths"]["classes"] = fewer["lengths"]["classes"][:1]
    page = render(fewer)
    assert "<h2>By domain</h2>" not in page
    assert "<h2>By length</h2>" not in page


def test_an_incomplete_comparison_has_a_page(facts):
    fewer = copy.deepcopy(facts)
    for method in fewer["methods"][1:]:
        nothing = ("clean_accuracy", "abstained", "certified", "report", "attacks")
        method.update(dict.fromkeys(nothing))
        method |= {"scores": [], "domains": [], "worst_domain": None}
    fewer |= {"threats": [], "radii": {}, "fronts": [], "sandwiches": {}}
    page = render(fewer)
    assert "Proved, true, and attacked" not in page
    assert Read(page).open == []


EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\" </td></table>"


def test_everything_is_escaped(facts):
    hostile = copy.deepcopy(facts)
    name = hostile["methods"][1]["method"]
    text = json.dumps(hostile).replace(f'"{name}"', json.dumps(f"m{EVIL}"))
    hostile = json.loads(text)
    for example in hostile["examples"]["fragile"]:
        example["text"] = f"word {EVIL}"
        for fate in example["methods"]:
            if fate["version"]:
                fate["version"] |= {"text": f"other {EVIL}", "by": EVIL, "predicted": EVIL}
    for method in hostile["methods"]:
        for domain in method["domains"]:
            domain["domain"] = EVIL
        method["worst_domain"]["domain"] = EVIL
    hostile |= {"title": EVIL, "command": EVIL, "findings": [EVIL], "cautions": [EVIL]}
    hostile["data"]["description"] = EVIL
    assert hostile["examples"]["fragile"]
    page = render(hostile)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(" in page
    assert Read(page).open == []


def test_texts_are_quoted_only_if_the_recipe_says_so(made, facts):
    found = with_attacks(made[0])
    for each in facts["examples"]["fragile"]:
        assert f"<bdi>{each['text']}</bdi>" in render(facts)
    quiet = dataclasses.replace(found.recipe, report=ReportRecipe(texts=False))
    silent = dataclasses.replace(found, recipe=quiet)
    told = as_read(silent)
    for each in (*told["examples"]["fragile"], *told["examples"]["stable"]):
        assert each["text"] is None
    words = {word for t in found.split.texts[:9] for word in t.split()}
    ends = {word for word in words if word.startswith("te")}  # numbers that no other text has
    assert len(ends) >= 3
    page, file = render(told), json.dumps(told)
    assert not [word for word in ends if re.search(rf"\b{word}\b", page + file)]
    assert "Texts are not quoted" in page


def test_contradictions_are_quoted_only_if_the_recipe_says_so(made):
    where = {"example_id": 0, "attacker": ALL, "distance": 1, "radius": 2}
    find = {**where, "attack": "made-up", "text": "secret before", "found": "secret after"}
    evidence = {
        **where,
        "text": "secret before",
        "pair": None,
        "attacked": "secret after",
        "difference": "secret [-before-] {+after+}",
    }
    audit = {"passed": False, "judged": 1, "wrong": 1, "allowed": 0, "contradictions": [evidence]}
    found = with_attacks(made[0], contradictions=[find], held=False)
    methods = [
        dataclasses.replace(m, report=m.report and dataclasses.replace(m.report, audit=audit))
        for m in found.methods
    ]
    loud = dataclasses.replace(found, methods=methods)
    told = as_read(loud)
    assert {each["by"] for each in told["contradictions"]["found"]} == {"attacks", "audit"}
    assert render(told).count("<del>before</del> <ins>after</ins>") == 4
    quiet = dataclasses.replace(found.recipe, report=ReportRecipe(texts=False))
    told = as_read(dataclasses.replace(loud, recipe=quiet))
    assert "secret" not in json.dumps(told)
    assert told["contradictions"]["held"] is False
    assert "inside the certified radius 2" in render(told)


def test_the_file_has_the_published_layout(made, facts):
    ComparisonFile.model_validate(facts_of(made[1]))
    ComparisonFile.model_validate(facts)
    for wrong, path in (("missing", "findings"), ("extra_forbidden", "more")):
        changed = copy.deepcopy(facts)
        if wrong == "missing":
            del changed[path]
        else:
            changed["methods"][0][path] = 1
        with pytest.raises(ValidationError, match=path):
            ComparisonFile.model_validate(changed)


def test_the_published_schema_is_that_of_the_types():
    text = (PACKAGE / "resources" / FILE).read_text(encoding="utf-8")
    assert json.loads(text) == comparison_schema()
    assert "sandwiches" in json.loads(text)["required"]


def test_versions_of_texts_are_answered_wrongly_and_come_from_the_rows(made):
    found, output = made
    examples = facts_of(output)["examples"]
    assert examples["fragile"]
    seen = 0
    for each in (*examples["fragile"], *examples["stable"]):
        assert each["text"] == found.split.texts[each["example_id"]]
        for fate in each["methods"]:
            rows = [
                row
                for row in ScoreStore(output / fate["method"]).rows()
                if row["example_id"] == each["example_id"]
            ]
            clean = next(row for row in rows if row["perturbation"] == "clean")
            assert fate["right"] == clean["right"]
            wrong = [
                row
                for row in rows
                if row["edits"] and row["predicted"] not in (None, row["label"]) and clean["right"]
            ]
            version = fate["version"]
            assert (version is None) == (not wrong)
            if version is not None:
                seen += 1
                assert version["confirmed"] is False
                assert version["edits"] == min(row["edits"] for row in wrong)
                assert version["text"] in [row["text"] for row in wrong]
    assert seen


def always(found: Comparison, name: str, label: int) -> Comparison:
    """The same comparison, as if a method gave each scored text the same class."""
    methods = []
    for method in found.methods:
        if method.name == name:
            assert method.measured is not None
            clean = method.measured.clean
            clean = dataclasses.replace(clean, predicted=np.full_like(clean.predicted, label))
            measured = dataclasses.replace(method.measured, clean=clean)
            method = dataclasses.replace(method, measured=measured)
        methods.append(method)
    return dataclasses.replace(found, methods=methods)


def test_a_method_that_hardly_reads_a_text_does_not_shine(made, monkeypatch):
    found = with_attacks(made[0])
    measured = found.methods[1].measured
    assert measured is not None
    true = int((measured.labels == 1).sum())
    assert 0 < true <= SCORED - 2  # not of that class, most of the texts
    few = as_read(always(found, "deletion", 1))
    assert few["methods"][1]["same_answer"] == {
        "class": "1",  # nobody named the classes
        "answers": SCORED,
        "answered": SCORED,
        "share": 1.0,
        "true": true,
        "hardly_reads": False,  # too few to say
    }
    table = named_tables(few)["accuracy"]
    assert table.rows[1][table.header.index("same answer")] == "100.0"
    assert any("deletion" in point["method"] for f in few["fronts"] for point in f["points"])
    monkeypatch.setattr(same_answer, "ANSWERS", SCORED)
    told = as_read(always(found, "deletion", 1))
    ComparisonFile.model_validate(told)
    assert told["fronts"]
    for front in told["fronts"]:
        assert "deletion" not in [point["method"] for point in front["points"]]
        assert "deletion" not in {*front["front"], *front["dominated"].values()}
        left_out = " Left out, since nearly all answers are the same: deletion."
        assert front_sentence(front).endswith(left_out) == ("deletion" in front["same_answer"])
    assert "deletion" in told["fronts"][0]["same_answer"]
    assert all("deletion" not in best.methods for best in highlights(told))
    said = f"{SCORED} of {SCORED} answers are “1”, and only {true} of these texts are"
    assert said in told["findings"][1]
    assert said in " ".join(Read(render(told)).said)


def test_abstentions_are_no_answers(made, monkeypatch):
    monkeypatch.setattr(same_answer, "ANSWERS", 0)
    told = as_read(always(made[0], "deletion", ABSTAINS))
    assert told["methods"][1]["same_answer"] is None
    named_tables(told)
