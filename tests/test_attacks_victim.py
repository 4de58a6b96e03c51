"""What attacks ask: the same scores in any batch, for models with and without padding."""

import numpy as np
import pytest
import tiny
import torch
from conftest import tiny_tokenizer

from robust_nlp import CallableClassifier
from robust_nlp.attacks.examples import read_examples
from robust_nlp.attacks.search import Example
from robust_nlp.attacks.victim import PlainVictim, Question
from robust_nlp.data import Split
from robust_nlp.errors import DataError, ModelError
from robust_nlp.huggingface import HuggingFaceClassifier

TEXTS = [
    "good",
    "the film is a good film and the cast was brilliant",
    "a bad story , the plot is poor and it was not good at all",
    "an awful picture !",
    "an awful picture !",
]
PAIRS = [(TEXTS[1], TEXTS[3]), (TEXTS[0], TEXTS[2]), (TEXTS[2], TEXTS[0])]


def classifier(architecture="Bert", tokenizer=None, **options):
    tokenizer = tokenizer or tiny_tokenizer()
    return HuggingFaceClassifier(tiny.tiny_model(architecture, tokenizer), tokenizer, **options)


def alone(model, text):
    """The logits of the model on a text of its own, by its tokenizer."""
    parts = (text,) if isinstance(text, str) else text
    inputs = model.tokenizer(
        *parts, return_tensors="pt", truncation=True, max_length=model.max_length
    )
    with torch.no_grad():
        return model.model(**inputs).logits[0].double().numpy()


@pytest.mark.parametrize(
    ("architecture", "tokenizer"),
    [
        ("Bert", "wordpiece"),
        ("Roberta", "byte-level BPE"),
        ("GPT2", "byte-level BPE without special tokens"),
        ("XLNet", "unigram"),
    ],
)
def test_scores_are_those_of_the_text_alone(architecture, tokenizer):
    model = classifier(architecture, tiny.TOKENIZERS[tokenizer]())
    victim = PlainVictim(model)
    texts = TEXTS if tokenizer != "wordpiece" else [*TEXTS, "naïve café"]
    found = victim.logits(texts)
    for text, logits in zip(texts, found, strict=True):
        np.testing.assert_allclose(logits, alone(model, text), rtol=1e-4, atol=1e-4)
    assert victim.score_type == "logits"
    assert victim.forwards == len(set(texts))
    assert victim._pads == (architecture in ("Bert", "Roberta"))


def test_texts_are_padded_to_the_batch_and_classified_once():
    model = classifier()
    victim, shapes = PlainVictim(model), []
    model.model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    victim.logits(TEXTS)
    assert shapes[-1] == (4, max(len(model.tokenizer(text)["input_ids"]) for text in TEXTS))
    assert len(shapes) == 3  # two of them to see what padding does
    victim.logits(TEXTS[::-1])
    assert len(shapes) == 3
    assert victim.forwards == 4
    model.batch_tokens = 60
    victim.logits(TEXTS, remember=False)
    sizes = [rows * length for rows, length in shapes[3:]]
    assert sum(rows for rows, _ in shapes[3:]) == 5
    assert 1 < len(sizes) < 5
    assert max(sizes) <= 60


def test_long_texts_and_pairs_are_read_as_in_certification():
    long = "good film " * 60
    model = classifier(max_length=20)
    victim = PlainVictim(model)
    np.testing.assert_allclose(victim.logits([long])[0], alone(model, long), atol=1e-5)
    model = classifier(tokenizer=tiny.wordpiece())
    victim = PlainVictim(model)
    for pair, logits in zip(PAIRS, victim.logits(PAIRS), strict=True):
        np.testing.assert_allclose(logits, alone(model, pair), rtol=1e-4, atol=1e-4)


def test_models_with_fewer_positions_than_the_tokenizer_says():
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = int(1e30)
    victim = PlainVictim(classifier(tokenizer=tokenizer))
    assert np.isfinite(victim.logits(["good film " * 300])[0]).all()


def test_half_precision_alone_is_the_same_in_any_company():
    model = classifier(batch_tokens=1)
    model.model.to(torch.bfloat16)
    victim = PlainVictim(model)
    together = victim.score([Question(text, 0) for text in TEXTS])
    for text, log_p in zip(TEXTS, together, strict=True):
        (again,) = PlainVictim(model).score([Question(text, 0)])
        assert again.tolist() == log_p.tolist()
        assert log_p.dtype == np.float64
        assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-12)


