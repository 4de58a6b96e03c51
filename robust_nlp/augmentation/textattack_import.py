"""TextAttack, imported late and kept from changing what belongs to the whole process."""

from __future__ import annotations

import logging
import os
import random  # noqa: TID251 - TextAttack draws from its global generator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from robust_nlp.errors import DataError, MissingExtraError, RobustNLPWarning
from robust_nlp.home import nltk_place, serve_own_stop_words
from robust_nlp.swaps import AllowedSwaps

#: Environment variables that TextAttack sets when it is imported.
_ITS_VARIABLES = (
    "HF_HOME",
    "PYTORCH_TRANSFORMERS_CACHE",
    "TFHUB_CACHE_DIR",
    "TOKENIZERS_PARALLELISM",
    "XDG_CACHE_HOME",
)

_STOP_WORDS = (
    "TextAttack needs the stop words of NLTK. Get them with: robust-nlp resources install "
    "stopwords, or set NLTK_DATA to a folder that holds corpora/stopwords"
)

_OWN_STOP_WORDS = (
    "NLTK has no stop words, so that a list of our own stands in for them, which results are named "
    "after. Get NLTK's with: robust-nlp resources install stopwords"
)


def textattack(part: str = "") -> Any:
    """Return TextAttack, or a module inside it such as "transformations".

    Raises:
        MissingExtraError: If TextAttack is not installed, or not with what it needs.
        DataError: If there are no stop words, which TextAttack reads when it is imported, and
            none can be written.

    Warns:
        RobustNLPWarning: The first time, if a stop-word list of our own stands in for NLTK's.
    """
    _import()
    return import_module(f"textattack.{part}" if part else "textattack")


def textattack_version() -> str:
    """Return the version of TextAttack, without importing it.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return metadata.version("textattack")
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            "This needs TextAttack, which is not installed.", "attack"
        ) from error


@cache
def _import() -> None:
    textattack_version()
    before = {name: os.environ.get(name) for name in _ITS_VARIABLES}
    if nltk_place("corpora/stopwords") is None:
        try:
            serve_own_stop_words()
        except OSError as error:
            raise DataError(f"{_STOP_WORDS} ({error})") from error
        warnings.warn(_OWN_STOP_WORDS, RobustNLPWarning, stacklevel=3)
    try:
        with own_randomness(0), _without_downloads():  # imported modules draw numbers too
            import_module("textattack")
    except LookupError as error:
        raise DataError(_STOP_WORDS) from error
    except ImportError as error:
        raise MissingExtraError(
            f"TextAttack is installed, but cannot be imported: {error}. It needs transformers "
            "below 5 (use an environment of its own).",
            "attack",
        ) from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _without_downloads() -> Iterator[None]:
    """Keep TextAttack from the downloads of its first import, and let it make them another time."""
    cache_folder = os.environ.get("TA_CACHE_DIR") or Path.home() / ".cache" / "textattack"
    done = Path(cache_folder, "post_install_check_3")
    ours = not done.exists()
    if ours:
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()
    try:
        yield
    finally:
        if ours:
            done.unlink(missing_ok=True)


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed the global generators, which TextAttack draws from, and put them back afterwards.

    Warnings of TextAttack and of what it uses are not shown meanwhile, nor its messages: they are
    about its code.

    Args:
        seed: At least 0.
    """
    import torch

    logger = logging.getLogger("textattack.shared.utils.install")
    python, numpy, disabled = random.getstate(), np.random.get_state(), logger.disabled  # noqa: NPY002
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = [torch.cuda.current_device()] if cuda else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002, TID251
        torch.manual_seed(seed)  # noqa: TID251
        logger.disabled = True
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            logger.disabled = disabled


def neighbours(swaps: AllowedSwaps) -> Any:
    """Return allowed swaps in the form of TextAttack's word embeddings.

    A transformation finds the allowed swaps of a word, the nearest first. A constraint on the
    distance or the similarity of two words, whatever its bound, holds if the second may replace
    the first, or if they are equal.

    Departs: The swaps say nothing of distances, so that one bound is like another.
    """

    class Neighbours(textattack("shared").AbstractWordEmbedding):  # type: ignore[misc]
        def word2index(self, word: str) -> str:
            return word

        def index2word(self, index: str) -> str:
            return index

        def nearest_neighbours(self, index: str, topn: int) -> list[str]:
            return list(swaps.of(index))[:topn]

        def __getitem__(self, index: Any) -> None:
            return None

        def get_mse_dist(self, a: str, b: str) -> float:
            return 0.0 if self._allowed(a, b) else float("inf")

        def get_cos_sim(self, a: str, b: str) -> float:
            return 1.0 if self._allowed(a, b) else -1.0

        def _allowed(self, a: str, b: str) -> bool:
            return a == b or b in swaps.of(a)

    return Neighbours()
