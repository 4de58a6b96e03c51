"""The most memory that a piece of work takes."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Peak:
    """The most memory that this process held at once.

    Attributes:
        bytes: What the process had, or on a GPU what torch had given out there; 0 until the end.
        of: "gpu" or "process".
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.of = "process"


@contextmanager
def peak_memory(device: str) -> Iterator[Peak]:
    """Watch how much memory is held at most until the end of a block.

    On a GPU it is the memory of tensors there; else that of the whole process, libraries included,
    where only Linux tells that of the block from that of what ran before it.

    Args:
        device: The torch device at work.
    """
    import torch

    peak, gpu = Peak(), device.startswith("cuda")
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        _forget_peak()
    try:
        yield peak
    finally:
        peak.of = "gpu" if gpu else "process"
        peak.bytes = torch.cuda.max_memory_allocated() if gpu else _process_peak()


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # not Linux, or not allowed


def _process_peak() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
