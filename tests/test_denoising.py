"""Denoised classifiers: what a denoiser may know, and what its votes prove."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny import byte_level_bpe, tiny_model, unigram, wordpiece
from tiny_lms import with_rounding

from robust_nlp import (
    CallableClassifier,
    ExactPlan,
    FixedPlan,
    HuggingFaceClassifier,
    RandomizedDeletion,
    RandomMasking,
    SequentialPlan,
    SmoothedClassifier,
)
from robust_nlp.denoising import MASK, DenoisedClassifier, check_denoiser
from robust_nlp.denoising.base import NoisyInput
from robust_nlp.denoising.reading import reader
from robust_nlp.errors import ModelError
from robust_nlp.mechanisms.combined import CombinedNoise
from robust_nlp.testing import ContractBroken
from robust_nlp.threats import ThreatModel, parse_attacker
from robust_nlp.units import keyed_rng

MASKING = RandomMasking(p_mask=0.6, mask="[MASK]")
DELETION = RandomizedDeletion(p_del=0.7)
TEXTS = ["good film", "the plot is bad and the cast is poor , i think", "", "bad good bad good"]


def keyword(texts):
    return [[text.count("bad") + 0.5, text.count("good")] for text in texts]


class Spy:
    """Writes a fixed word for every mask, and remembers what it saw."""

    def __init__(self, word: str = "good") -> None:
        self.word, self.calls = word, []

    def repair(self, noisy):
        self.calls.append(list(noisy))
        return [[text.replace(MASK, self.word)] for text in noisy]

    @property
    def seen(self) -> list[str]:
        return [text for call in self.calls for text in call]


class Dice:
    """Repairs a noisy text to random words that depend on it alone, in several versions."""

    def __init__(self, fills: int = 1, words=("good", "bad", "film")) -> None:
        self.fills, self.words = fills, words

    def repair(self, noisy):
        return [
            [
                " ".join(keyed_rng(5, text, fill).choice(self.words, 1 + len(text.split())))
                for fill in range(self.fills)
            ]
            for text in noisy
        ]


class Echo:
    """Repeats the words of a noisy text, in several versions."""

    def __init__(self, fills: int = 1) -> None:
        self.fills = fills

    def repair(self, noisy):
        return [[f"{text} {text} good"[5 * i :] for i in range(self.fills)] for text in noisy]


def smoothed(denoiser, mechanism=MASKING, function=keyword, **settings) -> SmoothedClassifier:
    base = CallableClassifier(function, ["bad", "good"], **settings)
    return SmoothedClassifier(DenoisedClassifier(base, denoiser), mechanism)


# What a denoiser sees.


def test_a_denoiser_sees_noisy_texts_and_nothing_else():
    spy = Spy()
    text = "one two three four five"
    classifier = smoothed(spy)
    opened = classifier.base.open(text, MASKING)
    votes = classifier.votes([text], FixedPlan(n_selection=5, n_estimation=50))
    noisy = {key.text for key in opened.encode(opened.law.enumerate(2))}
    assert set(spy.seen) <= noisy
    for seen in noisy:
        words = seen.split()
        assert len(words) == 5
        assert words.count(MASK) == 3
        assert all(word in (MASK, clean) for word, clean in zip(words, text.split(), strict=True))
    assert votes[0].votes.n_units == 5


@pytest.mark.parametrize(
    ("mechanism", "one", "row", "other", "other_row"),
    [
        (MASKING, "a b c", [0, 3, 3], "a x y", [0, 3, 3]),
        (MASKING, "a b c", [3, 3, 2], "x [MASK] c", [0 + 3, 1, 2]),
        (DELETION, "a b c", [0, -1, 2], "a c d e", [0, 1, -1, -1]),
        (RandomizedDeletion(p_del=0.5, unit="character"), "abc", [0, -1, 2], "ac", [0, 1]),
        (CombinedNoise(p_del=0.3, p_mask=0.3, mask="_"), "a b", [0, 2], "a c d", [0, 3, -1]),
    ],
)
def test_texts_with_one_noisy_version_have_one_key(mechanism, one, row, other, other_row):
    base = smoothed(Spy(), mechanism).base
    keys = [
        base.open(text, mechanism).encode(np.array([indices]))[0]
        for text, indices in ((one, row), (other, other_row))
    ]
    assert keys[0] == keys[1]
    assert hash(keys[0]) == hash(keys[1])
    assert base.classify(keys)[0] == base.classify(keys)[1]


def test_equal_noisy_texts_are_repaired_once_and_equal_repaired_texts_classified_once():
    classified: list[str] = []

    def count(texts):
        classified.extend(texts)
        return keyword(texts)

    spy = Spy()
    classifier = smoothed(spy, function=count)
    classifier.votes(["a b c d e"] * 3, FixedPlan(n_selection=10, n_estimation=200))
    spots = [text for call in spy.calls for text in call if len(call) == 1]
    assert len(spy.seen) - len(spots) == len(set(spy.seen)) <= 10
    classifier.votes(["good good good"], FixedPlan(n_selection=10, n_estimation=50))
    # All three masks of "good good good" are repaired to the same text.
    assert classified.count("good good good") == 1
    assert len(classified) == len(set(classified))


def test_masks_of_any_name_are_one_mask_to_a_denoiser():
    for mask in ("[MASK]", "<mask>", "_"):
        spy = Spy()
        mechanism = RandomMasking(p_mask=0.5, mask=mask)
        smoothed(spy, mechanism).predict(["a b c d"])
        assert all(mask not in text and MASK in text for text in spy.seen)


def test_a_mask_is_found_in_the_tokenizer_of_the_base_else_of_the_denoiser():
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
    mechanism = RandomMasking(p_mask=0.5)
    assert SmoothedClassifier(DenoisedClassifier(base, Spy()), mechanism).mechanism.mask == "[MASK]"
    spy = Spy()
    spy.tokenizer = byte_level_bpe()
    assert smoothed(spy, mechanism).mechanism.mask == "<mask>"


# What its votes prove.


@pytest.mark.parametrize(
    ("mechanism", "attacker", "denoiser"),
    [
        (RandomMasking(p_mask=0.7, mask="[MASK]"), "substitute", Dice),
        (RandomMasking(p_mask=0.7, mask="[MASK]"), "substitute", Echo),
        (RandomizedDeletion(p_del=0.6), "insert+delete+substitute", Echo),
        (RandomizedDeletion(p_del=0.6), "delete", Echo),
    ],
    ids=["masking, random", "masking", "deletion", "deletion, only deletions"],
)
@pytest.mark.parametrize("fills", [1, 3])
def test_no_text_within_the_radius_has_another_answer(mechanism, attacker, denoiser, fills):
    texts = [" ".join(t) for n in range(1, 6) for t in itertools.product(("good", "bad"), repeat=n)]
    classifier = smoothed(denoiser(fills), mechanism)
    certificates = classifier.certify(texts, ExactPlan(), attacker=attacker)
    threat = ThreatModel(attacker=parse_attacker(attacker), unit="word")
    checked = 0
    for (text, certificate), (other, theirs) in itertools.product(
        zip(texts, certificates, strict=True), repeat=2
    ):
        if certificate.radius is None:
            continue
        if threat.distance(tuple(text.split()), tuple(other.split())) <= certificate.radius:
            assert theirs.predicted == certificate.predicted
            checked += text != other
    assert checked > 0
    assert len({c.predicted for c in certificates}) > 1


def test_votes_are_the_same_for_any_company_order_and_interruption():
    plan = SequentialPlan(alpha=0.05, max_votes=200)
    for fills in (1, 4):
        together = smoothed(Dice(fills)).votes(TEXTS, plan, seed=3)
        backwards = smoothed(Dice(fills)).votes(TEXTS[::-1], plan, seed=3)[::-1]
        classifier, known = smoothed(Dice(fills), batch_size=3), {}
        parts = [classifier.votes([text], plan, seed=3, known=known)[0] for text in TEXTS]
        assert [r.votes for r in together] == [r.votes for r in backwards]
        assert [r.votes for r in together] == [r.votes for r in parts]


def test_several_repaired_versions_are_one_vote_by_their_mean_scores():
    class Three:
        def repair(self, noisy):
            return [["good film", "bad", "bad"] for _ in noisy]

    scores = {"good film": [0.0, 10.0], "bad": [4.0, 0.0]}
    classifier = smoothed(Three(), function=lambda texts: [scores[text] for text in texts])
    plan = FixedPlan(n_selection=1, n_estimation=7, enumerate_when_cheaper=False)
    record = classifier.votes(["a b c d"], plan)[0]
    # The mean is [8/3, 10/3]: "good", although two of three versions are "bad".
    assert record.votes.looks[-1] == (0, 7)
    assert record.votes_asked == 8


def test_a_base_classifier_without_scores_lets_the_versions_vote():
    class Only:
        labels = ("bad", "good")

        def open(self, text, mechanism):
            return CallableClassifier(keyword, self.labels).open(text, mechanism)

        def classify(self, inputs):
            return CallableClassifier(keyword, self.labels).classify(inputs)

    class Three:
        def repair(self, noisy):
            return [["good good good", "bad", "bad"] for _ in noisy]

    classifier = DenoisedClassifier(Only(), Three())
    assert classifier.classify([NoisyInput("a", None), NoisyInput("b", None)]).tolist() == [0, 0]


def test_near_ties_of_mean_scores_are_decided_on_each_text_alone():
    tokenizer = wordpiece()
    model = with_rounding(tiny_model("Bert", tokenizer))
    with torch.no_grad():  # a head that differs by rounding only
        model.classifier.weight[1] = model.classifier.weight[0]
        model.classifier.bias.zero_()
    noisy = [
        NoisyInput(f"film {word} cast", None)
        for word in ["good", "bad", "a", "the", "is", "was", "story"]
    ]
    votes = []
    for batch_tokens in (1, 4096):
        base = HuggingFaceClassifier(model, tokenizer, batch_tokens=batch_tokens)
        votes.append(DenoisedClassifier(base, Dice(3)).classify(noisy).tolist())
        votes.append(DenoisedClassifier(base, Dice(3)).classify(noisy[::-1]).tolist()[::-1])
    assert votes[0] == votes[1] == votes[2] == votes[3]


# Denoisers that know too much.


class SharesWithinACall:
    """Puts together what noisy texts of one call show: the clean text, nearly always."""

    def repair(self, noisy):
        return [[max(noisy, key=len)] for _ in noisy]


class Remembers:
    """Answers with the longest noisy text so far."""

    longest = ""

    def repair(self, noisy):
        answers = []
        for text in noisy:
            self.longest = max(self.longest, text, key=len)
            answers.append([self.longest])
        return answers


class DrawsAnew:
    """Draws from a generator of its own, so that equal noisy texts differ."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def repair(self, noisy):
        return [[str(self._rng.integers(1000))] for _ in noisy]


