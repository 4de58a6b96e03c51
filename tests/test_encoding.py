"""Ids that are put together from words are those of the noisy strings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TOKENIZERS, across_spaces, byte_level_bpe, unigram, wordpiece

from robust_nlp.encoding import ID, Template, UnitEncoder
from robust_nlp.errors import ModelError
from robust_nlp.inputs import read

READY = {name: build() for name, build in TOKENIZERS.items()}
TEXTS = [
    "the film isn't good , it's brilliant !",
    "Don't you think so? I'd see it (again) 12 times...",
    "naïve café 中文 日本語 😀 ½ zero\u200bwidth soft\u00adhyphen",
    "  spaces \t and\nlines  ",
    "word",
    "x" * 300 + " y",
]


def ids(body: bytes) -> list[int]:
    return np.frombuffer(body, ID).tolist()


def check(tokenizer, text: str, rows: np.ndarray, prefix: str = "") -> bool:
    encoder = UnitEncoder(tokenizer, "word", prefix)
    opened = encoder.open(text.split(), ())
    for row, body in zip(rows, opened.encode(rows), strict=True):
        noisy = " ".join(text.split()[i] for i in row if i >= 0)
        whole = f"{prefix} {noisy}" if prefix and noisy else prefix or noisy
        assert ids(body) == tokenizer(whole, add_special_tokens=False)["input_ids"]
    return opened.slow


def noisy_rows(n: int, seed: int = 0) -> np.ndarray:
    keep = np.random.default_rng(seed).random((20, n)) < 0.5
    keep[0], keep[1] = True, False
    return np.where(keep, np.arange(n), -1)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("prefix", ["", "Review this:"])
def test_ids_of_noisy_texts_are_those_of_noisy_strings(name, prefix):
    slow = [check(READY[name], text, noisy_rows(len(text.split())), prefix) for text in TEXTS]
    assert not all(slow), "the fast path is never taken"
    assert not slow[0]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None, max_examples=30)
@given(text=st.text(max_size=60), seed=st.integers(0, 9))
def test_ids_agree_on_arbitrary_unicode(name, text, seed):
    check(READY[name], text, noisy_rows(len(text.split()), seed))


def test_a_tokenizer_with_pieces_across_spaces_falls_back_to_strings():
    tokenizer = across_spaces()
    assert not UnitEncoder(tokenizer, "word").fast
    assert check(tokenizer, TEXTS[0], noisy_rows(len(TEXTS[0].split())))


@pytest.mark.parametrize("build", [wordpiece, byte_level_bpe, unigram])
def test_texts_that_spell_special_tokens_are_tokenized_as_strings(build):
    tokenizer = build()
    text = f"a {tokenizer.mask_token} b x{tokenizer.sep_token}y"
    check(tokenizer, text, noisy_rows(4))


@pytest.mark.parametrize("build", [wordpiece, byte_level_bpe, unigram])
def test_the_mask_of_a_mechanism_is_one_token(build):
    tokenizer = build()
    opened = UnitEncoder(tokenizer, "word").open(["good", "film"], (tokenizer.mask_token,))
    (body,) = opened.encode(np.array([[2, 1]]))
    assert ids(body)[0] == tokenizer.mask_token_id
    assert (
        ids(body) == tokenizer(f"{tokenizer.mask_token} film", add_special_tokens=False).input_ids
    )


def test_characters_are_joined_before_they_are_tokenized():
    tokenizer = wordpiece()
    encoder = UnitEncoder(tokenizer, "character")
    assert encoder.units("ab c") == ["a", "b", " ", "c"]
    (body,) = encoder.open(encoder.units("ab c"), ()).encode(np.array([[0, -1, 2, 3]]))
    assert ids(body) == tokenizer("a c", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_as_units_are_kept_as_they_are(name):
    tokenizer = READY[name]
    encoder = UnitEncoder(tokenizer, "token")
    whole = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    units = encoder.units(TEXTS[0])
    (body,) = encoder.open(units, ()).encode(
        np.array([np.where(np.arange(len(whole)) % 2, -1, np.arange(len(whole)))])
    )
    assert ids(body) == whole[::2]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("pair", [False, True])
def test_templates_rebuild_the_inputs_of_the_tokenizer(name, pair):
    tokenizer = READY[name]
    texts = ("the film is good", "not at all")[: 1 + pair]
    bodies = [
        np.array(tokenizer(text, add_special_tokens=False)["input_ids"], ID).tobytes()
        for text in texts
    ]
    template = Template.read(tokenizer, pair=pair)
    encoded = tokenizer(*texts)
    found, types = read([template.fill(*bodies)])
    assert found[0].tolist() == encoded["input_ids"]
    assert (types is not None) == template.typed
    if types is not None:
        assert types[0].tolist() == encoded["token_type_ids"]
    assert template.size == found.shape[1] - sum(len(ids(body)) for body in bodies)


def test_a_tokenizer_that_changes_texts_inside_inputs_is_refused():
    class Reversing:
        def __call__(self, text, **kwargs):
            return {"input_ids": [1, 2] if kwargs.get("add_special_tokens") is False else [0, 2, 1]}

    with pytest.raises(ModelError, match="cannot find the tokens"):
        Template.read(Reversing(), pair=False)


def words_merged(merges: list[str]):
    """A tokenizer like byte-level BPE that also merges across spaces."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    letters = sorted(
        {c for text in TEXTS + merges for c in text} | set("abcdefghijklmnopqrstuvwxyz ")
    )
    vocab = {piece: i for i, piece in enumerate(["<unk>", *letters])}
    rules = []
    for merge in merges:
        for end in range(2, len(merge) + 1):
            rules.append((merge[: end - 1], merge[end - 1]))
            vocab.setdefault(merge[:end], len(vocab))
    backend = Tokenizer(models.BPE(vocab, rules, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<unk>")


def test_the_way_never_depends_on_words_that_were_deleted():
    tokenizer = words_merged(["of the"])
    encoder = UnitEncoder(tokenizer, "word")
    clean, attacked = (
        ["of", "my", "own", "accord", "the", "end"],
        ["of", "the", "my", "own", "accord", "end"],
    )
    (one,) = encoder.open(clean, ()).encode(np.array([[0, -1, -1, -1, 4, -1]]))
    (two,) = encoder.open(attacked, ()).encode(np.array([[0, 1, -1, -1, -1, -1]]))
    assert one == two
    assert ids(one) == tokenizer("of the", add_special_tokens=False)["input_ids"]
    assert not encoder.fast


def test_a_word_that_changes_its_neighbours_is_tokenized_with_them():
    tokenizer = byte_level_bpe()
    tokenizer.add_tokens([__import__("tokenizers").AddedToken("glue", rstrip=True, lstrip=True)])
    encoder = UnitEncoder(tokenizer, "word")
    opened = encoder.open(["the", "glue", "film"], ("<mask>",))
    assert not opened.slow
    rows = np.array([[0, 1, 2], [0, -1, 2], [-1, 1, 2], [3, 1, 3], [0, 3, 2]])
    assert opened.encode(rows) == opened.encode_strings(rows)
