"""Certification by several processes, and by one that is killed: always the same rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import launch_two

from robust_nlp.pipeline import certify
from robust_nlp.recipe import recipe_to_yaml
from robust_nlp.results import RunDirectory

SCRIPT = Path(__file__).parents[1] / "scripts" / "certify.py"

# What a row says of its cost depends on the way; everything else must not.
COST = {"seconds", "votes_classified"}

pytestmark = pytest.mark.slow  # each test starts Python processes that import torch


def results_of(run: RunDirectory) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in COST} for row in run.rows()]


@pytest.fixture
def recipe_file(tiny_recipe, tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_to_yaml(tiny_recipe), encoding="utf-8")
    return path


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_two_processes_share_the_parts_and_give_the_rows_of_one(tiny_recipe, recipe_file, tmp_path):
    launch_two(SCRIPT, recipe_file, "--output", tmp_path / "two")
    two = RunDirectory(tmp_path / "two")
    assert two.manifest()["stages"]["certify"]["processes"] == 2
    assert two.manifest()["stages"]["certify"]["complete"] is True
    one = certify(tiny_recipe, tmp_path / "one")
    assert results_of(two) == results_of(one)
    assert two.parts_done() == one.parts_done()


def test_a_killed_run_goes_on_to_the_same_rows(tiny_recipe, recipe_file, tmp_path):
    """The killed process has finished one part and is busy with another."""
    slowly = (
        "import sys, time\n"
        "from robust_nlp.cli import app\n"
        "from robust_nlp.results import RunDirectory\n"
        "write = RunDirectory.write_part\n"
        "def write_and_wait(*arguments):\n"
        "    write(*arguments)\n"
        "    time.sleep(300)\n"
        "RunDirectory.write_part = write_and_wait\n"
        "app(sys.argv[1:])"
    )
    run = RunDirectory(tmp_path / "killed")
    process = subprocess.Popen(
        [sys.executable, "-c", slowly, "certify", recipe_file, "--output", run.path],
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 240
        while not run.parts_done() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run.parts_done() == {(0, 8)}
    (run.certificates / ".part-000008-000015.parquet.1.tmp").write_bytes(b"half a part")
    certify(tiny_recipe, run.path)
    assert run.manifest()["stages"]["certify"]["complete"] is True
    assert results_of(run) == results_of(certify(tiny_recipe, tmp_path / "whole"))
    assert all(path.suffix == ".parquet" for path in run.certificates.iterdir())