@pytest.mark.parametrize("planted", [SharesWithinACall, Remembers, DrawsAnew])
def test_a_denoiser_that_knows_more_than_the_noisy_text_is_caught(planted):
    noisy = ["a", "a b c", "b c d e f", "c"]
    with pytest.raises(ContractBroken, match="must depend on its noisy text alone"):
        check_denoiser(planted(), noisy)
    with pytest.raises(ContractBroken, match="no certificate holds"):
        smoothed(planted(), DELETION).certify(["good bad " * 10], FixedPlan(n_estimation=50))


def test_honest_denoisers_keep_the_contract():
    for denoiser in (Spy(), Dice(), Dice(3)):
        check_denoiser(denoiser, ["a", f"a {MASK} c", "", f"{MASK}"])


def test_a_denoiser_is_never_handed_the_clean_text():
    # Only `open` sees it; what it hands on is the key, whose fields are these.
    assert NoisyInput._fields == ("text", "partner")
    spy = Spy()
    clean = "secret words of a text that nobody may see whole"
    classifier = smoothed(spy, RandomMasking(p_mask=0.5, mask="[MASK]"))
    classifier.certify([clean], FixedPlan(n_estimation=200))
    assert clean not in spy.seen


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "answer each of 1 noisy texts; got 0"),
        (["good"], "one or more repaired texts; got 'good'"),
        ([[]], "one or more repaired texts"),
        ([[1]], "one or more repaired texts"),
    ],
)
def test_answers_that_are_no_texts_are_refused(answers, message):
    class Wrong:
        def repair(self, noisy):
            return answers

    base = CallableClassifier(keyword, ["bad", "good"])
    with pytest.raises(ContractBroken, match=message):
        DenoisedClassifier(base, Wrong()).classify([NoisyInput("a", None)])


