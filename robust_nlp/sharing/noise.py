"""What mechanisms read from files, written beside a checkpoint so that it can be moved."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robust_nlp.errors import ModelError
from robust_nlp.mechanisms.base import TextMechanism
from robust_nlp.swaps import load_swaps, read_json


def _swaps(setting: str) -> str:
    # Without limit and symmetry, which are settings of their own and are applied on loading.
    allowed = load_swaps(setting)
    lists = {word: list(allowed.of(word)) for word in allowed.words}
    return json.dumps({word: others for word, others in lists.items() if others})


def _distances(setting: str) -> str:
    return json.dumps(read_json(setting, "distances", "a file"))


def _vocabulary(setting: str) -> str:
    return Path(setting).read_text(encoding="utf-8")


#: Settings that may name a file: its ending, and how it is written anew.
SETTINGS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "swaps": ("json", _swaps),
    "distances": ("json", _distances),
    "vocabulary": ("txt", _vocabulary),
}


def write_noise(folder: Path, mechanism: TextMechanism) -> dict[str, Any]:
    """Write the files that a mechanism reads, and return the entries of `smoothing.json` about it.

    Args:
        folder: The folder of the checkpoint.
        mechanism: The mechanism.

    Returns:
        `mechanism`, its settings, in which files go by their names in the folder; and `files`, a
        hash of the content of each, by setting.

    Raises:
        DataError: If a file cannot be read.
        ModelError: If it is not known how to write one.
    """
    settings, files = mechanism.to_dict(), {}
    for name, content in mechanism.contents().items():
        if name not in SETTINGS:
            raise ModelError(f"it is not known how to save the {name} of {mechanism.kind}")
        ending, write = SETTINGS[name]
        file = f"{name}-{content['content_hash'][:8]}.{ending}"
        (folder / file).write_text(write(settings[name]), encoding="utf-8")
        settings[name], files[name] = file, content["content_hash"]
    if "vocabulary" not in files and isinstance(settings.get("vocabulary"), str):
        settings["vocabulary"] = []  # its words are not used, and the file may be gone
    return {"mechanism": settings, "files": files}


def located(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a mechanism with the paths of its files in the folder.

    Args:
        folder: The folder of the checkpoint.
        content: What `smoothing.json` holds.

    Raises:
        ValueError: If a file is not in the folder, or has a name that is not one of ours.
    """
    settings = dict(content["mechanism"])
    for name in content.get("files", {}):
        file = str(settings.get(name))
        if name not in SETTINGS or not re.fullmatch(rf"{name}-[0-9a-f]{{8}}\.(json|txt)", file):
            raise ValueError(f"{file!r} is no file that {name} may be read from")
        if not (folder / file).is_file():
            raise ValueError(f"the file {file} with the {name} is missing")
        settings[name] = str(folder / file)
    return settings


def check_noise(mechanism: TextMechanism, files: Mapping[str, str]) -> None:
    """Check that the files of a mechanism hold what was saved: certificates depend on it.

    Raises:
        ValueError: If one was changed.
    """
    for name, content in mechanism.contents().items() if files else ():
        if name in files and content["content_hash"] != files[name]:
            raise ValueError(
                f"the {name} in {content['source']} are not those that were saved (content_hash "
                f"{files[name]} then, {content['content_hash']} now)"
            )


def check_self_contained(mechanism: TextMechanism, files: Mapping[str, str]) -> None:
    """Check that a mechanism from elsewhere reads no files but its own.

    Raises:
        ValueError: If it names another.
    """
    for name in SETTINGS:
        value = getattr(mechanism, name, None)
        if isinstance(value, str) and name not in files and value not in ("", "wordnet"):
            raise ValueError(f"{name} names the file {value!r}, which is not shared with it")
