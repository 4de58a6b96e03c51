"""What stands in for models and tables that a recipe of TextAttack cannot have."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from robust_nlp.attacks.needs import Given, packaged_homoglyphs
from robust_nlp.attacks.plans import Plan
from robust_nlp.augmentation.textattack_import import textattack
from robust_nlp.embedded import resolve_base
from robust_nlp.home import homoglyph_file, neighbour_file, resources
from robust_nlp.swaps import AllowedSwaps, SwapSetting, load_swaps

#: ASCII letters, each with a letter of another script that is drawn in the same way: those of
#: Unicode's list of intentional look-alikes (Technical Standard 39).
_LETTERS = (
    "AΑ BΒ CС EΕ HΗ IΙ JЈ KΚ MΜ NΝ OΟ PΡ SЅ TΤ XΧ YΥ ZΖ aа cс dԁ eе hһ iі jϳ oο pр sѕ xх yу !ǃ"
)

#: Tokens that the masked language models of TextAttack are asked for at most.
_TOKENS = 512


@contextmanager
def building(kind: Any, plan: Plan, given: Given) -> Iterator[None]:
    """Let a recipe be built with what stands in, and without downloads of NLTK.

    Args:
        kind: The class of TextAttack.
        plan: What it runs with.
        given: What the user gave.
    """
    recipe = import_module(kind.__module__)
    swaps = textattack("transformations.word_swaps")
    glyphs, masked = swaps.word_swap_homoglyph_swap, swaps.word_swap_masked_lm
    with ExitStack() as stack:

        def replace(owner: Any, name: str, value: Any) -> None:
            stack.enter_context(patch.object(owner, name, value, create=True))

        replace(import_module("nltk"), "download", lambda *_, **__: False)  # of what is not needed
        if not packaged_homoglyphs().is_file():
            replace(glyphs, "open", lambda *_, **__: _homoglyphs())
        if "neighbours" in plan.stand_ins:
            table = neighbour_pairs(load_neighbours(given.swaps))
            vectors = textattack("shared").WordEmbedding
            replace(vectors, "counterfitted_GLOVE_embedding", staticmethod(lambda: table))
        if "masked-lm" in plan.stand_ins:
            model, tokenizer = _masked_lm(str(given.masked_lm))
            models = SimpleNamespace(from_pretrained=lambda *_, **__: model)
            tokenizers = SimpleNamespace(from_pretrained=lambda *_, **__: tokenizer)
            replace(masked, "AutoModelForMaskedLM", models)
            replace(masked, "AutoTokenizer", tokenizers)
            if hasattr(recipe, "transformers"):  # CLARE asks for a causal model of a masked one
                both = SimpleNamespace(AutoModelForCausalLM=models, AutoTokenizer=tokenizers)
                replace(recipe, "transformers", both)
        if "no-lm" in plan.stand_ins:
            for name in ("LearningToWriteLanguageModel", "Google1BillionWordsLanguageModel"):
                if hasattr(recipe, name):
                    replace(recipe, name, lambda **_: _no_constraint()())
        yield


def finish(attack: Any, plan: Plan, given: Given) -> None:
    """Put what stands in where an attack looks for it when it runs.

    Args:
        attack: The attack, a copy of our own.
        plan: What it runs with.
        given: What the user gave.
    """
    if "minilm" in plan.stand_ins:
        attack.constraints = [_with_minilm(each) for each in attack.constraints]
    if "masked-lm" in plan.stand_ins:
        _, tokenizer = _masked_lm(str(given.masked_lm))
        for part in _parts(attack.transformation):
            if hasattr(part, "_lm_tokenizer"):
                _shorten(part, tokenizer)
    taggers = textattack("shared.utils.strings")._flair_taggers
    for name, stand_in, tagger in (
        ("ner", "gazetteer", Gazetteer),
        ("upos-fast", "nltk-tagger", WordClasses),
    ):
        if stand_in in plan.stand_ins:
            taggers[name] = tagger()
        elif isinstance(taggers.get(name), tagger):  # of another attack
            del taggers[name]


def contents(plan: Plan, given: Given) -> dict[str, str]:
    """Return what decides the results of stand-ins, such as a key of a table's content."""
    found = dict.fromkeys(plan.stand_ins, "1")
    if "neighbours" in found:
        found["neighbours"] = load_neighbours(given.swaps).fingerprint
    if "masked-lm" in found:
        found["masked-lm"] = _digest(Path(str(given.masked_lm)))
    return found


def load_neighbours(swaps: SwapSetting | None) -> AllowedSwaps:
    """Return the table of neighbours that a setting names, `None` for the installed one."""
    return load_swaps(str(neighbour_file()) if swaps is None else swaps)


def neighbour_pairs(swaps: AllowedSwaps) -> Any:
    """Return a table of neighbours in place of word vectors.

    Transformations find the neighbours, the nearest first, and no others. A constraint on the
    distance or the similarity of two words, whatever its bound, holds if the table has the pair, in
    this direction, or if they are equal.

    Departs: The table says nothing of distances, so that one bound is like another.
    """

    class Pairs(textattack("shared").AbstractWordEmbedding):  # type: ignore[misc]
        def word2index(self, word: str) -> str:
            return word

        def index2word(self, index: str) -> str:
            return index

        def nearest_neighbours(self, index: str, topn: int) -> list[str]:
            return list(swaps.of(index))[:topn]

        def __getitem__(self, index: Any) -> None:
            return None

        def get_mse_dist(self, a: str, b: str) -> float:
            return 0.0 if self._has(a, b) else float("inf")

        def get_cos_sim(self, a: str, b: str) -> float:
            return 1.0 if self._has(a, b) else -1.0

        def _has(self, a: str, b: str) -> bool:
            return a == b or b in swaps.of(a)

    return Pairs()