# Base classifiers of all kinds.


@pytest.mark.parametrize("build", [wordpiece, byte_level_bpe, unigram])
@pytest.mark.parametrize("prefix", ["", "review : "])
def test_repaired_texts_are_read_as_the_base_classifier_reads_any_text(build, prefix):
    tokenizer = build()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer, prefix=prefix)
    whole = RandomizedDeletion(p_del=0.5, unit="character")
    texts = ["the film isn't good", "", "naïve café, 345", ("a film", "is bad"), "word " * 100]
    expected = []
    for text in texts:
        opened = base.open(text, whole)
        expected += opened.encode(np.arange(opened.law.n_units)[None])
    assert reader(base, "second").keys(texts) == expected
    scores = reader(base, "second").scores(expected)
    assert scores.argmax(axis=1).tolist() == base.classify(expected).tolist()


@pytest.mark.parametrize("protected", ["first", "second"])
def test_the_protected_side_of_a_pair_is_neither_noised_nor_repaired(protected):
    spy = Spy()
    seen = []

    def pairs(texts):
        seen.extend(texts)
        return [[1.0, 0.0]] * len(texts)

    pair = ("a b c d", "w x y z")
    smoothed(spy, function=pairs, protected=protected).predict([pair])
    kept = 0 if protected == "first" else 1
    assert {text[kept] for text in seen} == {pair[kept]}
    assert set(" ".join(spy.seen).split()) - {MASK} <= set(pair[1 - kept].split())
    assert all("good" in text[1 - kept] for text in seen)