def test_temperature_divides_logits():
    victim = PlainVictim(lambda texts: [[1.0, 4.0]] * len(texts))
    found = victim.score([Question("a", 0), Question("a", 0, temperature=10.0)])
    odds = [row[1] - row[0] for row in found]
    np.testing.assert_allclose(odds, [3.0, 0.3])


def test_functions_say_what_they_return():
    probabilities = PlainVictim(lambda texts: torch.tensor([[0.25, 0.75]] * len(texts)).half())
    (found,) = probabilities.score([Question("a", 0)])
    np.testing.assert_allclose(np.exp(found), [0.25, 0.75], atol=1e-3)
    assert probabilities.score_type == "probabilities"
    declared = PlainVictim(lambda texts: [[0.25, 0.75]] * len(texts), scores="logits")
    (found,) = declared.score([Question("a", 0)])
    assert found[1] - found[0] == pytest.approx(0.5)
    with pytest.raises(ModelError, match='Say scores="logits"'):
        PlainVictim(lambda texts: [[2.0, 3.0]] * len(texts), scores="probabilities").logits(["a"])
    with pytest.raises(
        ModelError, match=r"one row of scores for each of 2 texts; got shape \(2,\)"
    ):
        PlainVictim(lambda texts: [0.5] * len(texts)).logits(["a", "b"])
    with pytest.raises(ModelError, match=r"not finite numbers .* for 1 of 2 texts.*'b'"):
        PlainVictim(lambda texts: [[0.0, 1.0 if t == "a" else np.nan] for t in texts]).logits(
            ["a", "b"]
        )
    with pytest.raises(ModelError, match=r"HuggingFaceClassifier\(model, tokenizer\)"):
        PlainVictim(3)


def test_callable_classifiers_keep_their_batch_size():
    calls = []

    def function(texts):
        calls.append(len(texts))
        return [[0.0, 1.0]] * len(texts)

    victim = PlainVictim(CallableClassifier(function, ["no", "yes"], batch_size=2))
    victim.logits(["a", "b", "c"])
    assert calls == [2, 1]


def test_the_judge_asks_again_and_alone_in_doubt():
    calls = []

    def function(texts):
        calls.append(list(texts))
        alone = 1e-3 if len(texts) == 1 else 0.0
        return [[0.0, 1.0] if text == "sure" else [1.0 + alone, 1.0] for text in texts]

    victim = PlainVictim(function, scores="logits")
    victim.logits(["sure", "torn"])
    assert [verdict.predicted for verdict in victim.judge(["sure", "torn"])] == [1, 0]
    assert calls == [["sure", "torn"], ["sure", "torn"], ["torn"]]


# --- examples ------------------------------------------------------------------------------------


def test_examples_come_in_many_forms():
    expected = [Example(0, "a", 1), Example(1, "b", 0)]
    split = Split(
        name="test",
        texts=["a", "b"],
        labels=[1, 0],
        label_names=["no", "yes"],
        content_hash="",
        description="",
    )
    for dataset in (
        split,
        [("a", np.int64(1)), ("b", torch.tensor(0))],
        [{"text": "a", "label": 1}, {"text": "b", "label": np.array(0)}],
        zip(["a", "b"], np.array([1, 0]), strict=True),
    ):
        found = read_examples(dataset, None)
        assert found == expected
        assert all(type(example.label) is int for example in found)
    assert read_examples(split, 1) == expected[:1]
    pairs = read_examples([{"text": "a", "pair": "b", "label": 1, "example_id": 7}], None)
    assert pairs == [Example(7, ("a", "b"), 1)]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ([], "nothing to attack"),
        (["a text"], r"expected \(text, label\), or a mapping"),
        ([("a", 0.5)], "class index of at least 0 as the label at position 0; got 0.5"),
        ([("a", -1)], "class index"),
        ([{"text": "a"}], "class index"),
        ([(3, 1)], "expected a text, or a pair of texts"),
        ([("a", 1), (("a", "b"), 1)], "texts alone or pairs alone"),
        ([{"text": "a", "label": 0, "example_id": 1}] * 2, "an example_id of its own"),
    ],
)
def test_unfit_examples_are_refused(dataset, message):
    with pytest.raises(DataError, match=message):
        read_examples(dataset, None)
