"""What attacks need, put into a folder of our own: from a folder, from Debian, or downloaded."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from robust_nlp.errors import DataError, MissingExtraError, did_you_mean
from robust_nlp.files import write_whole
from robust_nlp.home import homoglyph_file, neighbour_file, nltk_folder
from robust_nlp.swaps import load_swaps, read_json

#: What NLTK has: our name, its name, and its place.
_NLTK = {
    "stopwords": ("stopwords", "corpora/stopwords"),
    "tagger": ("averaged_perceptron_tagger_eng", "taggers/averaged_perceptron_tagger_eng"),
    "tagset": ("universal_tagset", "taggers/universal_tagset"),
    "wordnet": ("wordnet", "corpora/wordnet"),
}

#: Where Debian's package wordnet-base puts WordNet 3.0.
DEBIAN = Path("/usr/share/wordnet")

#: The table of homoglyphs that TextAttack reads.
_HOMOGLYPHS = "https://www.unicode.org/Public/security/latest/intentional.txt"

#: Files of the dictionary of WordNet, without which NLTK does not read it.
_DICTIONARY = [
    f"{kind}.{part}" for kind in ("data", "index") for part in ("adj", "adv", "noun", "verb")
]

#: The classes of words of WordNet, in the order of their numbers: see lexnames(5WN).
_CLASSES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute "
    "noun.body noun.cognition noun.communication noun.event noun.feeling noun.food noun.group "
    "noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant "
    "noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication "
    "verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion "
    "verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl"
)
_PARTS = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}


class Installed(NamedTuple):
    """What became of a resource.

    Attributes:
        name: Our name of it.
        said: What was done, or why nothing could be.
        there: Whether it is there now.
    """

    name: str
    said: str
    there: bool


def install(names: Sequence[str] = (), source: Path | None = None) -> list[Installed]:
    """Install what attacks need; what is there already is left alone.

    Args:
        names: Keys of `RESOURCES`; none for all.
        source: A folder to take it from: with files as NLTK lays them out, at its top or in
            `nltk_data`; `wordnet` (a dictionary as Debian packages it will do);
            `intentional.txt` of Unicode; `neighbors.json` or `neighbours.json`, perhaps packed by
            gzip, at its top or in `counter-fitted`. `None` downloads, but takes WordNet from
            Debian's package where that is installed.

    Raises:
        DataError: If there is no such resource or folder.
    """
    for name in names:
        if name not in RESOURCES:
            raise DataError(
                f"there is no resource {name!r}; there is {', '.join(RESOURCES)}."
                f"{did_you_mean(name, RESOURCES)}"
            )
    if source is not None and not source.is_dir():
        raise DataError(f"--from takes a folder; {str(source)!r} is none")
    return [_install(name, source) for name in dict.fromkeys(names or RESOURCES)]


def _install(name: str, source: Path | None) -> Installed:
    place = _place(name)
    if place is not None:
        return Installed(name, f"is there already: {place}", True)
    try:
        origin = RESOURCES[name](name, source)
    except (DataError, MissingExtraError, OSError, ValueError) as error:
        return Installed(name, f"could not be installed: {error}", False)
    return Installed(name, f"installed from {origin} as {_place(name)}", True)


def _place(name: str) -> Path | None:
    """Return where our own copy of a resource is."""
    if name == "homoglyphs":
        places = [homoglyph_file()]
    elif name == "neighbours":
        places = [neighbour_file()]
    else:
        target = nltk_folder() / _NLTK[name][1]
        places = [target, target.with_name(f"{target.name}.zip")]
    return next((place for place in places if place.exists()), None)


def _nltk(name: str, source: Path | None) -> str:
    resource = _NLTK[name][1]
    target = nltk_folder() / resource
    if source is None:
        return _download(name)
    for folder in (source, source / "nltk_data"):
        for path in (folder / resource, folder / f"{resource}.zip"):
            if path.exists():
                with _beside(target.with_name(path.name)) as part:
                    _copy(path, part)
                return str(path)
    raise DataError(f"there is no {resource}, nor {resource}.zip, in {source} or its nltk_data")


def _wordnet(name: str, source: Path | None) -> str:
    if source is not None:
        with contextlib.suppress(DataError):
            return _nltk(name, source)
    folders = [DEBIAN] if source is None else [source, source / "wordnet", DEBIAN]
    for folder in folders:
        if all((folder / file).is_file() for file in _DICTIONARY):
            with _beside(nltk_folder() / _NLTK[name][1]) as part:
                _dictionary(folder, part)
            return str(folder)
    if source is None:
        return _download(name)
    raise DataError(
        f"there is no WordNet in {', '.join(map(str, folders))}; on Debian and Ubuntu, "
        "apt-get install wordnet-base brings it without any other network"
    )


def _dictionary(folder: Path, target: Path) -> None:
    """Copy a dictionary, with the files that NLTK needs and Debian leaves out."""
    target.mkdir()
    for pattern in ("data.*", "index.*", "*.exc", "cntlist.rev"):
        for path in folder.glob(pattern):
            # Nothing here needs the index of senses, and NLTK is slow to read it.
            if path.name != "index.sense":
                _copy(path, target / path.name)
    rows = (
        f"{i:02d}\t{kind}\t{_PARTS[kind.split('.')[0]]}\n"
        for i, kind in enumerate(_CLASSES.split())
    )
    write_whole(target / "lexnames", "".join(rows).encode())
    write_whole(target / "index.sense", b"")


def _homoglyphs(name: str, source: Path | None) -> str:  # noqa: ARG001
    if source is None:
        origin = _HOMOGLYPHS
        with urllib.request.urlopen(origin, timeout=60) as answer:
            content = answer.read()
    else:
        names = ("intentional.txt", "intentional_homoglyphs.txt", "homoglyphs.txt")
        path = next((source / file for file in names if (source / file).is_file()), None)
        if path is None:
            raise DataError(f"there is none of {', '.join(names)} in {source}")
        origin, content = str(path), path.read_bytes()
    if b"# (" not in content:
        raise DataError(f"{origin} is not Unicode's list of intentional look-alikes")
    write_whole(homoglyph_file(), content)
    return origin


def _neighbours(name: str, source: Path | None) -> str:  # noqa: ARG001
    if source is None:
        raise DataError(
            "nobody offers it for download by itself: give a folder with --from that holds "
            "neighbors.json, as counterfitted_neighbors.json of Jia et al. (2019) is called there"
        )
    files = [
        folder / f"{stem}.json{packed}"
        for folder in (source, source / "counter-fitted")
        for stem in ("neighbors", "neighbours", "counterfitted_neighbors")
        for packed in ("", ".gz")
    ]
    path = next((path for path in files if path.is_file()), None)
    if path is None:
        raise DataError(f"there is none of {', '.join(map(str, files))}")
    load_swaps(str(path))  # which says what is wrong with it
    content = json.dumps(read_json(path, "neighbours", "a file"), ensure_ascii=False)
    write_whole(neighbour_file(), gzip.compress(content.encode(), mtime=0))
    return str(path)


def _download(name: str) -> str:
    if find_spec("nltk") is None:
        raise MissingExtraError("Downloads of NLTK's data need NLTK.", "wordnet")
    package, resource = _NLTK[name]
    nltk_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=nltk_folder()) as folder:
        try:
            import_module("nltk").download(
                package, download_dir=folder, quiet=True, raise_on_error=True
            )
        except (ValueError, OSError) as error:
            raise DataError(
                f"NLTK could not download {package}: {error}. Without a network, take it from a "
                "folder: robust-nlp resources install --from FOLDER"
            ) from error
        found = next(iter(Path(folder, resource).parent.glob(f"{Path(resource).name}*.zip")), None)
        path = found or Path(folder, resource)
        with _beside((nltk_folder() / resource).with_name(path.name)) as part:
            _copy(path, part)
    return "NLTK"


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Have a file or folder written beside its place, and put there whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder, target.name)
        yield part
        part.replace(target)


def _copy(source: Path, target: Path) -> None:
    """Copy without rights for others to write, which NLTK refuses."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


#: What can be installed, and how.
RESOURCES: dict[str, Callable[[str, Path | None], str]] = {
    "stopwords": _nltk,
    "tagger": _nltk,
    "tagset": _nltk,
    "wordnet": _wordnet,
    "homoglyphs": _homoglyphs,
    "neighbours": _neighbours,
}
