"""Adversarial examples as training rows, with an attack that is plain to see through."""

import json
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from conftest import tiny_tokenizer
from transformers import Trainer, TrainingArguments

from robust_nlp.augmentation import (
    Adversarial,
    AdversarialExamples,
    AdversarialRows,
    AugmentedRows,
    Copies,
    DeleteImportantWords,
    EnvironmentRows,
    Environments,
    RefreshRows,
    Typos,
    Victim,
    adversarial,
    settings,
    word_importance,
)
from robust_nlp.augmentation.attacks import AttackedRow
from robust_nlp.augmentation.victim import model_key
from robust_nlp.errors import (
    DataError,
    MissingExtraError,
    ModelError,
    RecipeError,
    RobustNLPWarning,
)
from robust_nlp.fishr.config import FishrConfig
from robust_nlp.fishr.trainer import FishrTrainer
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.settings import build, plain
from robust_nlp.training.collators import NoisyCollator

TEXTS = [
    "the film is a good film and the cast was brilliant",
    "a bad story , the plot is poor and it was not good at all",
    "don't you think this is an awful, tedious picture?",
    "this lovely movie isn't boring: i'd see it again!",
    "numbers 12 and 345",
    "a lovely cast",
]
ROWS = [
    {"text": text, "label": i % 2, "example_id": i, "domain": "ab"[i % 3 == 0]}
    for i, text in enumerate(TEXTS)
]


@pytest.fixture(scope="module")
def classifier():
    tokenizer = tiny_tokenizer()
    return HuggingFaceClassifier(tiny.tiny_model("Bert", tokenizer), tokenizer)


@pytest.fixture
def attacks(monkeypatch):
    """Attacks that append a number from their seed, and fail on commas; lists attacked texts."""
    done = []

    def attack_text(attack, text, label, *, seed):
        done.append(text)
        body = text if isinstance(text, str) else text[0]
        if "," in body:
            return AttackedRow(text, "failed", 3)
        new = f"{body} {seed % 1000}"
        return AttackedRow(new if isinstance(text, str) else (new, text[1]), "success", 2)

    monkeypatch.setattr(adversarial, "build_attack", lambda *args, **kwargs: None)
    monkeypatch.setattr(adversarial, "attack_text", attack_text)
    monkeypatch.setattr(settings, "textattack_version", lambda: "0")
    return done


RECIPE = Adversarial(recipe="deepwordbug")
LABELS = [row["label"] for row in ROWS]


# --- generating ----------------------------------------------------------------------------------


def test_results_depend_on_example_epoch_and_seed_alone(attacks, classifier):
    def texts(seed=0, order=slice(None), **key):
        examples = AdversarialExamples(RECIPE, seed=seed)
        ids = list(range(6))[order]
        found = examples.generate(classifier, TEXTS[order], LABELS[order], example_ids=ids, **key)
        return [row.text for row in found][order]

    base = texts()
    assert texts(order=slice(None, None, -1)) == base
    assert base[0].startswith(TEXTS[0] + " ")
    assert base[1] == TEXTS[1]
    assert texts(epoch=1) != base
    assert texts(seed=1) != base


def test_attacks_on_disk_are_not_repeated_unless_something_changed(attacks, classifier, tmp_path):
    def generate(recipe=RECIPE, labels=LABELS, texts=TEXTS, model=None):
        examples = AdversarialExamples(recipe)
        return examples.generate(classifier, texts, labels, folder=tmp_path, model=model)

    first = generate()
    assert len(attacks) == 6
    assert generate() == first
    assert generate(model=model_key(classifier)) == first
    assert len(attacks) == 6
    generate(Adversarial(recipe="deepwordbug", share=0.7, start=3, every=2, environment="x"))
    assert len(attacks) == 6  # which rows are attacked when does not change what becomes of one
    generate(model="another")
    assert len(attacks) == 12
    generate(recipe=Adversarial(recipe="deepwordbug", max_queries=9))
    assert len(attacks) == 18
    generate(labels=[1, *LABELS[1:]])
    assert len(attacks) == 19
    generate(texts=["a new text", *TEXTS[1:]])
    assert len(attacks) == 20


