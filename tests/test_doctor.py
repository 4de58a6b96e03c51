"""What the doctor says, and its exit code. Neither TextAttack nor torch is needed."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from robust_nlp.attacks import doctor, plans
from robust_nlp.attacks.doctor import ATTACKS, diagnose, report
from robust_nlp.attacks.needs import NEEDS, NEVER, Given
from robust_nlp.attacks.settings import NAMES
from robust_nlp.cli import app
from robust_nlp.errors import DataError

#: What a machine has, besides the settings.
FOUND = {"stopwords", "tagger", "tagset", "minilm"}
SWAPS = {"good": ["great", "fine"]}


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    monkeypatch.setenv("ROBUST_NLP_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "find_spec", lambda name: object())
    monkeypatch.setattr(
        doctor.metadata, "version", {"textattack": "0.3.11", "transformers": "4.57.6"}.get
    )
    needs = {
        name: need
        if name in ("neighbours", "masked-lm")
        else need._replace(find=lambda _, there=name in FOUND: "here" if there else None)
        for name, need in NEEDS.items()
    }
    monkeypatch.setattr(plans, "NEEDS", needs)


def run(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["doctor", *arguments])


def test_every_attack_and_recipe_has_a_row():
    found = {each.name: each for each in diagnose()}
    assert set(found) == {*NAMES, "input-reduction", *NEVER} == set(ATTACKS)
    assert not any(each.runs or each.runs_helped for each in found.values() if each.name in NEVER)
    said = report(found.values(), width=200)
    for name in (*NAMES, *NEVER):
        assert name in said


def test_what_runs_and_under_which_name():
    found = {each.name: each for each in diagnose((), Given(swaps=SWAPS))}
    running = {name for name, each in found.items() if each.runs}
    assert running == {"deepwordbug", "pruthi", "a2t", "input-reduction"}
    helped = {name: each.helped.title(name) for name, each in found.items() if each.runs_helped}
    assert set(helped) - running == {
        "checklist",
        "textfooler",
        "textbugger",
        "bad-characters",
        "iga",
        "fast-genetic",
        "genetic",
    }
    assert helped["textfooler"] == "textfooler[neighbours-2, minilm]"
    assert helped["genetic"] == "genetic[neighbours-2, no-lm]"
    assert helped["deepwordbug"] == "deepwordbug"


def test_the_report_names_what_is_missing_and_what_brings_it():
    said = report(diagnose(["textfooler"]), width=200)
    assert "lacks vectors, encoder" in said
    assert "lacks vectors, neighbours" in said
    for need in ("vectors", "encoder", "neighbours"):
        assert f"get it with: {NEEDS[need].command}" in said
    assert "stopwords" not in said
    assert "never runs" not in said


def test_narrow_terminals_cut_no_name_and_no_command():
    said = report(diagnose(["Seq2SickCheng2018BlackBox", "pso"]), width=40)
    assert "…" not in said
    assert NEEDS["hownet"].command in said


def test_classes_of_textattack_are_known_by_their_names_too():
    (one,) = diagnose(["TextFoolerJin2019"])
    assert one.name == "textfooler"
    (two,) = diagnose(["A2TYoo2021"])
    assert not two.runs  # TextAttack's own A2T; "a2t" is ours
    with pytest.raises(DataError, match=r"Did you mean 'textfooler'"):
        diagnose(["textfoler"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 0),
        (("deepwordbug", "pruthi"), 0),
        (("deepwordbug", "textfooler"), 1),
        (("checklist",), 1),
        (("checklist", "--stand-ins"), 0),
        (("pwws", "--stand-ins"), 1),
        (("HotFlipEbrahimi2017", "--stand-ins"), 1),
        (("nothing",), 2),
    ],
)
def test_the_exit_code_is_about_attacks_that_were_named(arguments, code):
    done = run(*arguments)
    assert done.exit_code == code, done.output


def test_settings_are_looked_at(tmp_path):
    assert run("bae", "--stand-ins").exit_code == 1
    (tmp_path / "config.json").write_text("{}")
    done = run("bae", "--stand-ins", "--masked-lm", str(tmp_path))
    assert done.exit_code == 0
    assert f"bae[mlm-{tmp_path.name}, minilm]" in done.output


def test_without_textattack_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    said = report(diagnose(["deepwordbug"]))
    assert run("deepwordbug").exit_code == 1
    assert 'pip install "robust-nlp[attack]"' in said


def test_a_release_that_textattack_cannot_use_is_named(monkeypatch):
    versions = {"textattack": "0.3.11", "transformers": "5.23.0"}
    monkeypatch.setattr(doctor.metadata, "version", versions.get)
    assert "it needs a release below 5" in report(diagnose(["deepwordbug"]))
    assert run("deepwordbug").exit_code == 1
