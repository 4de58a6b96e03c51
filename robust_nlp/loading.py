"""Tokenizers that are really there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robust_nlp.errors import ModelError


def load_tokenizer(source: str, revision: str | None = None) -> Any:
    """Load a tokenizer from a folder or the Hub.

    For a folder without one, transformers 5 makes up a tokenizer that knows special tokens alone
    and reads every word as unknown; transformers 4 fails in many ways.

    Args:
        source: Folder or Hub id.
        revision: Hub revision.

    Raises:
        ModelError: If there is no such folder or repository, or no tokenizer in it.
    """
    from transformers import AutoTokenizer

    missing = (
        "there is no tokenizer beside the model; save it there, with "
        f"tokenizer.save_pretrained({source!r})"
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except OSError as error:
        if Path(source).exists():
            raise ModelError(str(error)) from error
        raise ModelError(
            f"there is no such folder here ({Path.cwd()}), and the Hub says: {error}"
        ) from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"cannot load the tokenizer of {source!r}: {error}; or {missing}"
        ) from error
    # T5 and its like have a piece for the space even then.
    if len(tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)) < 2:
        raise ModelError(missing)
    return tokenizer