def test_pairs_come_back_as_pairs_from_disk(attacks, classifier, tmp_path):
    pairs = [(text, "a protected text") for text in TEXTS]
    for _ in range(2):
        found = AdversarialExamples(RECIPE).generate(classifier, pairs, LABELS, folder=tmp_path)
        assert all(isinstance(row.text, tuple) for row in found)
        assert found[0].text[1] == "a protected text"
    assert len(attacks) == 6


def test_a_function_needs_a_name_for_results_on_disk(attacks, tmp_path):
    def scores(texts):
        return [[0.0, 1.0]] * len(texts)

    with pytest.raises(ModelError, match="give model="):
        AdversarialExamples(RECIPE).generate(scores, TEXTS, LABELS, folder=tmp_path)
    AdversarialExamples(RECIPE).generate(scores, TEXTS, LABELS, folder=tmp_path, model="mine")
    assert len(AdversarialExamples(RECIPE).generate(scores, TEXTS, LABELS)) == 6


def test_texts_and_labels_must_be_equally_many(attacks, classifier):
    with pytest.raises(DataError, match="got 1 and 2 for 2 texts"):
        AdversarialExamples(RECIPE).generate(classifier, TEXTS[:2], LABELS[:1])


def test_errors_of_some_attacks_warn_and_of_all_stop(attacks, classifier, monkeypatch):
    def odd(attack, text, label, *, seed):
        wrong = "numbers" in text
        return AttackedRow(
            text, "error" if wrong else "failed", 0, "IndexError: 7" if wrong else ""
        )

    monkeypatch.setattr(adversarial, "attack_text", odd)
    with pytest.warns(RobustNLPWarning, match="1 of 6 attacks ended in errors.*IndexError: 7"):
        AdversarialExamples(RECIPE).generate(classifier, TEXTS, LABELS)
    with pytest.raises(DataError, match="all 1 attacks ended in errors"):
        AdversarialExamples(RECIPE).generate(classifier, TEXTS[4:5], LABELS[4:5])


def test_without_textattack_the_extra_is_named(classifier, monkeypatch):
    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)
    with pytest.raises(MissingExtraError, match=r"robust-nlp\[attack\]"):
        AdversarialExamples(RECIPE).generate(classifier, TEXTS, LABELS)


# --- rows ----------------------------------------------------------------------------------------


def test_rows_keep_place_label_domain_and_source(attacks, classifier, tmp_path):
    rows = AdversarialRows(ROWS, Adversarial(recipe="deepwordbug", share=0.5), folder=tmp_path)
    fixed = [(row["label"], row["domain"], row["example_id"]) for row in rows]
    assert sorted((label, domain) for label, domain, _ in fixed) == [
        (0, "a"),
        (0, "b"),
        (1, "a"),
        (1, "b"),
    ]
    assert {row["text"] for row in rows} <= set(TEXTS)
    assert rows.refresh(classifier, 0) == []
    assert attacks == []
    texts = {}
    for epoch in (1, 2):
        assert len(rows.refresh(classifier, epoch)) == len(rows) == 4
        assert [(row["label"], row["domain"], row["example_id"]) for row in rows] == fixed
        for row in rows:
            source = ROWS[row["source_id"]]
            assert row["augmented"] is True
            assert (row["label"], row["domain"]) == (source["label"], source["domain"])
            if "," in source["text"]:
                assert row["text"] == source["text"]
            else:
                assert row["text"].startswith(source["text"] + " ")
        texts[epoch] = [row["text"] for row in rows]
    assert texts[1] != texts[2]
    assert len({row["example_id"] for row in rows} | set(range(6))) == 10


def test_adversarial_rows_may_be_an_environment_and_copies_are_not_attacked(attacks, tmp_path):
    whole = AugmentedRows(ROWS, Copies(augmenters=[Typos()]))
    recipe = Adversarial(recipe="deepwordbug", share=1.0, environment="attacked")
    rows = AdversarialRows(whole, recipe, folder=tmp_path)
    assert len(rows) == 6
    assert {(row["domain"], row["augmented"]) for row in rows} == {("attacked", False)}
    assert {row["example_id"] for row in rows}.isdisjoint(row["example_id"] for row in whole)
    both = whole + rows
    assert [row["example_id"] for row in both][-6:] == [row["example_id"] for row in rows]


