"""Files that hold data and no code."""

from __future__ import annotations

import copy
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from robust_nlp.errors import ModelError

#: Names of files that are shared: weights as safetensors, everything else as text. SentencePiece
#: writes its vocabulary to a `.model`.
PLAIN_FILES = (
    "*.json",
    "*.safetensors",
    "*.txt",
    "*.model",
    "*.md",
    "*.jinja",
    "*.tiktoken",
    "LICENSE",
    ".gitattributes",
)

#: Entries of configurations that name code to be run by whoever loads them.
CODE_ENTRIES = ("auto_map", "custom_pipelines")


def save_model(folder: Path, model: Any, tokenizer: Any) -> None:
    """Save a model and its tokenizer as safetensors and text.

    A projection that is being trained is folded into the embedding table of what is saved. Entries
    that name code are left out where `transformers` knows the classes itself.
    """
    from robust_nlp.embedding_noise import input_embedding
    from robust_nlp.training.projection import ProjectedEmbedding, fold

    try:
        projected = isinstance(input_embedding(model), ProjectedEmbedding)
    except ModelError:  # no table at all
        projected = False
    if projected:
        model = copy.deepcopy(model)
        fold(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if all(type(part).__module__.startswith("transformers.") for part in (model, tokenizer)):
        for path in _configurations(folder):
            _without_code(path)


def check_plain(folder: str | Path) -> None:
    """Check that a folder holds nothing that could run code on the machine of who loads it.

    Args:
        folder: The folder, with all that is in folders in it.

    Raises:
        ModelError: If a file is neither text nor safetensors, such as a pickle or a Python file,
            or a configuration names code.
    """
    folder = Path(folder)
    others = [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in PLAIN_FILES)
    ]
    if others:
        raise ModelError(
            f"only plain files are shared ({', '.join(PLAIN_FILES[:5])}), which run no code; "
            f"{folder} also holds {', '.join(others[:4])}. Save the weights as safetensors, and "
            "use a model whose class comes with transformers."
        )
    check_no_code(folder)


def check_no_code(folder: str | Path) -> None:
    """Check that no configuration in a folder names code.

    Raises:
        ModelError: If one does.
    """
    for path in _configurations(Path(folder)):
        found = [name for name in CODE_ENTRIES if name in _read(path)]
        if found:
            raise ModelError(
                f"{path} names code of its own ({', '.join(found)}), which is neither shared nor "
                "run. Use a model whose class comes with transformers, and delete the entry."
            )


def check_weights(folder: str | Path) -> None:
    """Check that a folder has its weights as safetensors.

    Raises:
        ModelError: If it has none, so that a pickle would be loaded in their place.
    """
    if not list(Path(folder).glob("*.safetensors")):
        raise ModelError(
            f"{folder} has no weights as safetensors, and no other kind is loaded, since pickles "
            "may run code"
        )


def _configurations(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*config.json"))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _without_code(path: Path) -> None:
    content = _read(path)
    kept = {name: value for name, value in content.items() if name not in CODE_ENTRIES}
    if len(kept) < len(content):
        text = json.dumps(kept, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
