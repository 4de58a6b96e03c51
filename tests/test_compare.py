"""Whole comparisons: what is trained and measured, kept, gone on with, and said."""

from __future__ import annotations

import csv
import dataclasses
import gc
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_reviews import (
    CERTIFIED,
    METHODS,
    SCORED,
    compare_recipe,
    facts_of,
    with_compare,
    without_times,
)
from study_reviews import reviews

import robust_nlp.training.run
from robust_nlp.compare import drive, timing
from robust_nlp.compare.drive import compare_methods
from robust_nlp.compare.facts import radii
from robust_nlp.compare.methods import method_runs
from robust_nlp.compare.results import MethodResults, _check_same_texts, _numbered_alike
from robust_nlp.compare.sizes import FILE
from robust_nlp.compare.tables import comparison_tables, in_csv, in_latex, named_tables
from robust_nlp.errors import DataError, MissingExtraError, RecipeError, RunMismatchError
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.scoring.estimates import difference, mean
from robust_nlp.scoring.store import ScoreStore
from robust_nlp.scoring.wording import estimate
from robust_nlp.smoothing import SmoothedClassifier

gc.freeze()  # every training collects garbage, and nothing that was imported is any

#: Counted work: what a comparison must not do twice.
Work = Counter[tuple[Any, ...]]


@pytest.fixture
def work(monkeypatch):
    """Count trainings, parts written and times measured, by what they are of."""
    return watch(monkeypatch)


def watch(patch) -> Work:
    done: Work = Counter()
    train, write_part = robust_nlp.training.run.train, RunDirectory.write_part
    write_scores, answer = ScoreStore.write_part, timing._answer

    def trained(recipe, *args):
        found = train(recipe, *args)
        done["train", recipe.name.removeprefix("tiny-compare-")] += 1
        return found

    def certified(self, start, stop, rows):
        write_part(self, start, stop, rows)
        done["certify", self.path.name, start, stop] += 1

    def scored(self, start, stop, rows):
        write_scores(self, start, stop, rows)
        done["score", self.path.parent.name, start, stop] += 1

    def answered(run, smoothed, text):
        calls = answer(run, smoothed, text)
        done["time", run.name] += 1
        return calls

    patch.setattr(robust_nlp.training.run, "train", trained)
    patch.setattr(RunDirectory, "write_part", certified)
    patch.setattr(ScoreStore, "write_part", scored)
    patch.setattr(timing, "_answer", answered)
    return done