def test_attacks_come_every_few_epochs(attacks, classifier, tmp_path):
    recipe = Adversarial(recipe="deepwordbug", share=1.0, start=1, every=3)
    rows = AdversarialRows(ROWS, recipe, folder=tmp_path)
    made = [len(rows.refresh(classifier, epoch)) for epoch in range(6)]
    assert made == [0, 6, 0, 0, 6, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-001", "epoch-004"]


def changed_copy(classifier):
    """The same classifier after a step of training."""
    model = tiny.tiny_model("Bert", classifier.tokenizer)
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table.copy_(table.flip(0))
    return HuggingFaceClassifier(model, classifier.tokenizer)


def test_an_epoch_resumed_in_its_middle_keeps_its_texts(attacks, classifier, tmp_path):
    recipe = Adversarial(recipe="deepwordbug", share=1.0, every=2)
    rows = AdversarialRows(ROWS, recipe, folder=tmp_path)
    rows.refresh(classifier, 1)
    texts = [row["text"] for row in rows]
    later = changed_copy(classifier)
    assert model_key(later) != model_key(classifier)
    for epoch, resumed in ((1, True), (2, False), (2, True)):
        again = AdversarialRows(ROWS, recipe, folder=tmp_path)
        again.refresh(later, epoch, resumed=resumed)
        assert [row["text"] for row in again] == texts
    assert len(attacks) == 6
    again = AdversarialRows(ROWS, recipe, folder=tmp_path)
    again.refresh(later, 1)  # the epoch begins with another classifier: another training
    assert len(attacks) == 12


# --- the victim ----------------------------------------------------------------------------------


def alone(classifier, text):
    """Logits of a text by itself, from the tokenizer's own encoding."""
    parts = (text,) if isinstance(text, str) else text
    with torch.no_grad():
        return classifier.model(**classifier.tokenizer(*parts, return_tensors="pt")).logits[0]


@pytest.mark.parametrize("paired", [False, True])
def test_the_victim_gives_the_probabilities_of_each_text_alone(classifier, paired):
    texts = list(zip(TEXTS, TEXTS[::-1], strict=True)) if paired else TEXTS
    found = Victim(classifier)(texts)
    expected = torch.stack([alone(classifier, text) for text in texts]).double().softmax(-1)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(found.sum(-1), torch.ones(6, dtype=torch.float64))


def test_the_victim_pads_to_the_batch_and_leaves_training_mode_on(classifier, monkeypatch):
    widths = []
    forward = classifier.model.forward
    monkeypatch.setattr(
        classifier.model,
        "forward",
        lambda **batch: widths.append(batch["input_ids"].shape) or forward(**batch),
    )
    calm = Victim(classifier)(["good", "a good film"])
    classifier.model.train()
    try:
        busy = Victim(classifier)(["good", "a good film"])
        assert classifier.model.training
    finally:
        classifier.model.eval()
    assert torch.equal(busy, calm)  # no dropout
    assert widths == [(2, 5)] * 2


def test_double_precision_tells_sure_answers_apart():
    victim = Victim(lambda texts: [[25.0 + len(text), 0.0] for text in texts])
    p = victim(["", "x"])[:, 0]
    assert p[0] < p[1] < 1.0
    assert p.float()[0] == p.float()[1]


def test_functions_may_give_probabilities():
    victim = Victim(lambda texts: [[0.25, 0.75]] * len(texts), scores="probabilities")
    torch.testing.assert_close(victim(["a"]), torch.tensor([[0.25, 0.75]], dtype=torch.float64))
    with pytest.raises(ModelError, match="expected probabilities that sum to one"):
        Victim(lambda texts: [[0.5, 0.75]], scores="probabilities")(["a"])
    with pytest.raises(ModelError, match="one row of scores for each of 2 texts"):
        Victim(lambda texts: [[0.5, 0.75]])(["a", "b"])
    with pytest.raises(ModelError, match="need a HuggingFaceClassifier"):
        victim.get_grad("a")


@pytest.mark.parametrize(
    ("tokenizer", "architecture"), [("wordpiece", "Bert"), ("byte-level BPE", "Roberta")]
)
def test_gradients_are_those_of_the_embeddings(tokenizer, architecture):
    tokenizer = tiny.TOKENIZERS[tokenizer]()
    model = tiny.tiny_model(architecture, tokenizer)
    text, table = TEXTS[3], model.get_input_embeddings().weight
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    logits = model(input_ids=ids).logits
    torch.nn.functional.cross_entropy(logits, logits.argmax(-1)).backward()
    expected, counts = table.grad.clone(), torch.bincount(ids[0], minlength=len(table))
    model.zero_grad()

    model.train()  # dropout must not show
    found = Victim(HuggingFaceClassifier(model, tokenizer)).get_grad(text)
    assert found["ids"].tolist() == ids.tolist()
    once = [k for k, i in enumerate(ids[0].tolist()) if counts[i] == 1]
    assert len(once) > 5
    for k in once:
        np.testing.assert_allclose(found["gradient"][k], expected[ids[0, k]], atol=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize("name", ["wordpiece", "byte-level BPE", "unigram"])
def test_tokens_without_marks_spell_the_words(name):
    tokenizer = tiny.TOKENIZERS[name]()
    architecture = "Bert" if name == "wordpiece" else "Roberta"
    victim = Victim(HuggingFaceClassifier(tiny.tiny_model(architecture, tokenizer), tokenizer))
    (tokens,) = victim.tokenize(["a good film"], strip_prefix=True)
    assert "".join(tokens[1:-1]).replace("▁", "") == "agoodfilm"
    assert len(tokens) == len(victim.get_grad("a good film")["gradient"])


# --- in training ---------------------------------------------------------------------------------


class Seen(NoisyCollator):
    """A collator that remembers the texts of each epoch."""

    def __call__(self, examples):
        self.seen.append([(row["example_id"], row["text"]) for row in examples])
        return super().__call__(examples)


def train(classifier, dataset, refresh, tmp_path, **options):
    collator = Seen(classifier.tokenizer, None, max_length=64)
    collator.seen = []
    args = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=100,
        remove_unused_columns=False,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        dataloader_pin_memory=False,
        **options,
    )
    Trainer(
        model=classifier.model,
        args=args,
        train_dataset=dataset,
        data_collator=collator,
        callbacks=[refresh],
    ).train()
    return [dict(batch) for batch in collator.seen]


def test_training_sees_new_texts_in_each_epoch(attacks, tmp_path):
    tokenizer = tiny_tokenizer()
    classifier = HuggingFaceClassifier(tiny.tiny_model("Bert", tokenizer), tokenizer)
    copies = Copies(augmenters=[DeleteImportantWords(rate=0.5)], every=2)
    augmented = AugmentedRows(ROWS, copies)
    recipe = Adversarial(recipe="deepwordbug", share=1.0)
    attacked = AdversarialRows(augmented, recipe, folder=tmp_path / "attacked")
    refresh = RefreshRows([augmented, attacked], classifier, folder=tmp_path / "importance")
    before = model_key(classifier)
    untrained = word_importance(Victim(classifier).scores, TEXTS, LABELS)
    epochs = train(classifier, augmented + attacked, refresh, tmp_path, num_train_epochs=3)
    clean, copied, adversarial_ids = range(6), range(6, 12), range(12, 18)
    for epoch, texts in enumerate(epochs):
        assert len(texts) == 18
        assert [texts[i] for i in clean] == TEXTS
        assert sum(texts[i] not in TEXTS for i in adversarial_ids) == (0 if epoch == 0 else 4)
    assert len({tuple(texts[i] for i in copied) for texts in epochs}) == 3
    assert len({tuple(texts[i] for i in adversarial_ids) for texts in epochs}) == 3
    assert model_key(classifier) != before
    # Importance was measured with the untrained classifier first, then after two epochs.
    folders = sorted((tmp_path / "importance").iterdir())
    assert [folder.name for folder in folders] == ["epoch-000-0", "epoch-002-0"]
    lines = (folders[0] / "part-000.jsonl").read_text(encoding="utf-8").splitlines()
    stored = [json.loads(line)["importance"] for line in lines]
    for found, expected in zip(stored, untrained, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (folders[0] / "model.txt").read_text() == before


def test_importance_of_an_epoch_resumed_in_its_middle_is_that_of_its_start(classifier, tmp_path):
    def texts_after(model, epoch):
        rows = AugmentedRows(ROWS, Copies(augmenters=[DeleteImportantWords(rate=0.5)]))
        refresh = RefreshRows([rows], model, folder=tmp_path)
        refresh.on_epoch_begin(None, SimpleNamespace(epoch=epoch), None)
        return rows.epoch, [row["text"] for row in rows]

    later = changed_copy(classifier)
    begun = texts_after(classifier, 1.0 - 1e-9)
    assert begun[0] == 1
    assert texts_after(later, 1.5) == begun
    assert texts_after(later, 1.0) != begun


def test_what_depends_on_the_classifier_must_know_it(attacks, classifier, tmp_path):
    attacked = AdversarialRows(ROWS, RECIPE, folder=tmp_path)
    important = AugmentedRows(ROWS, Copies(augmenters=[DeleteImportantWords()]))
    for rows in (attacked, important):
        with pytest.raises(RecipeError, match="depend on the classifier in training"):
            RefreshRows([rows])
    with pytest.raises(RecipeError, match="importance of words is kept on disk"):
        RefreshRows([important], classifier)
    refresh = RefreshRows([attacked], classifier)
    options = {"dataloader_persistent_workers": True, "dataloader_num_workers": 1}
    with pytest.raises(RecipeError, match="set dataloader_persistent_workers to false"):
        train(classifier, attacked, refresh, tmp_path, max_steps=1, **options)
    RefreshRows([AugmentedRows(ROWS, Copies(augmenters=[Typos()]))])


# --- settings ------------------------------------------------------------------------------------


def test_settings_are_read_from_a_recipe():
    recipe = Adversarial(swaps={"good": ["great"]}, share=0.5, environment="attacked")
    assert build(Adversarial, plain(recipe)) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, 'belong to recipe="a2t" and only to it'),
        ({"recipe": "pwws", "swaps": "wordnet"}, "and only to it"),
        ({"recipe": "inputreduction"}, "'a2t', 'bae'"),
        ({"recipe": "pwws", "start": -1}, "start must be at least 0"),
        ({"recipe": "pwws", "every": 0}, "every at least 1"),
        ({"recipe": "pwws", "share": 0}, r"share in \(0, 1\]; got 0"),
        ({"recipe": "pwws", "max_queries": 0}, "max_queries must be at least 1"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        build(Adversarial, values)


# --- over domains --------------------------------------------------------------------------------


def test_environments_are_domains_of_a_fishr_trainer(attacks, tmp_path):
    tokenizer = tiny_tokenizer()
    classifier = HuggingFaceClassifier(tiny.tiny_model("Bert", tokenizer), tokenizer)
    rows = [{"text": text, "label": i % 2, "example_id": i} for i, text in enumerate(TEXTS * 4)]
    perturbations = {"clean": None, "typos": Typos(rate=0.5)}
    environments = EnvironmentRows(rows, Environments(perturbations=perturbations))
    attacked = AdversarialRows(
        environments, Adversarial(recipe="deepwordbug", start=0), folder=tmp_path / "attacked"
    )
    args = FishrConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=16,
        max_steps=4,
        logging_steps=1,
        rows_per_domain=4,
        remove_unused_columns=False,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = FishrTrainer(
        classifier.model,
        args,
        train_dataset=environments + attacked,
        data_collator=NoisyCollator(tokenizer, None, max_length=64),
        callbacks=[RefreshRows([environments, attacked], classifier)],
    )
    trainer.train()
    assert trainer.domains.names == ["clean", "typos"]
    assert attacks
    assert all(log["penalty"] > 0.0 for log in trainer.state.log_history if "penalty" in log)
    assert any("typos_loss" in log for log in trainer.state.log_history)


def test_rows_beside_copies_have_ids_of_their_own(attacks, tmp_path):
    copies = AugmentedRows(ROWS, Copies(augmenters=[Typos()], copies=2))
    settings = Adversarial(recipe="deepwordbug", share=1.0)
    rows = AdversarialRows(ROWS, settings, folder=tmp_path, first_id=copies.next_id)
    ids = [row["example_id"] for row in [*copies, *rows]]
    assert len(set(ids)) == len(ids) == 4 * len(ROWS)
