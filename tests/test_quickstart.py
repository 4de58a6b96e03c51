"""The quickstart goes from nothing to reports and a comparison."""

from __future__ import annotations

import pytest

from robust_nlp import quickstart


@pytest.mark.slow  # trains and certifies the embedded encoder twice, as little as possible
def test_the_quickstart_writes_reports_compares_and_resumes(tmp_path):
    little = [
        "train.args.max_steps=2",
        "train.args.per_device_train_batch_size=4",
        "train.selection_limit=4",
        "certify.limit=4",
        "certify.plan.max_votes=40",
        "score.limit=4",
        "score.plan.max_votes=40",
        "compare.timed=1",
    ]
    said = quickstart.run(tmp_path, little)
    for name in ("plain", "deletion"):
        page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        assert "certified" in page
        assert str(tmp_path / name / "report.html") in said
    assert "\n- plain: smoothed" in said
    assert "\n- unsmoothed: not smoothed, with the classifier of plain" in said
    assert "deletion" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert quickstart.run(tmp_path, little) == said
