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
from typing import Any

import numpy as np

from robust_nlp.errors import DataError, MissingExtraError
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
    "TextAttack needs the stop words of NLTK. Get them with: python -m nltk.downloader stopwords, "
    "or set NLTK_DATA to a folder that holds corpora/stopwords"
)


def textattack(part: str = "") -> Any:
    """Return TextAttack, or a module inside it such as "transformations".

    Raises:
        MissingExtraError: If TextAttack is not installed, or not with what it needs.
        DataError: If NLTK lacks the stop words that TextAttack reads when it is imported.
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
    try:
        with own_randomness(0):  # imported modules draw numbers too
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


def need_nltk(*resources: str) -> None:
    """Raise DataError unless NLTK finds resources such as "corpora/wordnet"."""
    data = import_module("nltk.data")
    for resource in resources:
        try:
            data.find(resource)
        except (LookupError, OSError):
            try:
                data.find(f"{resource}.zip")
            except (LookupError, OSError) as error:
                name = resource.rpartition("/")[2]
                raise DataError(
                    f"NLTK does not find {resource}. Get it with: python -m nltk.downloader "
                    f"{name}, or set NLTK_DATA to a folder that holds {resource}"
                ) from error


def need_flair(name: str) -> None:
    """Raise DataError unless TextAttack can load a tagger of flair, which it does late.

    Args:
        name: Name of the tagger, such as "ner".
    """
    sentence = textattack("shared.attacked_text").Sentence("a")
    try:
        textattack("shared.utils").flair_tag(sentence, name)
    except Exception as error:  # whatever a download can end in
        raise DataError(
            f"TextAttack cannot load flair's model {name!r}: {error}. With a network, get it with: "
            f"python -c \"from flair.models import SequenceTagger; SequenceTagger.load('{name}')\""
        ) from error


def neighbours(swaps: AllowedSwaps) -> Any:
    """Return allowed swaps in the form of TextAttack's word embeddings.

    It knows which words are near, and in which order, but no vectors: constraints on distances or
    similarities of words cannot be used with it.
    """

    class Neighbours(textattack("shared").AbstractWordEmbedding):  # type: ignore[misc]
        def word2index(self, word: str) -> str:
            if not swaps.of(word):
                raise KeyError(word)
            return word

        def index2word(self, index: str) -> str:
            return index

        def nearest_neighbours(self, index: str, topn: int) -> list[str]:
            return list(swaps.of(index))[:topn]

        def __getitem__(self, index: Any) -> None:
            return None

        def get_mse_dist(self, a: Any, b: Any) -> float:
            raise NotImplementedError("allowed swaps have an order, but no distances")

        get_cos_sim = get_mse_dist

    return Neighbours()
