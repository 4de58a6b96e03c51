"""Resources from folders, as they are laid out by NLTK, Debian and others."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robust_nlp.attacks import installing
from robust_nlp.attacks.installing import RESOURCES, install
from robust_nlp.cli import app
from robust_nlp.errors import DataError
from robust_nlp.home import home, neighbour_file, nltk_folder, nltk_place, resources

SHARED = os.environ.get("ROBUST_NLP_SHARED")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_NLP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(installing, "DEBIAN", tmp_path / "debian")
    if find_spec("nltk") is not None:
        import nltk.data

        monkeypatch.setattr(nltk.data, "path", [])


def packed(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o666)


def dictionary(folder):
    """A WordNet of one word and two senses, in Princeton's format."""
    for kind in ("adj", "adv", "noun", "verb"):
        write(folder / f"data.{kind}", b"")
        write(folder / f"index.{kind}", b"")
        write(folder / f"{kind}.exc", b"")
    line = b"00000000 10 n 02 film 0 movie 0 000 | a story in pictures\n"
    write(folder / "data.noun", line)
    write(folder / "index.noun", b"film n 1 0 1 1 00000000\nmovie n 1 0 1 1 00000000\n")
    write(folder / "index.sense", b"not for NLTK")


def test_home_is_where_the_user_says_or_where_caches_are(monkeypatch, tmp_path):
    assert home() == tmp_path / "home"
    monkeypatch.delenv("ROBUST_NLP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert home() == tmp_path / "robust_nlp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somebody")
    assert resources() == Path("/somebody/.cache/robust_nlp/resources")


@pytest.mark.parametrize("inside", ["", "nltk_data"])
def test_nltk_s_layout_is_copied_whole_and_once(tmp_path, inside):
    source = tmp_path / "source"
    words = packed("stopwords/english", "the\n")
    write(source / inside / "corpora/stopwords.zip", words)
    (done,) = install(["stopwords"], source)
    assert done.there
    place = nltk_folder() / "corpora/stopwords.zip"
    assert str(source / inside / "corpora/stopwords.zip") in done.said
    assert place.read_bytes() == words
    assert stat.S_IMODE(place.stat().st_mode) == 0o644  # NLTK refuses what others may write
    assert sorted(path.name for path in place.parent.iterdir()) == ["stopwords.zip"]
    before = place.stat().st_mtime_ns
    (again,) = install(["stopwords"], None)
    assert again.there
    assert "already" in again.said
    assert place.stat().st_mtime_ns == before


def test_an_interrupted_copy_leaves_nothing(tmp_path, monkeypatch):
    source = tmp_path / "source"
    write(source / "corpora/stopwords.zip", packed("stopwords/english", "the\n"))

    def interrupted(path, target):
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(installing.shutil, "copyfile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install(["stopwords"], source)
    assert list((nltk_folder() / "corpora").iterdir()) == []


@pytest.mark.skipif(find_spec("nltk") is None, reason="NLTK is not installed")
@pytest.mark.parametrize("place", ["debian", "source", "source/wordnet"])
def test_a_dictionary_of_debian_becomes_a_corpus_of_nltk(tmp_path, place):
    from nltk.corpus import LazyCorpusLoader
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    (tmp_path / "source").mkdir()
    dictionary(tmp_path / place)
    (done,) = install(["wordnet"], None if place == "debian" else tmp_path / "source")
    assert done.there, done.said
    folder = nltk_folder() / "corpora/wordnet"
    assert (folder / "index.sense").read_bytes() == b""
    rows = [line.split("\t") for line in (folder / "lexnames").read_text().splitlines()]
    assert len(rows) == 45
    assert ["03", "noun.Tops", "1"] in rows
    assert ["29", "verb.body", "2"] in rows
    assert ["02", "adv.all", "4"] in rows
    assert ["44", "adj.ppl", "3"] in rows
    assert nltk_place("corpora/wordnet") == str(folder)
    wordnet = LazyCorpusLoader("wordnet", WordNetCorpusReader, None, nltk_data_subdir="corpora")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other languages are not there
        (sense,) = wordnet.synsets("movie")
    for file in wordnet._data_file_map.values():
        file.close()
    assert sense.lemma_names() == ["film", "movie"]
    assert sense.lexname() == "noun.communication"


@pytest.mark.skipif(SHARED is None, reason="ROBUST_NLP_SHARED is not set")
def test_classes_of_words_are_those_of_the_manual(tmp_path):
    dictionary(tmp_path / "debian")
    install(["wordnet"])
    known = Path(str(SHARED), "resources/wordnet/lexnames").read_bytes()
    assert (nltk_folder() / "corpora/wordnet/lexnames").read_bytes() == known


def test_neighbours_are_checked_before_they_are_kept(tmp_path):
    source = tmp_path / "source"
    write(source / "neighbours.json", b'{"good": ["great film"]}')
    (done,) = install(["neighbours"], source)
    assert not done.there
    assert "single words" in done.said
    assert not neighbour_file().exists()
    write(source / "neighbours.json", b"{}")
    content = gzip.compress(json.dumps({"good": ["great"]}).encode())
    write(source / "counter-fitted/neighbors.json.gz", content)
    (source / "neighbours.json").unlink()
    (done,) = install(["neighbours"], source)
    assert done.there
    assert json.loads(gzip.decompress(neighbour_file().read_bytes())) == {"good": ["great"]}


def test_homoglyphs_are_those_of_unicode(tmp_path):
    source = tmp_path / "source"
    write(source / "intentional.txt", b"<html>not found</html>")
    (done,) = install(["homoglyphs"], source)
    assert "is not Unicode's list" in done.said
    row = "0061 ;\t0430\t# ( a ~ \u0430 ) LATIN SMALL LETTER A ~ CYRILLIC SMALL LETTER A\n"
    write(source / "intentional.txt", row.encode())
    (done,) = install(["homoglyphs"], source)
    assert done.there


def test_what_is_not_there_is_said_and_the_rest_installed(tmp_path):
    source = tmp_path / "source"
    write(
        source / "taggers/universal_tagset.zip", packed("universal_tagset/en-ptb.map", "NN\tNOUN")
    )
    found = {each.name: each for each in install((), source)}
    assert list(found) == list(RESOURCES)
    assert [name for name, each in found.items() if each.there] == ["tagset"]
    assert "apt-get install wordnet-base" in found["wordnet"].said
    assert "corpora/stopwords.zip" in found["stopwords"].said
    with pytest.raises(DataError, match=r"no resource 'wordnets'.*Did you mean 'wordnet'"):
        install(["wordnets"], source)
    with pytest.raises(DataError, match="--from takes a folder"):
        install((), source / "nothing")


def test_nltk_downloads_only_on_command(tmp_path, monkeypatch):
    pytest.importorskip("nltk")
    import nltk

    asked = []

    def download(package, download_dir, **options):
        asked.append(package)
        assert options["raise_on_error"]
        if package == "stopwords":
            raise ValueError("<urlopen error no network>")
        name = f"{package}.zip"
        write(Path(download_dir, "taggers", name), packed(f"{package}/classes", "x"))
        return True

    monkeypatch.setattr(nltk, "download", download)
    failed, tagger = install(["stopwords", "tagger"])
    assert asked == ["stopwords", "averaged_perceptron_tagger_eng"]
    assert not failed.there
    assert "Without a network" in failed.said
    assert tagger.there
    assert (nltk_folder() / "taggers/averaged_perceptron_tagger_eng.zip").is_file()
    assert [path.name for path in nltk_folder().iterdir()] == ["taggers"]


def test_the_command_says_what_it_did(tmp_path):
    source = tmp_path / "source"
    write(source / "neighbors.json", b'{"good": ["great"]}')
    run = CliRunner().invoke
    done = run(app, ["resources", "install", "--from", str(source)])
    assert done.exit_code == 0
    assert f"neighbours: installed from {source / 'neighbors.json'}" in done.output
    assert "stopwords: could not be installed" in done.output
    named = run(app, ["resources", "install", "stopwords", "--from", str(source)])
    assert named.exit_code == 1
    assert run(app, ["resources", "install", "nothing"]).exit_code == 2
