"""A learned linear map of the embedding table that pulls allowed swaps together.

The rows of a table are far apart even for synonyms, so that noise that hides a swap hides the text.
Here every row goes through one linear map P before the noise. P is learned with the classifier by

    classification loss under noise + collapse * mean squared distance of allowed swaps / sigma²,

where the weight collapse grows over the first half of the training.

Neither term wins by scaling the table. Were all rows to shrink, the noise of fixed sigma would
drown what tells classes apart, and the classification loss would rise. Were all to grow, so as to
drown the noise, the distances of swaps over sigma would grow as well. What is left is to shrink the
directions in which synonyms differ and classes do not. One map for all rows, unlike moves of single
rows, does so for words outside the training texts, too.

After training, P is folded into the table: a row e becomes P e. The result is a checkpoint like any
other, and certificates measure distances in its own table. They are valid whatever P is.
"""

from __future__ import annotations

from typing import Any

import torch

from robust_nlp.embedding_noise import input_embedding
from robust_nlp.errors import ModelError

#: How much faster the map moves than the weights, which begin well trained: the optimizer steps of
#: P - I are multiplied by it. Weight decay draws P to the identity.
PACE = 10.0


class ProjectedEmbedding(torch.nn.Embedding):
    """A table whose rows e are read as P e, where P starts at the identity.

    Args:
        table: The table that is read; its weights are shared.
        rank: Rank of P - I at most, at least 1; `None` for no limit.
        seed: Seed of the directions in which a P of limited rank starts to move.

    Raises:
        ModelError: If the table is more than a table (scaled, with bounded norms, sparse), or has
            fewer columns than the rank.
    """

    def __init__(self, table: torch.nn.Embedding, *, rank: int | None = None, seed: int = 0):
        if type(table) is not torch.nn.Embedding or table.max_norm is not None or table.sparse:
            raise ModelError(
                "a projection needs an input embedding that is a plain torch.nn.Embedding; got "
                f"{type(table).__name__}"
            )
        super().__init__(
            table.num_embeddings,
            table.embedding_dim,
            padding_idx=table.padding_idx,
            _weight=table.weight.detach(),
        )
        size = table.embedding_dim
        if rank is not None and not 1 <= rank <= size:
            raise ModelError(f"rank must be in 1..{size}, the columns of the table; got {rank}")
        inner = size if rank is None else rank
        self.left = torch.nn.Parameter(torch.zeros(size, inner).to(self.weight))
        self.right: torch.nn.Parameter | None = None
        if rank is not None:
            start = torch.randn(rank, size, generator=torch.Generator().manual_seed(seed))
            self.right = torch.nn.Parameter((start / size**0.5).to(self.weight))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.map(super().forward(input))

    def map(self, rows: torch.Tensor) -> torch.Tensor:
        """Return P e for each row e."""
        inner = rows if self.right is None else rows @ self.right.T
        return rows + PACE * (inner @ self.left.T)


def project(model: Any, *, rank: int | None = None, seed: int = 0) -> None:
    """Let a model read its embedding table through a linear map that is learned with it.

    Raises:
        ModelError: See `ProjectedEmbedding`.
    """
    table = input_embedding(model)
    model.set_input_embeddings(ProjectedEmbedding(table, rank=rank, seed=seed))


@torch.no_grad()
def fold(model: Any) -> None:
    """Make the projected table of a model its plain table; nothing happens without a projection."""
    projected = input_embedding(model)
    if not isinstance(projected, ProjectedEmbedding):
        return
    plain = torch.nn.Embedding(
        projected.num_embeddings,
        projected.embedding_dim,
        padding_idx=projected.padding_idx,
        _weight=projected.map(projected.weight),
    )
    plain.train(projected.training)
    model.set_input_embeddings(plain)
