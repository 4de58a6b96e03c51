"""Sums over processes whose gradients are those of one process with all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from robust_nlp.fishr.batch import alternate


def sum_over_processes(local: torch.Tensor) -> torch.Tensor:
    """Add up a tensor over all processes, with a gradient for gradients that are averaged.

    Every process gets the same sum and computes the same loss of it, but only its own rows carry
    gradients. Data parallel training averages the gradients of the R processes, so that each has
    to be R times its own part: the gradient of the sum with respect to the local tensor is R.

    Args:
        local: This process's part, of the same shape in all processes.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return local
    total = local.detach().clone()
    dist.all_reduce(total)
    if not local.requires_grad:
        return total
    return total + dist.get_world_size() * (local - local.detach())


def halves_over_processes(groups: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Let the rows of each domain fall in two halves in turn, as one process with all rows would.

    Args:
        groups: Domain of each row of this process; shape `(rows,)`.
        sizes: Rows of each of its accumulated batches. The first batches of all processes come
            before the second.

    Returns:
        0 or 1 for each row of this process.
    """
    mine = [part.tolist() for part in torch.split(groups, list(sizes))]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    in_order = [part for batches in zip(*everyone, strict=True) for part in batches]
    halves = alternate(torch.tensor([group for part in in_order for group in part]))
    own = torch.split(halves, [len(part) for part in in_order])[dist.get_rank() :: len(everyone)]
    return torch.cat(own).to(groups.device)
