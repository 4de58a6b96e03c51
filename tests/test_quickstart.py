"""The quickstart goes from nothing to two reports."""

from __future__ import annotations

import pytest

from robust_nlp import quickstart


@pytest.mark.slow  # trains and certifies the embedded encoder twice, as little as possible
def test_the_quickstart_writes_two_reports_and_resumes(tmp_path):
    little = [
        "train.args.max_steps=2",
        "train.args.per_device_train_batch_size=4",
        "train.selection_limit=4",
        "certify.limit=4",
        "certify.plan.max_votes=40",
    ]
    said = quickstart.run(tmp_path, little)
    for name in ("plain", "deletion"):
        page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        assert "certified" in page
        assert str(tmp_path / name / "report.html") in said
    assert quickstart.run(tmp_path, little) == said
