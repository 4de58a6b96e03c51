"""Texts as units, keys of examples, and randomness that belongs to an example."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from robust_nlp.threats import Unit


def split_units(text: str, unit: Unit) -> list[str]:
    """Split a text into words (at any white space) or characters (code points).

    Tokens are split by the tokenizer of the base classifier, not here.
    """
    if unit == "word":
        return text.split()
    if unit == "character":
        return list(text)
    raise ValueError("only the base classifier's tokenizer can split a text into tokens")


def join_units(units: Sequence[str], unit: Unit) -> str:
    """Join units to the text that the base classifier reads."""
    return (" " if unit == "word" else "").join(units)


def text_key(*texts: str) -> str:
    """Return a key of one text, or of a text and its partner, that is equal on all machines."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def keyed_rng(seed: int, *key: str | int) -> np.random.Generator:
    """Return a generator that depends on the seed and the key alone.

    Args:
        seed: The seed of the run, at least 0.
        key: What the randomness belongs to, such as (example, stage, chunk).
    """
    entropy = hashlib.blake2b(repr((int(seed), *key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(entropy, "little")))