class Gazetteer:
    """Names of people and places by the lists of TextAttack, as flair would tag them.

    A word counts if it is written with a capital and is no stop word. Of words that are a name and
    a place, places win. In texts without capitals, nothing is found.
    """

    def predict(self, sentence: Any, **_: Any) -> None:
        """Label each token of a sentence of flair."""
        for token, tag in zip(
            sentence.tokens, self.tags([token.text for token in sentence.tokens]), strict=True
        ):
            token.add_label("ner", tag, 1.0)

    def tags(self, words: Sequence[str]) -> list[str]:
        """Return the tag of each word, such as "S-PER", "B-LOC" or "O"."""
        first, last, places, longest, common = _names()
        tags = ["O"] * len(words)
        at = 0
        while at < len(words):
            size = next(
                (
                    n
                    for n in range(min(longest, len(words) - at), 0, -1)
                    if " ".join(words[at : at + n]) in places and words[at].lower() not in common
                ),
                0,
            )
            kind = "LOC"
            if not size and words[at] in first and words[at].lower() not in common:
                size, kind = 1, "PER"
                if at + 1 < len(words) and words[at + 1] in last:
                    size = 2
            if size == 1:
                tags[at] = f"S-{kind}"
            elif size:
                inside = [f"I-{kind}"] * (size - 2)
                tags[at : at + size] = [f"B-{kind}", *inside, f"E-{kind}"]
            at += size or 1
        return tags


class WordClasses:
    """Universal parts of speech by NLTK, as flair would tag them."""

    def predict(self, sentence: Any, **_: Any) -> None:
        """Label each token of a sentence of flair."""
        tag = import_module("nltk").pos_tag
        words = [token.text for token in sentence.tokens]
        for token, (_, kind) in zip(sentence.tokens, tag(words, tagset="universal"), strict=True):
            token.add_label("pos", kind, 1.0)


class SentenceVectors:
    """Sentences as vectors of all-MiniLM-L6-v2: the mean over tokens, of length one."""

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = resolve_base("embedded:minilm")
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> torch.Tensor:
        """Return a vector for each sentence; shape `(sentences, 384)`."""
        inputs = self._tokenizer(
            list(sentences), padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        states = self._model(**inputs).last_hidden_state
        seen = inputs["attention_mask"][..., None].to(states.dtype)
        means = (states * seen).sum(dim=1) / seen.sum(dim=1)
        return torch.nn.functional.normalize(means, dim=-1)


@cache
def _sentence_vectors() -> SentenceVectors:
    return SentenceVectors()


def _with_minilm(constraint: Any) -> Any:
    encoders = textattack("constraints.semantics.sentence_encoders")
    if not isinstance(constraint, encoders.UniversalSentenceEncoder):
        return constraint
    new: Any = encoders.SentenceEncoder.__new__(_minilm_class())
    new.__dict__.update(constraint.__dict__)
    new.encode = _sentence_vectors()
    return new


@cache
def _minilm_class() -> Any:
    base = textattack("constraints.semantics.sentence_encoders").SentenceEncoder
    return type("MiniLMSentenceEncoder", (base,), {})


@cache
def _no_constraint() -> Any:
    class LeftOut(textattack("constraints").Constraint):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(True)

        def _check_constraint(self, *_: Any) -> bool:
            return True

    return LeftOut


def _homoglyphs() -> Any:
    if homoglyph_file().is_file():
        return builtins.open(homoglyph_file(), encoding="utf-8-sig")  # noqa: PTH123, SIM115
    import io

    rows = (f"{ord(a):04X} ;\t{ord(b):04X}\t# ( {a} ~ {b} )\n" for a, b in _LETTERS.split())
    return io.StringIO("".join(rows))


@lru_cache(maxsize=2)
def _masked_lm(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return AutoModelForMaskedLM.from_pretrained(folder).eval(), tokenizer


def _shorten(part: Any, tokenizer: Any) -> None:
    """Pad texts to the longest of a batch, and cut them to what the model has positions for.

    Departs: TextAttack pads to 512 tokens.
    """
    model = part._language_model
    places = getattr(model.config, "max_position_embeddings", _TOKENS)
    if model.config.model_type == "roberta":  # which counts from behind its padding token
        places -= model.config.pad_token_id + 1
    part.max_length = min(_TOKENS, tokenizer.model_max_length, places)

    def encode(text: Any) -> Any:
        inputs = tokenizer(
            text, max_length=part.max_length, truncation=True, padding=True, return_tensors="pt"
        )
        return inputs.to(model.device)

    part._encode_text = encode


def _parts(transformation: Any) -> list[Any]:
    inner = getattr(transformation, "transformations", None)
    return [transformation] if inner is None else [p for t in inner for p in _parts(t)]


@cache
def _names() -> tuple[frozenset[str], frozenset[str], frozenset[str], int, frozenset[str]]:
    """Return first names, last names, places, the words of the longest place, and stop words."""
    data = textattack("shared.data")
    entities = data.NAMED_ENTITIES
    places = frozenset(
        place
        for kind in ("country", "nationality", "city")
        for place in entities[kind]
        if place[:1].isupper()
    )
    common = frozenset(import_module("nltk.corpus").stopwords.words("english"))
    return (
        frozenset(data.PERSON_NAMES["first"]),
        frozenset(data.PERSON_NAMES["last"]),
        places,
        max(len(place.split()) for place in places),
        common,
    )


@lru_cache(maxsize=2)
def _digest(folder: Path) -> str:
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        found.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
    return found.hexdigest()
