"""Victims of attacks that need no model, and the few files that TextAttack cannot do without."""

import json
import sys

import numpy as np
import pytest

WORDS = {"good": 1.3, "great": 1.9, "fine": 0.7, "lovely": 1.1, "brilliant": 1.6}
WORDS |= {"bad": -1.2, "awful": -1.7, "poor": -0.8, "boring": -1.0, "tedious": -1.45}

TEXTS = [
    "the film is a good film and the cast was brilliant",
    "a bad story , the plot is poor and it was not good at all",
    "this is an awful , tedious picture",
    "this lovely movie is great : i would see it again",
    "what a fine film , and so lovely in all of its scenes",
    "a boring plot and a poor cast",
]
EXAMPLES = [(text, int(i in (0, 3, 4))) for i, text in enumerate(TEXTS)]


def nltk_files(folder, cache):
    """Write stop words and a tagger that knows a few adjectives."""
    files = {
        "corpora/stopwords/english": "the\na\nis\nand\nwas\nin\nof\nits\nall\nnot\n",
        "taggers/universal_tagset/en-ptb.map": "NN\tNOUN\nJJ\tADJ\n",
    }
    tagger = "taggers/averaged_perceptron_tagger_eng/averaged_perceptron_tagger_eng"
    for name, content in {
        "weights": {},
        "tagdict": dict.fromkeys(WORDS, "JJ"),
        "classes": ["JJ", "NN"],
    }.items():
        files[f"{tagger}.{name}.json"] = json.dumps(content)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    (cache / "post_install_check_3").touch()


@pytest.fixture(scope="module", autouse=True)
def attack_data(tmp_path_factory):
    """Let TextAttack find its files, and nothing at home."""
    folder, cache = tmp_path_factory.mktemp("nltk_data"), tmp_path_factory.mktemp("cache")
    nltk_files(folder, cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TA_CACHE_DIR", str(cache))
        patch.setenv("FLAIR_CACHE_ROOT", str(cache))
        patch.setenv("NLTK_DATA", str(folder))
        patch.setenv("ROBUST_NLP_HOME", str(tmp_path_factory.mktemp("home")))
        if "nltk.data" in sys.modules:
            patch.setattr(sys.modules["nltk.data"], "path", [str(folder)])
        forget_stop_words()
        yield
    forget_stop_words()


def forget_stop_words():
    """Let NLTK look for its stop words again: other tests have theirs in another folder."""
    corpora = sys.modules.get("nltk.corpus")
    if corpora is not None and type(corpora.stopwords).__name__ != "LazyCorpusLoader":
        corpora.stopwords._unload()


def logits(texts, scale=1.0):
    """Sum what words say, a little less the further back they stand; unknown words say little."""
    rows = []
    for text in texts:
        total = 0.05
        for place, word in enumerate(text.lower().split()):
            total += WORDS.get(word, 0.002 * (len(word) - 4)) / (1.0 + 0.03 * place)
        rows.append([-total, total])
    return scale * np.array(rows)


class Counting:
    """A function that counts its calls and rows."""

    def __init__(self, function=logits):
        self.function, self.calls, self.rows, self.texts = function, 0, 0, []

    def __call__(self, texts):
        self.calls += 1
        self.rows += len(texts)
        self.texts += texts
        return self.function(texts)