@pytest.mark.parametrize("build", [wordpiece, byte_level_bpe, unigram])
def test_tokens_are_noised_as_those_of_the_base_classifier_and_written_as_text(build):
    tokenizer = build()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
    spy = Spy("film")
    mechanism = RandomMasking(p_mask=0.5, mask=tokenizer.mask_token, unit="token")
    denoised = DenoisedClassifier(base, spy)
    text = "the film isn't good"
    opened = denoised.open(text, mechanism)
    n = opened.law.n_units
    assert n == base.open(text, mechanism).law.n_units
    keys = opened.encode(np.array([np.arange(n), [n] * n, [0, *[n] * (n - 1)]]))
    assert keys[0].text.replace(" ' ", "'") == text
    assert keys[1].text == " ".join([MASK] * n)
    assert keys[2].text.split()[1:] == [MASK] * (n - 1)
    certificates = SmoothedClassifier(denoised, mechanism).certify(
        [text], FixedPlan(n_estimation=40)
    )
    assert certificates[0].predicted is not None or certificates[0].abstains


def test_tokens_need_a_tokenizer():
    with pytest.raises(ModelError, match="has no tokenizer"):
        smoothed(Spy(), RandomizedDeletion(p_del=0.5, unit="token")).predict(["a"])


def test_an_unchanged_text_gets_the_answer_of_the_base_classifier():
    class Nothing:
        def repair(self, noisy):
            return [[text] for text in noisy]

    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
    plain = SmoothedClassifier(base, DELETION)
    denoised = SmoothedClassifier(DenoisedClassifier(base, Nothing()), DELETION)
    plan = FixedPlan(n_selection=5, n_estimation=60)
    assert [r.votes for r in denoised.votes(TEXTS, plan)] == [
        r.votes for r in plain.votes(TEXTS, plan)
    ]
    assert denoised.base.max_length == base.max_length
    assert (denoised.base.prefix, denoised.labels) == (base.prefix, base.labels)


def test_scores_that_are_not_numbers_are_an_error():
    classifier = smoothed(Dice(2), function=lambda texts: [[float("nan"), 1.0]] * len(texts))
    with pytest.raises(ModelError, match="not finite"):
        classifier.predict(["a b c"])


def test_remembered_answers_are_bounded(monkeypatch):
    monkeypatch.setattr("robust_nlp.denoising.classifier.CACHE_ENTRIES", 10)
    for fills in (1, 2):
        classifier = smoothed(Dice(fills))
        expected = smoothed(Dice(fills)).votes(TEXTS, FixedPlan(n_estimation=100))
        assert classifier.votes(TEXTS, FixedPlan(n_estimation=100)) == expected
        assert len(classifier.base._answers) <= 10
        assert len(classifier.base._scores) <= 10
