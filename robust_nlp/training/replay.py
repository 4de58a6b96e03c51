"""The same dropout masks in several forward passes: the state of random numbers, put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch


class RandomState(NamedTuple):
    """The state of torch's global generators.

    Attributes:
        cpu: State of the CPU's.
        cuda: States of all GPUs', in order; none if no GPU was used so far.
        mps: State of the GPU of a Mac; `None` if there is none.
    """

    cpu: torch.Tensor
    cuda: tuple[torch.Tensor, ...]
    mps: torch.Tensor | None

    @classmethod
    def now(cls) -> RandomState:
        """Return the present state."""
        return cls(
            torch.get_rng_state(),
            tuple(torch.cuda.get_rng_state_all()) if _uses_cuda() else (),
            torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        )

    def restore(self) -> None:
        """Make this the present state."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)


def _uses_cuda() -> bool:
    uses: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return uses


@contextmanager
def replayed(state: RandomState) -> Iterator[None]:
    """Go on from an earlier state inside; afterwards, it is as if nothing had been drawn inside."""
    before = RandomState.now()
    state.restore()
    try:
        yield
    finally:
        before.restore()
