"""Gaussian noise on the input embeddings of a Hugging Face model: where it sits, what it hides.

A noisy version of a text is its ids and a seed. The vectors of the ids, plus the noise of the seed,
are put in place of what the input embedding gives, in a forward pass in which the model itself
reads one and the same id for every token of the text. Whatever it does with ids elsewhere (count
positions, look for padding, embed them once more), it learns nothing but their number.

Vectors are rounded to a fine grid first, and the noise is rounded to it too. Sums on a grid are the
rounded sums: noise on grid vectors, drawn exactly and rounded afterwards, has this very law, so
that the certificate of exact normal noise holds. Without the grid, the last digits of a sum of
floating-point numbers tell which vector went into it (Voráček and Hein, ICLR 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from robust_nlp.encoding import ID, UnitEncoder
from robust_nlp.errors import ModelError
from robust_nlp.inputs import Ids, InputBuilder, read
from robust_nlp.mechanisms.base import FloatArray, IntArray, Law, Profile
from robust_nlp.mechanisms.gaussian import GaussianEmbedding, GaussianLaw
from robust_nlp.swaps import AllowedSwaps

#: Grid steps are sigma over a number between this and its double.
GRID = 1_024

#: Distances are rounded up by this much, relatively: more than their computation may lose.
ROUNDED_UP = 1e-10

#: Pairs of vectors whose distance is computed at once.
PAIRS = 4_096

#: Added to positions of tokens, to tell them from ids.
_MARK = 1 << 30


class NoisyInput(NamedTuple):
    """One noisy version of a text; equal ones get equal answers.

    Attributes:
        ids: The input of the text as it is; see `InputBuilder`.
        shown: The same with one ordinary token in place of every token that is open to edits.
        seed: Seed of the noise.
        sigma: Standard deviation of the noise.
    """

    ids: bytes
    shown: bytes
    seed: int
    sigma: float


class Swap(NamedTuple):
    """A claimed swap as the tokens it exchanges, as many as before.

    Attributes:
        start: Place of the first token in the body of the text.
        own: Ids of the word.
        other: Ids of the word that may replace it.
    """

    start: int
    own: Ids
    other: Ids


def grid_step(sigma: float) -> float:
    """Return the step of the grid, a power of two, so that multiples of it are exact."""
    return math.ldexp(1.0, math.frexp(sigma)[1] - 1) / GRID


def on_grid(vectors: torch.Tensor, sigma: float) -> torch.Tensor:
    """Round vectors to the grid, in single precision."""
    step = grid_step(sigma)
    return torch.round(vectors.float() / step) * step


def gaussian_noise(
    seeds: Sequence[int], n_tokens: int, dimension: int, *, sigma: float
) -> npt.NDArray[np.float32]:
    """Return the noise of each seed, on the grid; shape `(seeds, tokens, dimension)`.

    It depends on the seed alone; fewer tokens have the noise of the first of more.
    """
    step = grid_step(sigma)
    noise = np.empty((len(seeds), n_tokens * dimension), np.float32)
    for row, seed in zip(noise, seeds, strict=True):
        # In double precision: single precision would be too coarse for the cells of the grid.
        drawn = np.random.Generator(np.random.Philox(key=seed)).standard_normal(noise.shape[1])
        row[:] = np.rint(drawn * (sigma / step)) * step
    return noise.reshape(len(seeds), n_tokens, dimension)


def noisy_rows(
    model: Any, sigmas: torch.Tensor, seeds: torch.Tensor
) -> AbstractContextManager[None]:
    """Add noise to the embeddings of some rows of a batch in one forward pass.

    The noise of a row depends on its seed alone, not on the batch.

    Args:
        model: The model, which is not wrapped.
        sigmas: Standard deviation of the noise of each row, 0 for none; shape `(rows,)`.
        seeds: Its seed; shape `(rows,)`.

    Raises:
        ModelError: If the model has no table of embeddings, or does not use it once in a pass.
    """
    noisy = sigmas.nonzero().squeeze(1)

    def add(vectors: torch.Tensor) -> torch.Tensor:
        noise = gaussian_noise(seeds[noisy].tolist(), *vectors.shape[1:], sigma=1.0)
        scaled = (
            torch.from_numpy(noise).to(vectors.device) * sigmas[noisy].to(vectors)[:, None, None]
        )
        return vectors.index_add(0, noisy.to(vectors.device), scaled.to(vectors))

    return embeddings_changed(input_embedding(model), add)


def input_embedding(model: Any) -> torch.nn.Embedding:
    """Return the input embedding of a model.

    Raises:
        ModelError: If it is no table with a row for each id.
    """
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError:
        embedding = None
    if not isinstance(embedding, torch.nn.Embedding):
        raise ModelError(
            "noise on embeddings needs a model whose get_input_embeddings() is a "
            f"torch.nn.Embedding; that of {type(model).__name__} is {type(embedding).__name__}"
        )
    return embedding


@contextmanager
def embeddings_changed(
    embedding: torch.nn.Embedding, change: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Change what an input embedding gives in one forward pass of its model.

    Raises:
        ModelError: If the pass does not use the embedding exactly once, or changes its shape.
    """
    calls = 0

    def hook(_module: Any, _inputs: Any, vectors: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        changed = change(vectors)
        if changed.shape != vectors.shape:
            raise ModelError(
                f"the input embedding gave vectors of shape {tuple(vectors.shape)} for noise of "
                f"shape {tuple(changed.shape)}: the model rearranges texts before it embeds them, "
                "which noise on embeddings cannot follow"
            )
        return changed

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    if calls != 1:
        raise ModelError(
            f"noise on embeddings needs a model that uses its get_input_embeddings() once in a "
            f"forward pass; this one used it {calls} times (an encoder with a decoder?)"
        )


@torch.no_grad()
def check_embedding(model: Any) -> None:
    """Check on one short text that noise can take the place that it should.

    Raises:
        ModelError: If the model has no embedding table, uses it not once but several times or
            never, or rearranges what it reads.
    """
    embedding = input_embedding(model)
    ids = torch.full((1, 3), placeholder_id(model.config))
    if model.config.is_encoder_decoder:  # some look for the end of the text
        ids[0, -1] = model.config.eos_token_id
    expected = torch.zeros(*ids.shape, embedding.embedding_dim)
    training = model.training
    model.eval()
    try:
        with embeddings_changed(embedding, lambda vectors: expected.to(vectors)):
            model(input_ids=ids.to(embedding.weight.device))
    finally:
        model.train(training)


@contextmanager
def noisy_embeddings(model: Any, batch: Sequence[NoisyInput]) -> Iterator[None]:
    """Let a model that reads what is shown of noisy texts see their noisy vectors.

    Args:
        model: The model; exactly one forward pass is made inside.
        batch: Noisy texts of equal length and sigma.

    Raises:
        ModelError: See `embeddings_changed`.
    """
    embedding, sigma = input_embedding(model), batch[0].sigma
    ids = torch.from_numpy(read([key.ids for key in batch])[0].astype(np.int64))
    with torch.no_grad():
        clean = embedding(ids.to(embedding.weight.device))
        noise = gaussian_noise([key.seed for key in batch], *clean.shape[1:], sigma=sigma)
        vectors = on_grid(clean, sigma) + torch.from_numpy(noise).to(clean.device)
    with embeddings_changed(embedding, lambda _: vectors.to(clean.dtype)):
        yield


class OpenVectors:
    """One text, ready to be noised as embeddings.

    Args:
        units: The words of the text.
        mechanism: The noise.
        model: The model, whose table says how far apart words are.
        encoder: Turns words into ids.
        builder: Turns ids into inputs.
        partner: The protected text of a pair, which is seen as it is, under noise.

    Raises:
        ModelError: If the tokenizer does not split texts word by word, or the model has no table.
    """

    def __init__(
        self,
        units: Sequence[str],
        mechanism: GaussianEmbedding,
        model: Any,
        encoder: UnitEncoder,
        builder: InputBuilder,
        partner: str | None,
    ) -> None:
        (body,) = encoder.open(units, ()).encode(np.arange(len(units))[None])
        n_tokens = len(body) // ID.itemsize
        hidden = np.full(n_tokens, placeholder_id(model.config), ID).tobytes()
        self._ids, self._shown = builder.build([body, hidden], partner)
        self._sigma = mechanism.sigma
        numbered = np.arange(_MARK, _MARK + n_tokens, dtype=ID).tobytes()
        places = read(builder.build([numbered], partner))[0][0]
        seen = np.isin(np.arange(n_tokens), places - _MARK)
        swaps = claimed_swaps(units, mechanism.allowed, encoder)
        self.law: Law = GaussianLaw(swap_distances(swaps, seen, model, sigma=mechanism.sigma))

    def encode(self, rows: IntArray) -> list[NoisyInput]:
        return [
            NoisyInput(self._ids, self._shown, seed, self._sigma) for seed in rows[:, 0].tolist()
        ]


def placeholder_id(config: Any) -> int:
    """Return an id in which a model with this configuration sees nothing but an ordinary token."""
    names = [name for name in dir(config) if name.endswith("_token_id")]
    special = {getattr(config, name, None) for name in names}
    return next(i for i in range(config.vocab_size) if i not in special)


def claimed_swaps(
    units: Sequence[str], allowed: AllowedSwaps, encoder: UnitEncoder
) -> list[list[Swap]]:
    """Return, for each word of a text, the swaps that leave the number of tokens as it is.

    Only swaps of words whose tokens are known not to depend on their neighbours are claimed, and
    none in a text with another word, which is tokenized as a whole: so any number of them together
    exchange just their own tokens.

    Raises:
        ModelError: If the tokenizer does not split texts word by word.
    """
    swaps = [allowed.of(unit) for unit in units]
    pieces = encoder.pieces([*units, *(word for words in swaps for word in words)], ())
    if pieces is None:
        raise ModelError(
            "noise on embeddings certifies swaps of words, and needs a tokenizer that splits texts "
            "word by word; this one has tokens that reach across words"
        )
    if any(i < len(units) for i in pieces.unsafe):
        return [[] for _ in units]
    claimed: list[list[Swap]] = []
    start, j = len(pieces.prefix) // ID.itemsize, len(units)
    for i, words in enumerate(swaps):
        ids = pieces.later if i else pieces.first
        own = np.frombuffer(ids[i], ID)
        others = [np.frombuffer(ids[k], ID) for k in range(j, j + len(words))]
        claimed.append(
            [
                Swap(start, own, other)
                for k, other in enumerate(others, start=j)
                if k not in pieces.unsafe and len(other) == len(own)
            ]
        )
        start, j = start + len(own), j + len(words)
    return claimed


def swap_distances(
    swaps: Sequence[Sequence[Swap]], seen: npt.NDArray[np.bool_], model: Any, *, sigma: float
) -> Profile:
    """Return, for each word, how far its swaps move the embeddings of the text, sorted.

    Args:
        swaps: The claimed swaps of each word.
        seen: Which tokens of the body the model reads; the others move nothing; shape `(tokens,)`.
        model: The model.
        sigma: Standard deviation of the noise, which fixes the grid.
    """
    flat = [swap for word in swaps for swap in word]
    squares = np.zeros(len(flat))
    if flat:
        owner = np.repeat(np.arange(len(flat)), [len(swap.own) for swap in flat])
        pairs = np.stack(
            [np.concatenate([s.own for s in flat]), np.concatenate([s.other for s in flat])], axis=1
        )
        read_ = np.concatenate([seen[swap.start : swap.start + len(swap.own)] for swap in flat])
        np.add.at(squares, owner[read_], _squared_distances(pairs[read_], model, sigma))
    distances = iter((np.sqrt(squares) * (1.0 + ROUNDED_UP)).tolist())
    return tuple(tuple(sorted(next(distances) for _ in word)) for word in swaps)


@torch.no_grad()
def _squared_distances(pairs: Ids, model: Any, sigma: float) -> FloatArray:
    """Squared distances between the grid vectors of pairs of ids; shape `(pairs,)`."""
    distinct, place = np.unique(pairs, return_inverse=True)
    embedding = input_embedding(model)
    ids = torch.from_numpy(distinct.astype(np.int64)).to(embedding.weight.device)
    vectors = on_grid(embedding(ids), sigma).cpu().numpy()
    if not np.isfinite(vectors).all():
        raise ModelError("the embedding table holds numbers that are not finite (NaN or infinite)")
    squares = np.empty(len(pairs))
    for start in range(0, len(pairs), PAIRS):
        one, other = vectors[place.reshape(-1, 2)[start : start + PAIRS].T].astype(np.float64)
        squares[start : start + PAIRS] = np.square(one - other).sum(axis=1)
    return squares
