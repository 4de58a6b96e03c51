"""How the weight of a penalty rises during training."""

from __future__ import annotations


def ramp(step: int, total: int, *, start: float, end: float) -> float:
    """Return the share of its full weight that a penalty has in an optimizer step, in `[0, 1]`.

    It is 0 until `start`, then rises evenly, and is 1 from `end` on.

    Args:
        step: Optimizer steps done before, from 0.
        total: Optimizer steps of the whole training.
        start: Share of `total` after which the weight rises, in `[0, 1]`.
        end: Share of `total` after which it is full, at least `start`; equal to it for a jump.

    Departs: DomainBed jumps to the full weight and begins with a new optimizer there; a Trainer's
        schedule and checkpoints hold on to the old one, so the weight rises slowly instead.
    """
    done = step / max(total, 1)
    if done >= end:
        return 1.0
    if done <= start:
        return 0.0
    return (done - start) / (end - start)
