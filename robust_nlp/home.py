"""The folder of our own for what attacks need, and how NLTK finds it."""

from __future__ import annotations

import os
import random  # noqa: TID251 - NLTK draws from its global generator when it is imported
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robust_nlp.files import write_whole


def home() -> Path:
    """Return the folder for files that belong to the user rather than to a run.

    It is `$ROBUST_NLP_HOME`, else `robust_nlp` in `$XDG_CACHE_HOME` or `~/.cache`.
    """
    chosen = os.environ.get("ROBUST_NLP_HOME")
    if chosen:
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "robust_nlp"


def resources() -> Path:
    """Return the folder that `robust-nlp resources install` fills."""
    return home() / "resources"


def nltk_folder() -> Path:
    """Return the part of it that is laid out as NLTK wants it."""
    return resources() / "nltk_data"


def homoglyph_file() -> Path:
    """Return where the table of look-alike characters is kept."""
    return resources() / "homoglyphs.txt"


def neighbour_file() -> Path:
    """Return where the table of neighbours of words is kept."""
    return resources() / "neighbours.json.gz"


def nltk_place(resource: str) -> str | None:
    """Return where NLTK finds a resource such as "corpora/wordnet", `None` if nowhere.

    Folders of the user come before ours. A stop-word list of our own does not count.
    """
    if find_spec("nltk") is None:
        return None
    search_ours()
    data = _nltk_data()
    paths = [path for path in data.path if str(path) != str(_fallback())]
    for name in (resource, f"{resource}.zip"):
        try:
            return str(data.find(name, paths=paths))
        except (LookupError, OSError):
            continue
    return None


def search_ours() -> None:
    """Put our folder last on the search path of NLTK, if NLTK is installed."""
    if find_spec("nltk") is not None:
        _append(nltk_folder())


def serve_own_stop_words() -> None:
    """Let NLTK find a stop-word list of our own, where it has none.

    Raises:
        OSError: If it cannot be written.
    """
    own = Path(__file__).parent / "resources" / "stop_words.txt"
    place = _fallback() / "corpora" / "stopwords" / "english"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, own.read_bytes())
    _append(_fallback())


def _fallback() -> Path:
    return home() / "fallback" / "nltk_data"


def _nltk_data() -> Any:
    state = random.getstate()
    try:
        return import_module("nltk.data")
    finally:
        random.setstate(state)


def _append(folder: Path) -> None:
    path = _nltk_data().path
    if str(folder) not in map(str, path):
        path.append(str(folder))
