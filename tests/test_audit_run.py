"""The audit of a run: on disk, resumed, by several processes, from the command line, reported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from conftest import launch_two
from typer.testing import CliRunner

from robust_nlp import pipeline
from robust_nlp.audit import AuditSettings, audit_run
from robust_nlp.audit.files import AuditFiles
from robust_nlp.audit.run import PART_SIZE
from robust_nlp.cli import app
from robust_nlp.errors import DataError, RunMismatchError
from robust_nlp.recipe import recipe_from_dict, recipe_to_dict
from robust_nlp.report import write_report
from robust_nlp.reporting.schema import ReportFile
from robust_nlp.results import RunDirectory

#: Small, for a model of random weights.
FEW = AuditSettings(votes=8, judge_votes=80, forwards=60)
OPTIONS = ("--votes", 8, "--judge-votes", 80, "--forwards", 60)
TEXTS = PART_SIZE + 3


@pytest.fixture
def run(tiny_recipe, tmp_path) -> RunDirectory:
    """Eleven certified texts."""
    return pipeline.certify(tiny_recipe, tmp_path / "run", limit=TEXTS)


def rows(run: RunDirectory):
    return [dataclasses.replace(row, seconds=0.0) for row in AuditFiles(run.path).rows()]


def turn_around(run: RunDirectory) -> None:
    """Give every certificate to the other class: its votes are counted the wrong way round."""
    for start, stop in sorted(run.parts_done()):
        changed = [
            {
                **row,
                "exact": row["exact"][::-1],
                "selection": row["selection"][::-1],
                "looks": [look[::-1] for look in row["looks"]],
            }
            for row in run.rows()
            if start <= row["example_id"] < stop
        ]
        run.write_part(start, stop, changed)


def command(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_run_is_audited_text_by_text(run):
    found = audit_run(run.path, FEW)
    certified = [row for row in run.rows() if row["predicted"] is not None]
    assert found.texts == len({row["text_hash"] for row in certified}) > 3
    assert found.passed
    audited = rows(run)
    assert [row.example_id for row in audited] == list(range(TEXTS))
    by_id = {row["example_id"]: row for row in run.rows()}
    for row in audited:
        assert row.predicted == by_id[row.example_id]["predicted"]
        if row.predicted is not None:
            assert row.balls[0].radius == by_id[row.example_id]["radius"]
            assert len(row.balls) == 4
            assert row.judged[0].attacked == row.text
            assert set(row.judged[0].distances.values()) == {0.0}
            assert row.forwards <= 60
    assert sum(ball.candidates for row in audited for ball in row.balls) == found.candidates > 100


def test_an_interrupted_audit_goes_on_to_the_same_rows(run):
    whole = audit_run(run.path, FEW)
    before = rows(run)
    first, last = sorted((run.path / "audit").glob("part-*.jsonl"))
    last.unlink()
    assert audit_run(run.path, FEW) == whole
    assert rows(run) == before
    first.unlink()
    assert audit_run(run.path, FEW, limit=3) != whole  # rows of both ends, none in between
    assert audit_run(run.path, FEW) == whole
    assert rows(run) == before


def test_other_settings_or_certificates_are_refused_and_fresh_helps(run, tiny_recipe):
    audit_run(run.path, FEW, limit=2)
    other = dataclasses.replace(FEW, seed=1)
    with pytest.raises(RunMismatchError, match=r"seed: 0 in the audit, 1 now"):
        audit_run(run.path, other, limit=2)
    audit_run(run.path, dataclasses.replace(FEW, alpha=0.05), limit=2)  # verdicts only
    audit_run(run.path, other, limit=2, fresh=True)
    pipeline.certify(tiny_recipe, run.path, limit=TEXTS + 1)
    with pytest.raises(RunMismatchError, match="certificates: "):
        audit_run(run.path, other, limit=2)


def test_another_classifier_is_refused(run):
    manifest = run.manifest()
    manifest["classifier"]["content_hash"] = "another"
    run.update_manifest(classifier=manifest["classifier"])
    with pytest.raises(RunMismatchError, match="holds certificates of another classifier"):
        audit_run(run.path, FEW)


def test_a_run_without_certificates_is_refused(run):
    for part in run.certificates.glob("*.parquet"):
        part.unlink()
    with pytest.raises(DataError, match="holds no certificates to audit"):
        audit_run(run.path, FEW)


def test_the_command_passes_an_honest_run(run):
    result = command("audit", run.path, *OPTIONS, "--limit", 4)
    assert result.exit_code == 0, result.output
    assert "this is no proof." in result.stdout


def test_the_command_fails_a_wrong_run_and_prints_the_evidence(run):
    turn_around(run)
    result = command("audit", run.path, *OPTIONS)
    assert result.exit_code == 1, result.output
    assert "The audit fails: a certificate is wrong." in result.stdout
    assert "at distance 0 (words) the answer is" in result.stdout
    assert "  changes:  " in result.stdout
    assert "Traceback" not in result.output


def test_texts_are_not_printed_where_the_recipe_says_so(run, tiny_recipe):
    quiet = dataclasses.replace(tiny_recipe.report, texts=False)
    pipeline.certify(dataclasses.replace(tiny_recipe, report=quiet), run.path, limit=TEXTS)
    turn_around(run)
    result = command("audit", run.path, *OPTIONS, "--fresh")
    assert result.exit_code == 1
    assert "  text:  " not in result.stdout
    assert "at distance 0 (words) the answer is" in result.stdout


def laid_out(run):
    """Read report.json, which has the published layout."""
    found = json.loads((run / "report.json").read_text(encoding="utf-8"))
    ReportFile.model_validate(found)
    return found


def test_the_report_shows_the_audit_of_its_certificates_only(run):
    assert "Audit" not in write_report(run.path)
    audit_run(run.path, FEW, limit=4)
    table = " ".join(write_report(run.path).split())
    assert "The audit has seen 4 of 11 texts. No contradiction found in " in table
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "this is no proof." in page
    facts = laid_out(run.path)["audit"]
    assert facts["passed"]
    assert facts["contradictions"] == []
    turn_around(run)
    assert "Audit" not in write_report(run.path)
    audit_run(run.path, FEW, fresh=True)
    assert "The audit fails" in write_report(run.path)
    assert laid_out(run.path)["audit"]["contradictions"]
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert '<strong class="mark">The audit fails: a certificate is wrong</strong>' in page
    assert "at distance 0 the answer is" in page


UNITS = {
    "character": {"kind": "randomized_deletion", "p_del": 0.8, "unit": "character"},
    "token": {"kind": "randomized_deletion", "p_del": 0.8, "unit": "token"},
    "gaussian": {
        "kind": "gaussian_embedding",
        "sigma": 0.5,
        "swaps": {"good": ["great", "fine"], "bad": ["poor"], "film": ["plot", "enjoyable-x"]},
    },
}


@pytest.mark.filterwarnings("ignore:.*texts:robust_nlp.errors.RobustNLPWarning")
@pytest.mark.parametrize("kind", UNITS)
def test_other_units_and_noise_are_audited_too(kind, tiny_recipe, tmp_path):
    values = {**recipe_to_dict(tiny_recipe), "mechanism": UNITS[kind]}
    values["certify"] = {**values["certify"], "attackers": ["substitute"]}
    run = pipeline.certify(recipe_from_dict(values), tmp_path / kind, limit=6)
    found = audit_run(run.path, FEW)
    assert found.passed
    assert found.judged >= found.texts > 0
    for row in rows(run):
        for judged in row.judged:
            assert set(judged.distances) == {"substitute"}
    if kind == "gaussian":  # "enjoyable-x" has more tokens than "film"
        attacked = " ".join(judged.attacked for row in rows(run) for judged in row.judged)
        assert "enjoyable-x" not in attacked
        assert any("plot" in row.units or "film" in row.units for row in rows(run))


@pytest.mark.slow  # starts Python processes that import torch
def test_two_processes_share_the_texts_and_give_the_rows_of_one(run):
    audit_run(run.path, FEW)
    before = rows(run)
    script = Path(__file__).parents[1] / "scripts" / "audit.py"
    done = launch_two(script, run.path, *map(str, OPTIONS), "--fresh")
    assert "No contradiction found in" in done.stdout
    assert done.stdout.count("this is no proof.") == 1
    assert rows(run) == before
