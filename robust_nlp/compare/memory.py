"""The memory that a piece of work takes at most, beyond what was held before."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Peak:
    """The memory that a piece of work took at most.

    Attributes:
        bytes: What it held more at once than was held before it, in this process, or on a GPU of
            what torch had given out there; `None` until the end, and where the system does not
            tell (without a GPU, anything but Linux).
        of: "gpu" or "process".
    """

    def __init__(self) -> None:
        self.bytes: int | None = None
        self.of = "process"


@contextmanager
def peak_memory(device: str) -> Iterator[Peak]:
    """Watch how much more memory is held at most until the end of a block than before it.

    What earlier work left behind is given back first, so that it can neither hide in what was held
    before nor be counted as the block's own.

    Args:
        device: The torch device at work.
    """
    import torch

    peak, gpu = Peak(), device.startswith("cuda")
    peak.of = "gpu" if gpu else "process"
    gc.collect()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        before: int | None = torch.cuda.memory_allocated()
    else:
        _give_back()
        before = _status("VmRSS") if _forget_peak() else None
    try:
        yield peak
    finally:
        most = torch.cuda.max_memory_allocated() if gpu else _status("VmHWM")
        if before is not None and most is not None:
            peak.bytes = max(0, most - before)


def _give_back() -> None:
    """Return freed memory to the system, where the C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return  # not glibc


def _forget_peak() -> bool:
    """Let the peak of this process begin anew; tell whether the system could."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False  # not Linux, or not allowed
    return True


def _status(name: str) -> int | None:
    """Return an entry of this process's status in bytes, `None` if the system has none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith(f"{name}:")), None)
    return None if found is None else 1024 * int(found[1])