@dataclasses.dataclass
class Compared:
    """A comparison that was made, what it said, and what was done for it."""

    recipe: Recipe
    output: Path
    said: str
    work: Work

    @property
    def facts(self) -> dict[str, Any]:
        return facts_of(self.output)

    def method(self, name: str) -> dict[str, Any]:
        return next(m for m in self.facts["methods"] if m["method"] == name)

    def read(self, name: str, file: str) -> Any:
        return json.loads((self.output / name / file).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Compared:
    """Four methods, three trainings."""
    folder = tmp_path_factory.mktemp("compare")
    recipe = compare_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        work = watch(patch)
        said = compare_methods(recipe, folder / "out")
    return Compared(recipe, folder / "out", said, work)


def test_two_methods_share_a_training(made):
    trained = [name for kind, name, *_ in made.work if kind == "train"]
    assert sorted(trained) == ["deletion", "masking", "none"]
    assert not (made.output / "untrained" / "model").exists()
    hashes = {
        name: RunDirectory(made.output / name).manifest()["classifier"]["content_hash"]
        for name in ("deletion", "untrained")
    }
    scored = ScoreStore(made.output / "none").made_with()["classifier"]
    assert hashes["untrained"] == scored != hashes["deletion"]
    own, shared = made.method("none")["cost"]["training"], made.method("untrained")
    assert shared["cost"]["training"] == {**own, "of": ["untrained", "none"]}


def test_all_methods_have_the_same_texts_and_the_plain_one_no_certificates(made):
    texts = [row["text"] for row in reviews("test")]
    scored = {}
    for name in METHODS:
        rows = ScoreStore(made.output / name).rows()
        scored[name] = [
            (r["example_id"], r["text_hash"], r["label"]) for r in rows if not r["edits"]
        ]
        clean = [row for row in rows if row["perturbation"] == "clean"]
        assert [row["text"] for row in clean] == texts[:SCORED]
        assert {row["classifier"] for row in rows} == {
            "plain" if name == "none" else "smoothed",
        }
    certified = {
        name: [row["text"] for row in RunDirectory(made.output / name).rows()]
        for name in METHODS
        if name != "none"
    }
    assert set(map(tuple, certified.values())) == {tuple(texts[:CERTIFIED])}
    assert not list((made.output / "none" / "certificates").glob("part-*"))
    assert made.method("none")["certified"] is None
    assert made.method("none")["missing"] == {}
    assert made.facts["texts"] == {"score": SCORED, "certify": CERTIFIED}


@pytest.mark.parametrize("name", METHODS)
def test_numbers_are_those_of_the_runs_own_reports(made, name):
    found, scores = made.method(name), made.read(name, "score.json")
    (clean,) = scores["clean"].values()
    assert found["clean_accuracy"] == clean["accuracy"]
    assert [s["mean_score"] for s in found["scores"]] == [s["mean_score"] for s in scores["scores"]]
    if name == "none":
        assert not (made.output / name / "report.json").exists()
        return
    report = made.read(name, "report.json")
    assert list(found["certified"]) == [a["attacker"] for a in report["attackers"]]
    for attacker in report["attackers"]:
        assert found["certified"][attacker["attacker"]]["curve"] == attacker["curve"]
    asked = RunDirectory(made.output / name).rows()
    assert found["cost"]["certificate"] == {
        "texts": CERTIFIED,
        "seconds": pytest.approx(np.mean([row["seconds"] for row in asked])),
        "calls": pytest.approx(np.mean([row["votes_classified"] for row in asked])),
    }


@pytest.mark.parametrize("name", METHODS)
def test_worst_domains_and_differences_follow_from_the_rows(made, name):
    test = reviews("test")

    def right(method):
        rows = ScoreStore(made.output / method).rows()
        return [float(r["predicted"] == r["label"]) for r in rows if r["perturbation"] == "clean"]

    mine, domains = right(name), [row["domain"] for row in test[:SCORED]]
    accuracies = {
        domain: np.mean([r for r, d in zip(mine, domains, strict=True) if d == domain])
        for domain in set(domains)
    }
    worst = made.method(name)["worst_domain"]
    assert worst["accuracy"]["value"] == pytest.approx(min(accuracies.values()))
    assert accuracies[worst["domain"]] == min(accuracies.values())
    assert {d["domain"]: d["texts"] for d in made.method(name)["domains"]} == Counter(domains)
    assert made.method(name)["clean_accuracy"] == dataclasses.asdict(mean(mine))
    against = made.method(name)["against_baseline"]
    if name == "none":
        assert against is None
    else:
        first = against["scores"][0]
        assert (first["first"], first["second"]) == (name, "none")
        assert first["accuracy"] == dataclasses.asdict(difference(mine, right("none")))


def test_costs_are_measured_text_by_text(made):
    for name in METHODS:
        cost = made.method(name)["cost"]
        assert cost["answer"]["texts"] == 2
        assert made.work["time", name] == 3  # one of them to warm up
        assert cost["answer"]["seconds"] > 0.0
        assert 0 <= cost["memory"]["answer"] < 2**28
        assert set(cost["memory"]) >= {"score", "answer"}
    assert made.method("none")["cost"]["answer"]["calls"] == 1.0
    recipe = made.recipe
    smoothed = SmoothedClassifier.from_pretrained(
        made.output / "deletion" / "model", mechanism=recipe.mechanism, device="cpu"
    )
    texts = [row["text"] for row in reviews("test")[:2]]
    assert recipe.score is not None
    asked = [
        smoothed.votes([text], recipe.score.plan, seed=recipe.seed)[0].votes_classified
        for text in texts
    ]
    assert made.method("deletion")["cost"]["answer"]["calls"] == np.mean(asked)
    train = made.read("deletion", "manifest.json")["stages"]["train"]["seconds"]
    assert made.method("deletion")["cost"]["training"]["seconds"] == train
    assert made.method("deletion")["cost"]["memory"]["train"] > 0


def test_tables_say_the_same_in_all_formats(made):
    facts = made.facts
    written = (made.output / "compare.csv").read_text(encoding="utf-8")
    rows = {row["method"]: row for row in csv.DictReader(written.splitlines())}
    assert list(rows) == list(METHODS)
    for name, row in rows.items():
        found = made.method(name)
        assert float(row["clean_accuracy"]) == found["clean_accuracy"]["value"]
        assert float(row["answer_seconds"]) == found["cost"]["answer"]["seconds"]
        score = found["scores"][1]
        column = f"score[{score['perturbation']}]"
        assert float(row[column]) == score["mean_score"]["value"]
        assert float(row[f"{column}_low"]) == score["mean_score"]["low"]
    point = made.method("masking")["certified"]["substitute"]["curve"][1]
    assert float(rows["masking"]["certified[substitute][1]"]) == point["share"]
    assert rows["none"]["certified[substitute][1]"] == ""
    assert rows["masking"]["certified[insert][0]"] == ""
    written = (made.output / "compare.md").read_text(encoding="utf-8")
    latex = (made.output / "compare.tex").read_text(encoding="utf-8")
    for table in comparison_tables(facts):
        for row in table.rows:
            assert all(cell.split()[0] in made.said for cell in row)
            assert f"| {' | '.join(row)} |" in written
        assert table.title.replace("%", r"\%").replace("≥", r"$\geq$") in latex
    assert "| none | – |" in written
    for line in facts["findings"] + facts["cautions"]:
        assert f"- {line}" in written
    assert in_csv(facts) == (made.output / "compare.csv").read_text(encoding="utf-8")


def test_trainings_that_were_resumed_took_longer_than_they_say(made):
    facts = made.facts
    facts["methods"][1]["cost"]["training"]["resumed"] = True
    *_, cost = comparison_tables(facts)
    trained = [row[1] for row in cost.rows]
    assert trained[1].startswith("≥ ")
    assert not trained[0].startswith("≥ ")
    assert r"$\geq$" in in_latex(cost)


def test_latex_escapes_what_it_would_read():
    from robust_nlp.reporting.tables import Table

    table = Table(title="50 % & more", header=["method", "a_b\nc"], rows=[["x^2", "–"]])
    shown = in_latex(table)
    assert r"\caption{50 \% \& more}" in shown
    assert r"method & a\_b c \\" in shown
    assert r"x\textasciicircum{}2 & -- \\" in shown
    assert r"\begin{tabular}{lr}" in shown


def test_fronts_compare_certificates_of_one_threat(made):
    fronts = {(f["kind"], f["threat"] or f["perturbation"]): f for f in made.facts["fronts"]}
    assert ("attacked", None) not in fronts
    threat = fronts["certified", "insert+delete+substitute"]
    assert [p["method"] for p in threat["points"]] == ["none", "deletion", "untrained"]
    assert threat["points"][0]["robustness"] == 0.0
    assert [p["method"] for p in fronts["certified", "substitute"]["points"]] == list(METHODS)
    for front in fronts.values():
        assert {*front["front"], *front["dominated"]} == {p["method"] for p in front["points"]}
        for point in front["points"]:
            answer = made.method(point["method"])["cost"]["answer"]
            assert point["cost"] == answer["seconds"]
    for point in fronts["certified", "substitute"]["points"][1:]:
        curve = made.method(point["method"])["certified"]["substitute"]["curve"]
        assert point["robustness"] == next(p["share"] for p in curve if p["radius"] == 1)
    # Other radii would have told another number.
    shares = [p["share"] for p in made.method("masking")["certified"]["substitute"]["curve"]]
    assert shares[1] not in (0.0, shares[2])
    deleted = fronts["deleted", "delete_words[random]"]["points"][1]
    assert deleted["robustness"] == made.method("deletion")["scores"][0]["area"]["value"]
    assert "on the Pareto front" in made.said


def test_a_second_call_does_nothing_again(made, work):
    before = made.facts
    compare_methods(made.recipe, made.output)
    assert work == Counter()
    for method, old in zip(made.facts["methods"], before["methods"], strict=True):
        for cost in ("training", "answer", "certificate", "memory"):
            assert method["cost"][cost] == old["cost"][cost]
    assert without_times(made.facts) == without_times(before)


def test_an_interrupted_comparison_goes_on_at_each_stage(made, work, tmp_path, monkeypatch):
    methods = {name: METHODS[name] for name in ("none", "deletion", "untrained")}
    recipe = with_compare(made.recipe, methods=methods)

    def interrupt(where, name, at):
        """Raise in the given call of a function."""
        function, calls = getattr(where, name), []

        def until(*args, **options):
            calls.append(args)
            if len(calls) == at:
                raise KeyboardInterrupt
            return function(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(where, name, until)
            with pytest.raises(KeyboardInterrupt):
                compare_methods(recipe, tmp_path / "out")
        assert not (tmp_path / "out" / "compare.json").exists()

    interrupt(robust_nlp.training.run, "train", 2)
    interrupt(ScoreStore, "write_part", 5)
    interrupt(RunDirectory, "write_part", 2)
    interrupt(timing, "_answer", 4)
    interrupt(drive, "write_comparison", 1)
    compare_methods(recipe, tmp_path / "out")
    once = {key: times for key, times in work.items() if key[0] != "time"}
    assert set(once.values()) == {1}
    expected = [key for key in made.work if key[0] != "time" and key[1] in methods]
    assert set(once) == set(expected)
    # The first method was timed once; that of the second was interrupted while it warmed up.
    assert [work["time", name] for name in methods] == [3, 3, 3]
    whole = without_times(made.facts)
    whole["methods"] = [m for m in whole["methods"] if m["method"] in methods]
    found = without_times(facts_of(tmp_path / "out"))
    assert found["methods"] == whole["methods"]


def test_a_method_that_is_added_takes_its_place_beside_the_others(made, work, tmp_path):
    shutil.copytree(made.output, tmp_path / "out")
    # Folders of classifiers are part of the recipes; this copy has no method that takes one.
    methods = {name: m for name, m in METHODS.items() if name != "untrained"}
    more = {**methods, "weak": {"set": {"mechanism.p_del": 0.8}}}
    recipe = with_compare(made.recipe, methods=more)
    compare_methods(recipe, tmp_path / "out")
    assert {key[1] for key in work} == {"weak"}
    assert work["train", "weak"] == 1
    before = {m["method"]: m for m in without_times(made.facts)["methods"]}
    after = {m["method"]: m for m in without_times(facts_of(tmp_path / "out"))["methods"]}
    assert list(after) == list(more)
    assert all(after[name] == before[name] for name in methods)


def test_one_method_alone_leaves_the_others_open(made, work, tmp_path):
    said = compare_methods(made.recipe, tmp_path / "out", only=["untrained"])
    trained = [name for kind, name, *_ in work if kind == "train"]
    assert trained == ["none"]
    assert {key[1] for key in work if key[0] != "train"} == {"untrained"}
    facts = facts_of(tmp_path / "out")
    assert "incomplete: none, deletion, masking" in facts["title"]
    missing = {m["method"]: m["missing"] for m in facts["methods"]}
    assert missing["deletion"] == {"score": "not measured yet", "certify": "not measured yet"}
    assert missing["untrained"] == {}
    assert "Not in the tables: score of masking (not measured yet)." in said
    assert {row[0] for table in comparison_tables(facts) for row in table.rows} == {"untrained"}
    compare_methods(made.recipe, tmp_path / "out", only=["none"])
    assert work["train", "none"] == 1
    found = {m["method"]: m for m in facts_of(tmp_path / "out")["methods"]}
    before = {m["method"]: m for m in made.facts["methods"]}
    for name in ("none", "untrained"):
        assert found[name]["clean_accuracy"] == before[name]["clean_accuracy"]
    # Deleted with what is built on it.
    compare_methods(made.recipe, tmp_path / "out", only=["none"], fresh=True)
    assert work["train", "none"] == 2
    missing = {m["method"]: m["missing"] for m in facts_of(tmp_path / "out")["methods"]}
    assert missing["none"] == {}
    assert missing["untrained"]["certify"] == "not measured yet"


def test_runs_of_other_settings_are_refused_or_left_out(made, tmp_path):
    methods = {
        **METHODS,
        "masking": {"set": {"mechanism": {"kind": "random_masking", "p_mask": 0.9}}},
    }
    recipe = with_compare(made.recipe, methods=methods)
    with pytest.raises(RunMismatchError, match=r"mechanism\.p_mask: 0\.8 in the run, 0\.9") as told:
        compare_methods(recipe, made.output)
    assert "--fresh with --only masking" in str(told.value)
    runs = {run.name: run for run in method_runs(recipe, made.output)}
    sizes = {"score": SCORED, "certify": CERTIFIED}
    other = MethodResults.load(runs["masking"], sizes)
    assert set(other.missing) == {"score", "certify"}
    assert "other settings" in other.missing["score"]
    fewer = MethodResults.load(runs["deletion"], {"score": SCORED - 1, "certify": CERTIFIED - 1})
    assert set(fewer.missing) == {"score", "certify"}
    assert MethodResults.load(runs["deletion"], sizes).missing == {}


def test_methods_with_other_texts_are_not_compared(made):
    runs = {run.name: run for run in method_runs(made.recipe, made.output)}
    one, other = (
        MethodResults.load(runs[name], {"score": SCORED, "certify": CERTIFIED})
        for name in ("deletion", "masking")
    )
    _check_same_texts([one, other])
    assert other.report is not None
    assert other.measured is not None
    fewer = dataclasses.replace(other.report, texts=other.report.texts[1:])
    with pytest.raises(
        DataError, match=r"were certified on different texts.*--only masking --fresh"
    ):
        _check_same_texts([one, dataclasses.replace(other, report=fewer)])
    moved = dataclasses.replace(other.measured, labels=1 - other.measured.labels)
    with pytest.raises(DataError, match="were scored on different texts or labels"):
        _check_same_texts([one, dataclasses.replace(other, measured=moved)])


def test_a_budget_picks_sizes_and_keeps_them(made, work, tmp_path, monkeypatch):
    methods = {name: METHODS[name] for name in ("none", "deletion")}
    recipe = with_compare(made.recipe, methods=methods)
    # A text takes a second to score and two to certify, whatever the machine.
    costs = {"score": 1.0, "certify": 2.0}
    spent = drive._spent
    probed = []

    def slow(stage, run):
        texts = spent(stage, run)["texts"]
        probed.append((stage, run.name, texts))
        return {"texts": texts, "seconds": costs[stage] * texts}

    monkeypatch.setattr(drive, "_spent", slow)
    said = compare_methods(recipe, tmp_path / "out", budget=0.45)
    assert probed == [("score", "none", 4), ("score", "deletion", 4), ("certify", "deletion", 4)]
    # 27 seconds: 13.5 for two methods' scores, and as many for one method's certificates.
    assert facts_of(tmp_path / "out")["texts"] == {"score": 6, "certify": 6}
    for name in methods:
        rows = ScoreStore(tmp_path / "out" / name).rows()
        assert {row["example_id"] for row in rows} == set(range(6))
    assert len(RunDirectory(tmp_path / "out" / "deletion").rows()) == 6
    assert "chosen for a budget of 0.45 minutes" in " ".join(said.split())
    assert "about 0.4 minutes" in " ".join(said.split())
    work.clear()
    costs["score"] = 100.0
    compare_methods(recipe, tmp_path / "out", budget=0.45)
    assert work == Counter()
    assert len(probed) == 3
    # Another budget takes what was tried out, and keeps what was measured.
    compare_methods(recipe, tmp_path / "out", budget=0.7)
    assert len(probed) == 3
    assert json.loads((tmp_path / "out" / FILE).read_text())["texts"] == {"score": 10, "certify": 9}
    again = {key for key in work if key[0] in ("score", "certify")}
    assert {key[2] for key in again} == {6, 8}
    compare_methods(recipe, tmp_path / "out", budget=0.001)
    facts = facts_of(tmp_path / "out")
    assert facts["texts"] == {"score": 4, "certify": 4}
    assert "The budget is too small" in facts["cautions"][0]
    assert facts["methods"][1]["certified"]["substitute"]["curve"][0]["count"] <= 4


def test_attacks_are_left_out_without_textattack(made, tmp_path, monkeypatch):
    def missing():
        raise MissingExtraError("This needs TextAttack, which is not installed.", "attack")

    monkeypatch.setattr(drive, "textattack_version", missing)
    recipe = with_compare(made.recipe, stages=("score", "certify", "attack"))
    said = compare_methods(recipe, made.output, only=["none"])
    assert "Left out: attack (This needs TextAttack" in " ".join(said.split())
    assert list(made.facts["left_out"]) == ["attack"]
    assert all(m["attacks"] is None for m in made.facts["methods"])


def turned(method: MethodResults) -> MethodResults:
    """The same method, as if its classifier numbered its classes the other way round."""
    assert method.measured is not None
    assert method.report is not None
    assert method.scores is not None
    swap = np.array([1, 0])
    cells = {
        name: {rate: cell.renumbered(swap) for rate, cell in curve.items()}
        for name, curve in method.measured.curves.items()
    }
    measured = dataclasses.replace(
        method.measured,
        labels=1 - method.measured.labels,
        clean=method.measured.clean.renumbered(swap),
        curves=cells,
    )
    texts = [dataclasses.replace(t, label=1 - t.label) for t in method.report.texts]
    report = dataclasses.replace(
        method.report, texts=texts, manifest={**method.report.manifest, "labels": ["good", "bad"]}
    )
    scores = {**method.scores, "labels": ["good", "bad"]}
    return dataclasses.replace(method, measured=measured, report=report, scores=scores)


def named(method: MethodResults) -> MethodResults:
    assert method.report is not None
    assert method.scores is not None
    manifest = {**method.report.manifest, "labels": ["bad", "good"]}
    return dataclasses.replace(
        method,
        report=dataclasses.replace(method.report, manifest=manifest),
        scores={**method.scores, "labels": ["bad", "good"]},
    )


def test_classifiers_may_number_their_classes_in_any_order(made):
    runs = {run.name: run for run in method_runs(made.recipe, made.output)}
    one, other = (
        named(MethodResults.load(runs[name], {"score": SCORED, "certify": CERTIFIED}))
        for name in ("deletion", "masking")
    )
    assert other.measured is not None
    moved = turned(other)
    _check_same_texts([one, moved])
    _, alike = _numbered_alike([one, moved])
    assert alike.measured is not None
    assert alike.scores is not None
    assert alike.scores["labels"] == ["bad", "good"]
    assert (alike.measured.labels == other.measured.labels).all()
    assert (alike.measured.clean.predicted == other.measured.clean.predicted).all()
    for name, curve in other.measured.curves.items():
        for rate, cell in curve.items():
            assert (alike.measured.curves[name][rate].predicted == cell.predicted).all()
    assert moved.scores is not None
    others = dataclasses.replace(moved, scores={**moved.scores, "labels": ["1 star", "5 stars"]})
    with pytest.raises(DataError, match="must name its classes as the others do"):
        _check_same_texts(_numbered_alike([one, others]))


def test_finished_classifiers_need_no_texts_to_train_on(made, tmp_path):
    model = made.output / "none" / "model"
    files = {name: file for name, file in made.recipe.data.files.items() if name == "test"}
    data = dataclasses.replace(made.recipe.data, files=files)
    methods = {name: METHODS[name] for name in ("none", "deletion")}
    recipe = with_compare(dataclasses.replace(made.recipe, data=data), methods=methods)
    with pytest.raises(RecipeError, match=r"(?s)none, deletion.*no 'train'.*certify\.model"):
        compare_methods(recipe, tmp_path)
    taken = dataclasses.replace(recipe.certify, model=str(model))
    compare_methods(dataclasses.replace(recipe, certify=taken), tmp_path)
    found = facts_of(tmp_path)["methods"]
    assert [m["missing"] for m in found] == [{}, {}]
    assert found[0]["clean_accuracy"] == made.method("none")["clean_accuracy"]
    assert found[0]["cost"]["training"] is None


def test_all_radii_that_the_recipe_names_are_shown(made):
    facts = {**made.facts, "radii": {t: list(range(14)) for t in made.facts["threats"]}}
    table = named_tables(facts)["substitute"]
    assert table.header[1:] == [f"r = {radius}" for radius in range(14)]
    assert radii(None, [m for m in made.facts["methods"] if m["certified"]])


def test_certified_accuracy_has_an_interval_in_the_first_table(made):
    table = named_tables(made.facts)["accuracy"]
    column = table.header.index("certified r = 1\nsubstitute")
    row = next(row for row in table.rows if row[0] == "masking")
    point = made.method("masking")["certified"]["substitute"]["curve"][1]
    assert row[column] == estimate(
        {"value": point["share"], "low": point["low"], "high": point["high"]}
    )
    assert table.rows[0][column] == "–"
    said = " ".join(made.facts["cautions"])
    assert f"masking, certificates: {made.method('masking')['report']['summary'][0]}" in said
