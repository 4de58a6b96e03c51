"""What stands in for models and tables that a recipe of TextAttack cannot have."""

from __future__ import annotations

import builtins
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from robust_nlp.attacks.local_models import digest, masked_lm, sentence_vectors, shorten
from robust_nlp.attacks.needs import Given, packaged_homoglyphs
from robust_nlp.attacks.plans import Plan
from robust_nlp.attacks.taggers import Gazetteer, WordClasses
from robust_nlp.augmentation.textattack_import import neighbours, textattack
from robust_nlp.home import homoglyph_file, neighbour_file
from robust_nlp.swaps import AllowedSwaps, SwapSetting, load_swaps

#: ASCII letters, each with a letter of another script that is drawn in the same way: those of
#: Unicode's list of intentional look-alikes (Technical Standard 39).
_LETTERS = (
    "AΑ BΒ CС EΕ HΗ IΙ JЈ KΚ MΜ NΝ OΟ PΡ SЅ TΤ XΧ YΥ ZΖ aа cс dԁ eе hһ iі jϳ oο pр sѕ xх yу !ǃ"
)


@contextmanager
def building(kind: Any, plan: Plan, given: Given) -> Iterator[None]:
    """Let a recipe be built with what stands in, and without downloads of NLTK.

    Args:
        kind: The class of TextAttack; `None` for what is put together elsewhere.
        plan: What it runs with.
        given: What the user gave.
    """
    recipe = None if kind is None else import_module(kind.__module__)
    swaps = textattack("transformations.word_swaps")
    glyphs, masked = swaps.word_swap_homoglyph_swap, swaps.word_swap_masked_lm
    with ExitStack() as stack:

        def replace(owner: Any, name: str, value: Any) -> None:
            stack.enter_context(patch.object(owner, name, value, create=True))

        replace(import_module("nltk"), "download", lambda *_, **__: False)  # of what is not needed
        if not packaged_homoglyphs().is_file():
            replace(glyphs, "open", lambda *_, **__: _homoglyphs())
        if "neighbours" in plan.stand_ins:
            table = neighbours(load_neighbours(given.swaps))
            vectors = textattack("shared").WordEmbedding
            replace(vectors, "counterfitted_GLOVE_embedding", staticmethod(lambda: table))
        if "masked-lm" in plan.stand_ins:
            model, tokenizer = masked_lm(str(given.masked_lm))
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
        _, tokenizer = masked_lm(str(given.masked_lm))
        for part in _parts(attack.transformation):
            if hasattr(part, "_lm_tokenizer"):
                shorten(part, tokenizer)
    taggers: dict[str, Any] = {}
    if "gazetteer" in plan.stand_ins:
        taggers["ner"] = Gazetteer()
    if "nltk-tagger" in plan.stand_ins:
        taggers["upos-fast"] = WordClasses()
    if taggers:
        for part in _parts(attack.transformation):
            part._get_transformations = partial(_tagged, part._get_transformations, taggers)


def contents(plan: Plan, given: Given) -> dict[str, str]:
    """Return what decides the results of stand-ins, such as a key of a table's content."""
    found = dict.fromkeys(plan.stand_ins, "1")
    if "neighbours" in found:
        found["neighbours"] = load_neighbours(given.swaps).fingerprint
    if "masked-lm" in found:
        found["masked-lm"] = digest(Path(str(given.masked_lm)))
    return found


def load_neighbours(swaps: SwapSetting | None) -> AllowedSwaps:
    """Return the table of neighbours that a setting names, `None` for the installed one."""
    return load_swaps(str(neighbour_file()) if swaps is None else swaps)


def _tagged(transform: Any, taggers: dict[str, Any], *args: Any) -> Any:
    """Transform a text while the taggers are those of TextAttack."""
    known = textattack("shared.utils.strings")._flair_taggers
    with patch.dict(known, taggers):
        return transform(*args)


def _with_minilm(constraint: Any) -> Any:
    encoders = textattack("constraints.semantics.sentence_encoders")
    if not isinstance(constraint, encoders.UniversalSentenceEncoder):
        return constraint
    new: Any = object.__new__(_minilm_class())
    new.__dict__.update(constraint.__dict__)
    new.encode = sentence_vectors(str(textattack("shared.utils").device))  # as its own encoders
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
        return builtins.open(homoglyph_file(), encoding="utf-8-sig")  # noqa: PTH123
    pairs = map(tuple, _LETTERS.split())
    return io.StringIO(
        "".join(f"{ord(a):04X} ;\t{ord(b):04X}\t# ( {a} ~ {b} )\n" for a, b in pairs)
    )


def _parts(transformation: Any) -> list[Any]:
    inner = getattr(transformation, "transformations", None)
    return [transformation] if inner is None else [p for t in inner for p in _parts(t)]
