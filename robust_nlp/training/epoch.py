"""Which epoch it is, for what draws anew in each."""

from __future__ import annotations

import torch


class EpochAware:
    """Draws anew in each epoch; a callback says which one begins."""

    def __init__(self) -> None:
        # Worker processes may outlive an epoch; they see it change through shared memory.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """The epoch whose randomness is drawn, from 0, also for running worker processes."""
        return int(self._epoch.item())

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)
