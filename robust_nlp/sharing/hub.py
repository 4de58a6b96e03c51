"""Upload smoothed classifiers to the Hub, and fetch them, as plain files."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from robust_nlp.sharing.plain import PLAIN_FILES, check_no_code, check_plain, check_weights
from robust_nlp.sharing.readme import readme

if TYPE_CHECKING:
    from robust_nlp.smoothing import SmoothedClassifier

#: The file whose presence makes a repository that of a smoothed classifier.
SMOOTHING_FILE = "smoothing.json"

#: Remote files of an earlier upload that are deleted where the new one has none of their name:
#: what loads a model would read them.
REPLACED = ["model*.safetensors*", "denoiser/*"]


class Fetched(NamedTuple):
    """Where to load a classifier from.

    Attributes:
        path: A folder, or what was asked for where it is no repository of a smoothed classifier.
        shared: Whether the folder comes from the Hub and was checked to run no code.
        why_not: What went wrong when `smoothing.json` was looked up on the Hub, if anything.
    """

    path: str | Path
    shared: bool = False
    why_not: str | None = None


def push(
    smoothed: SmoothedClassifier,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    commit_message: str = "Upload smoothed classifier",
    card: str | None = None,
) -> str:
    """Upload a smoothed classifier; see `SmoothedClassifier.push_to_hub`."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        text = readme(smoothed, repo_id) if card is None else card
        (folder / "README.md").write_text(text, encoding="utf-8")
        smoothed.save_pretrained(folder)
        check_plain(folder)
        name = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
        # What somebody wrote into the card of the repository is not overwritten unasked.
        keep = card is None and api.file_exists(repo_id=name, filename="README.md")
        commit = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message=commit_message,
            ignore_patterns=["README.md"] if keep else None,
            delete_patterns=REPLACED,
        )
    return str(commit.commit_url)


def fetch(path: str | Path, *, revision: str | None = None) -> Fetched:
    """Fetch a smoothed classifier from the Hub, if that is where it is; plain files only.

    Pickles and code are not downloaded.

    Args:
        path: A folder, an embedded model, or a Hub id.
        revision: Hub revision.

    Raises:
        ModelError: If a smoothed classifier on the Hub has no safetensors, or names code.
    """
    if Path(path).exists() or str(path).startswith("embedded:"):
        return Fetched(path)
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        hf_hub_download(str(path), SMOOTHING_FILE, revision=revision)
    except LocalEntryNotFoundError:  # an EntryNotFoundError, too
        return Fetched(path, why_not=_why_not(path, "the Hub could not be reached"))
    except EntryNotFoundError:
        return Fetched(path)
    except (HfHubHTTPError, OSError, ValueError) as error:
        return Fetched(path, why_not=_why_not(path, f"the Hub says {type(error).__name__}"))
    folder = Path(snapshot_download(str(path), revision=revision, allow_patterns=list(PLAIN_FILES)))
    check_weights(folder)
    check_no_code(folder)
    return Fetched(folder, shared=True)


def _why_not(path: str | Path, hub: str) -> str | None:
    """Say why nothing was found under what looks like a Hub id, "owner/name"."""
    return f"there is no such folder, and {hub}" if str(path).count("/") == 1 else None
