"""Every example runs to its end, offline, and says what it should."""

from __future__ import annotations

import re
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest
from attack_victims import attack_data  # noqa: F401

FOLDER = Path(__file__).parents[1] / "examples"
STORIES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "small_models")


def percentages(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"(\d+(?:\.\d+)?) ?%", text)]


def certifies(said: str) -> None:
    assert re.search(r"One text: Certificate\(class 1, radius [1-3] word edits", said)
    assert "'Greta' for 'Great' is inside" in said
    assert "Smoothed answer to it: [1]" in said
    curve = percentages(said)[:4]
    assert curve == sorted(curve, reverse=True)
    assert curve[0] > 60
    assert curve[1] > 20


def adds_a_mechanism(said: str) -> None:
    claims = re.search(r"([\d,]+) claims", said)
    assert claims is not None
    assert int(claims[1].replace(",", "")) > 100
    assert "against substitute is too large: from the clean text" in said
    assert said.count("Certificate(") == 6


def measures(said: str) -> None:
    plain = next(line for line in said.splitlines() if line.startswith("plain: "))
    assert percentages(plain)[0] > 70
    table, _, comparison = said.partition("Accuracy of the plain less")
    rows = [line for line in table.splitlines() if "delete_words[most_important" in line]
    scores = [[float(n) for n in re.findall(r"([+-]\d\.\d{3}) \[", row)] for row in rows]
    assert len(scores) == 2
    # Without its most important words, a text is answered worse and worse.
    assert all(0.0 < row[0] <= row[-1] for row in scores)
    assert len(re.findall(r"p [01]\.\d\d$", comparison, re.M)) == 5


def attacks_and_audits(said: str) -> None:
    assert re.search(r"audit: [1-9][\d,]* texts tried, 0 contradictions", said)
    if find_spec("textattack") is None:
        assert "The attacks are left out" in said
        return
    for name in ("plain", "smoothed"):
        line = next(line for line in said.splitlines() if line.startswith(f"{name}: "))
        clean, attacked = percentages(line)
        assert attacked <= clean
    assert "swapped_letters" in said or "deepwordbug" in said


def learns_two_domains(said: str) -> None:
    accuracies = dict(re.findall(r"(\w+): ([\d.]+)% right where the clue is wrong", said))
    assert list(accuracies) == ["reweighted_erm", "fishr"]
    assert all(float(accuracy) > 55 for accuracy in accuracies.values())
    control, fishr = said.split("fishr: ")
    assert "penalty 0" not in control
    assert len(re.findall(r"penalty [\d.e-]+, penalty_weight", fishr)) == 6
    assert fishr.rstrip().endswith("penalty_weight 1e+03")


def shares(said: str) -> None:
    assert "model.safetensors" in said
    assert "smoothing.json" in said
    assert "certified_accuracy" in said
    assert said.count("Certificate(") == 2


def evaluates(said: str) -> None:
    assert re.search(r"'label': 'positive'.*'radius': \d", said)
    accuracy = re.search(r"'accuracy': (\d\.\d+)", said)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.5
    radii = [float(n) for n in re.findall(r"'certified_accuracy_at_\d': (\d\.\d+)", said)]
    assert len(radii) == 3
    assert radii == sorted(radii, reverse=True)


def compares(said: str) -> None:
    for name in ("none", "augmentation", "deletion", "untrained"):
        assert re.search(rf"^- {name}: |^{name}: ", said, re.M)
    assert "on the Pareto front" in said
    calls = dict(re.findall(r"^(\w+): (\d+) calls", said, re.M))
    assert calls["none"] == calls["augmentation"] == "1"
    assert int(calls["deletion"]) > 10
    assert Path("runs/comparison/report.html").is_file()


CHECKS = {
    "add_a_mechanism": adds_a_mechanism,
    "attack_and_audit": attacks_and_audits,
    "certify_your_classifier": certifies,
    "compare_methods": compares,
    "evaluate_a_pipeline": evaluates,
    "fishr_two_domains": learns_two_domains,
    "measure_robustness": measures,
    "share_a_smoothed_model": shares,
}


def test_every_example_is_checked():
    assert list(CHECKS) == STORIES


@pytest.mark.parametrize("name", STORIES)
def test_an_example_runs_and_says_what_it_should(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    CHECKS[name](capsys.readouterr().out)


@pytest.mark.parametrize("name", STORIES)
def test_an_example_is_short_and_in_cells(name):
    lines = (FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 80
    assert sum(line.startswith("# %%") for line in lines) >= 3
    assert f"python examples/{name}.py" in "\n".join(lines[:12])
