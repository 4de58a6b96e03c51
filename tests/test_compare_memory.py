"""Memory of a piece of work: its own, neither that of the process nor of what came before."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from robust_nlp.compare.memory import peak_memory

MIB = 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def hold(mebibytes: int) -> None:
    np.ones(mebibytes * MIB, np.uint8)


def test_memory_is_that_of_the_block():
    kept = np.ones(150 * MIB, np.uint8)  # held before
    hold(400)  # given back before
    with peak_memory("cpu") as peak:
        hold(100)
        hold(200)
        hold(50)
    assert peak.of == "process"
    assert peak.bytes is not None
    assert 190 * MIB < peak.bytes < 260 * MIB
    hold(500)  # afterwards
    assert peak.bytes < 260 * MIB
    assert kept[0] == 1


def test_small_pieces_that_were_freed_do_not_hide_new_ones():
    pieces = [bytes(1000) for _ in range(200_000)]
    del pieces
    with peak_memory("cpu") as peak:
        again = [bytes(1000) for _ in range(100_000)]
    assert len(again) == 100_000
    assert peak.bytes is not None
    assert 80 * MIB < peak.bytes < 160 * MIB


def test_a_block_that_fails_is_measured():
    with pytest.raises(KeyError), peak_memory("cpu") as peak:  # noqa: PT012
        hold(100)
        raise KeyError
    assert peak.bytes is not None
    assert peak.bytes > 90 * MIB


def test_systems_that_do_not_tell_are_not_guessed(monkeypatch):
    monkeypatch.setattr("robust_nlp.compare.memory._forget_peak", lambda: False)
    with peak_memory("cpu") as peak:
        hold(1)
    assert peak.bytes is None
