"""Training a denoiser: what it is shown, what it is asked, and the whole run."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import BAD, GOOD, NEUTRAL, NO_DROPOUT, tiny_bert
from safetensors.torch import load_file
from tiny import tiny_model, wordpiece
from tiny_lms import MASKED_LMS, parts, tiny_lm
from torch.utils.data import DataLoader

from robust_nlp import (
    FixedPlan,
    HuggingFaceClassifier,
    RandomizedDeletion,
    RandomMasking,
    SmoothedClassifier,
)
from robust_nlp.data import Split
from robust_nlp.denoising import (
    MASK,
    DenoisedClassifier,
    DenoiserTraining,
    MaskedLMDenoiser,
    MaskedLMSettings,
    load_denoiser,
)
from robust_nlp.denoising.collator import FillCollator, noised
from robust_nlp.denoising.gaps import with_slots
from robust_nlp.denoising.objectives import reconstruction, repaired_scores
from robust_nlp.denoising.run import train_denoiser
from robust_nlp.denoising.wording import NO_TARGET, Wording
from robust_nlp.errors import DataError, ModelError, RecipeError
from robust_nlp.mechanisms import BagDeletion
from robust_nlp.mechanisms.combined import CombinedNoise
from robust_nlp.recipe import DataRecipe, ModelRecipe, Recipe
from robust_nlp.units import keyed_rng

MASKING = RandomMasking(p_mask=0.5, mask="[MASK]")
DELETION = RandomizedDeletion(p_del=0.5)
TEXT = "the film is a good film and the cast was brilliant"


def example(text: str = TEXT, i: int = 0, **more) -> dict:
    return {"text": text, "example_id": i, **more}


# What it is shown and asked.


@pytest.mark.parametrize("name", MASKED_LMS)
@pytest.mark.parametrize(
    ("mechanism", "gap_masks"),
    [
        (MASKING, 0.0),
        (DELETION, 1.0),
        (RandomizedDeletion(p_del=0.3), 0.4),
        (CombinedNoise(p_del=0.3, p_mask=0.3, mask="[MASK]"), 2.0),
        (CombinedNoise(p_mask=0.3, p_substitute=0.3, vocabulary=("plot", "a"), mask="_"), 0.0),
    ],
    ids=["masking", "deletion", "less deletion", "combined", "replaced"],
)
def test_it_is_shown_what_the_denoiser_reads(name, mechanism, gap_masks):
    model, tokenizer = parts(name)
    denoiser = MaskedLMDenoiser(model, tokenizer, gap_masks=gap_masks)
    units = ["the", "film", "isn't", "a", "good", "film", ",", "and", "zzz", "was", "brilliant"]
    law = mechanism.law(units)
    mask = getattr(mechanism, "mask", None)
    for row in law.draw(20, np.random.default_rng(0)):
        words, meant = noised(units, law.extra_units, row, mechanism, gap_masks)
        shown = [[*units, *law.extra_units][i] for i in row if i >= 0]
        noisy = " ".join(MASK if unit == mask else unit for unit in shown)
        assert words == with_slots(noisy, gap_masks)
        assert all(
            position is None or word is None for word, position in zip(words, meant, strict=True)
        )
        asked = [position for position in meant if position is not None]
        assert asked == sorted(set(asked))
        kept = {int(i) for i in row if 0 <= i < len(units)}
        assert not kept & set(asked)
        assert denoiser._wording.lay_out(words).body.tolist() == (
            FillCollator(tokenizer, mechanism, gap_masks=gap_masks, max_length=denoiser.max_length)
            .wording.lay_out(words)
            .body.tolist()
        )


@pytest.mark.parametrize("name", MASKED_LMS)
def test_targets_are_the_masked_words_where_one_token_is_the_word(name):
    _, tokenizer = parts(name)
    collator = FillCollator(tokenizer, MASKING, gap_masks=0.0, max_length=64)
    wording = Wording(tokenizer, 64)
    asked = 0
    for i in range(20):
        batch = collator([example(i=i)])
        ids, targets = batch["input_ids"][0], batch["targets"][0]
        slots = ids == tokenizer.mask_token_id
        assert slots.sum() == 11 - MASKING.kept(11)
        assert (targets[~slots] == NO_TARGET).all()
        for place in slots.nonzero()[:, 0].tolist():
            if targets[place] != NO_TARGET:
                assert wording.words[int(targets[place])] in TEXT.split()
                asked += 1
    assert asked > 20


def test_targets_of_gaps_are_lost_words_in_their_order():
    units = ["a", "b", "c", "d", "e", "f"]
    row = np.array([-1, 1, -1, -1, -1, 5])
    words, meant = noised(units, (), row, DELETION, 1.0)
    assert words == [None, "b", None, "f", None]
    assert meant == [0, None, 3, None, None]
    words, meant = noised(units, (), row, DELETION, 2.0)
    assert meant == [None, 0, None, 2, 4, None, None, None]


def test_noise_changes_with_the_epoch_unless_it_is_fixed():
    _, tokenizer = parts("wordpiece")
    collator = FillCollator(tokenizer, MASKING, gap_masks=0.0, max_length=64)
    shown = []
    for epoch in (0, 1):
        collator.epoch = epoch
        batch = collator([example(), example(fixed=True)])
        shown.append(batch["input_ids"].tolist())
    assert shown[0][0] != shown[1][0]
    assert shown[0][1] == shown[1][1]
    assert shown[0][0] != shown[0][1]


def test_batches_are_the_same_from_worker_processes_and_in_any_company():
    _, tokenizer = parts("wordpiece")
    collator = FillCollator(tokenizer, DELETION, gap_masks=1.0, max_length=64)
    rows = [example("the film was " + word, i, label=i % 2) for i, word in enumerate(GOOD)]
    alone = [collator([row]) for row in rows]
    together = collator(rows)
    for i, batch in enumerate(alone):
        size = batch["input_ids"].shape[1]
        for name in ("input_ids", "targets", "attention_mask"):
            assert torch.equal(together[name][i, :size], batch[name][0])
        assert (together["attention_mask"][i, size:] == 0).all()
        assert (together["targets"][i, size:] == NO_TARGET).all()
    loaded = list(DataLoader(rows, batch_size=1, collate_fn=collator, num_workers=1))
    assert all(
        torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(alone, loaded, strict=True)
    )
    assert together["labels"].tolist() == [0, 1, 0, 1, 0, 1]


def test_the_protected_side_of_a_pair_is_not_read():
    _, tokenizer = parts("wordpiece")
    for protected, text, pair in (("first", "awful", TEXT), ("second", TEXT, "awful")):
        collator = FillCollator(
            tokenizer, MASKING, gap_masks=0.0, max_length=64, protected=protected
        )
        ids = collator([example(text, pair=pair)])["input_ids"][0]
        assert (ids == tokenizer.mask_token_id).sum() == 6
        assert "awful" not in tokenizer.decode(ids)


def test_noise_that_moves_words_or_splits_them_cannot_be_trained_on():
    _, tokenizer = parts("wordpiece")
    collator = FillCollator(tokenizer, BagDeletion(p_del=0.3), gap_masks=0.0, max_length=64)
    with pytest.raises(RecipeError, match="bag_deletion moves them"):
        collator([example(i=i) for i in range(10)])
    characters = RandomizedDeletion(p_del=0.3, unit="character")
    with pytest.raises(RecipeError, match=r"got mechanism\.unit='character'"):
        FillCollator(tokenizer, characters, gap_masks=0.0, max_length=64)
    tokenizer = wordpiece()
    tokenizer.pad_token = None
    with pytest.raises(ModelError, match="no pad token"):
        FillCollator(tokenizer, MASKING, gap_masks=0.0, max_length=64)


# Objectives.


def test_reconstruction_is_the_mean_over_the_words_of_each_text():
    logits = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1, -100, 2, -100], [-100] * 4, [-100, -100, -100, 6]])
    losses = reconstruction(logits, targets)
    log_p = logits.log_softmax(dim=-1)
    expected = [-(log_p[0, 0, 1] + log_p[0, 2, 2]) / 2, 0.0, -log_p[2, 3, 6]]
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_the_classifier_reads_the_filled_in_text_and_its_gradient_reaches_the_denoiser():
    lm, tokenizer = parts("wordpiece")
    classifier = tiny_model("Bert", tokenizer).requires_grad_(False)
    denoiser = MaskedLMDenoiser(lm, tokenizer)
    noisy = f"the {MASK} is {MASK}"
    wording = denoiser._wording
    layout = wording.lay_out(with_slots(noisy, 0.0))
    ids = torch.from_numpy(np.concatenate([[2], layout.body, [3]]).astype(np.int64))[None]
    logits = lm(input_ids=ids).logits.detach().requires_grad_(True)
    slots = ids == wording.mask_id
    allowed = torch.from_numpy(wording.whole[1]).expand(2, -1)
    scores = repaired_scores(classifier, ids, torch.ones_like(ids), logits, slots, allowed)
    ((repaired,),) = denoiser.repair([noisy])
    with torch.no_grad():
        expected = classifier(**tokenizer(repaired, return_tensors="pt")).logits
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    F.cross_entropy(scores, torch.tensor([0])).backward()
    assert (logits.grad[slots].abs().sum(dim=1) > 0.0).all()
    assert (logits.grad[~slots] == 0.0).all()
    assert (logits.grad[slots][:, ~wording.whole[1]] == 0.0).all()


# The whole run.


def reviews(name: str, n: int) -> Split:
    """Texts in which the word after "very" is told by the first word."""
    rng = keyed_rng(0, name)
    texts = []
    for _ in range(n):
        first, kind = (("film", GOOD), ("plot", BAD))[int(rng.integers(2))]
        words = [first, *rng.choice(NEUTRAL, 3), kind[0], kind[0]]
        texts.append(" ".join(words))
    return Split(
        name=name,
        texts=texts,
        labels=[int(text.startswith("film")) for text in texts],
        label_names=["negative", "positive"],
        content_hash="",
        description="made up",
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    """A small encoder without any head."""
    folder = tiny_bert(tmp_path_factory.mktemp("encoder"), "BertModel", **NO_DROPOUT)
    # Of large weights, so that answers depend on the text.
    tiny_bert(folder / "classifier", initializer_range=0.7, **NO_DROPOUT)
    return folder


def settings(encoder: Path, **options) -> MaskedLMSettings:
    args = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 5e-3,
        "disable_tqdm": True,
        **options.pop("args", {}),
    }
    return MaskedLMSettings(model=str(encoder), train=DenoiserTraining(args=args, **options))


def recipe(encoder: Path, mechanism=MASKING, **data) -> Recipe:
    return Recipe(
        name="test",
        model=ModelRecipe(base=str(encoder), device="cpu"),
        data=DataRecipe(path="none", **data),
        mechanism=mechanism,
        seed=7,
    )


def classifier(encoder: Path) -> HuggingFaceClassifier:
    return HuggingFaceClassifier.from_pretrained(encoder / "classifier", device="cpu")


TRAIN, VALIDATION = reviews("train", 64), reviews("validation", 24)


@pytest.mark.parametrize("mechanism", [MASKING, DELETION], ids=["masking", "deletion"])
def test_a_trained_denoiser_finds_words_better_and_serves_certification(
    encoder, mechanism, tmp_path
):
    chosen = settings(encoder, args={"num_train_epochs": 6})
    result = train_denoiser(chosen, recipe(encoder, mechanism), TRAIN, VALIDATION, tmp_path)
    losses = [entry["eval_loss"] for entry in result["history"] if "eval_loss" in entry]
    assert len(losses) == 6
    assert result["best"] == min(losses) < losses[0]
    assert result["resumed_at"] == 0
    folder = tmp_path / "denoiser"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["denoiser"]
    policy = json.loads((folder / "denoiser.json").read_text())
    assert policy["gap_masks"] == float(mechanism == DELETION)
    assert policy["mechanism"]["kind"] == mechanism.kind
    denoiser = load_denoiser(chosen, mechanism, path=folder, device="cpu")
    base = DenoisedClassifier(classifier(encoder), denoiser)
    certificates = SmoothedClassifier(base, mechanism).certify(
        VALIDATION.texts[:2], FixedPlan(n_estimation=40)
    )
    assert len(certificates) == 2


def test_unlabelled_texts_and_pairs_are_enough_for_reconstruction(encoder, tmp_path):
    unlabelled = dataclasses.replace(TRAIN, labels=None, label_names=None)
    pairs = dataclasses.replace(
        VALIDATION, texts=[(text, "a b") for text in VALIDATION.texts], labels=None
    )
    chosen = settings(encoder, limit=16, args={"num_train_epochs": 1})
    result = train_denoiser(chosen, recipe(encoder), unlabelled, pairs, tmp_path)
    assert result["steps"] == 2


@pytest.mark.parametrize("objective", ["stability", "classification"])
def test_answers_of_the_classifier_can_be_trained_for(encoder, objective, tmp_path):
    args = {"num_train_epochs": 6, "learning_rate": 1e-2}
    chosen = settings(encoder, reconstruct=0.0, args=args, **{objective: 1.0})
    frozen = classifier(encoder)
    before = {name: value.clone() for name, value in frozen.model.state_dict().items()}
    result = train_denoiser(chosen, recipe(encoder), TRAIN, VALIDATION, tmp_path, classifier=frozen)
    losses = [entry["eval_loss"] for entry in result["history"] if "eval_loss" in entry]
    assert min(losses) < losses[0]
    after = frozen.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "denoiser" / "model.safetensors")


def test_an_interrupted_training_goes_on_to_the_same_denoiser(encoder, tmp_path, monkeypatch):
    args = {"load_best_model_at_end": False, "save_total_limit": None}
    chosen = settings(encoder, args=args)
    train_denoiser(chosen, recipe(encoder), TRAIN, VALIDATION, tmp_path / "whole")
    copied = tmp_path / "interrupted" / "denoiser-training" / "checkpoints"

    def keep(folder, **_):
        shutil.copytree(Path(folder) / "checkpoints", copied)

    monkeypatch.setattr("robust_nlp.denoising.run.shutil.rmtree", keep)
    train_denoiser(chosen, recipe(encoder), TRAIN, VALIDATION, tmp_path / "first")
    monkeypatch.undo()
    shutil.rmtree(copied / "checkpoint-24")
    result = train_denoiser(chosen, recipe(encoder), TRAIN, VALIDATION, tmp_path / "interrupted")
    assert result["resumed_at"] == 16
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "interrupted")
    assert whole.keys() == resumed.keys()
    for name in whole:
        torch.testing.assert_close(whole[name], resumed[name], rtol=0, atol=0)


def test_the_loss_is_the_same_for_any_split_of_a_step(encoder, tmp_path):
    results = []
    for size in (16, 4):
        args = {
            "num_train_epochs": 2,
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": 16 // size,
        }
        chosen = settings(encoder, stability=0.5, classification=0.5, limit=16, args=args)
        folder, frozen = tmp_path / str(size), classifier(encoder)
        train_denoiser(chosen, recipe(encoder), TRAIN, VALIDATION, folder, classifier=frozen)
        results.append(weights(folder))
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=1e-3, atol=1e-4)


def test_classifiers_that_do_not_fit_are_refused(encoder, tmp_path):
    def run(frozen, train=TRAIN, **options):
        chosen = settings(encoder, **{"stability": 1.0, **options})
        train_denoiser(chosen, recipe(encoder), train, VALIDATION, tmp_path, classifier=frozen)

    with pytest.raises(RecipeError, match="need a classifier; train one"):
        run(None)
    other = wordpiece()
    with pytest.raises(RecipeError, match="the very tokenizer of the denoiser"):
        run(HuggingFaceClassifier(tiny_model("Bert", other), other))
    with pytest.raises(RecipeError, match="without a prefix; got 'review :'"):
        run(HuggingFaceClassifier.from_pretrained(encoder / "classifier", prefix="review :"))
    unlabelled = dataclasses.replace(TRAIN, labels=None)
    with pytest.raises(DataError, match="needs labels; split 'train' has none"):
        run(classifier(encoder), unlabelled, stability=0.0, classification=1.0)
    pairs = dataclasses.replace(TRAIN, texts=[(text, "x") for text in TRAIN.texts])
    with pytest.raises(DataError, match="take single texts only"):
        run(classifier(encoder), pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reconstruct": 0.0}, "weights of at least 0, one of them above 0"),
        ({"stability": -1.0}, "weights of at least 0"),
        ({"limit": 0}, "limit must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DenoiserTraining(**options)
    with pytest.raises(RecipeError, match=r"train\.args"):
        train_denoiser(
            MaskedLMSettings(model="x", train=DenoiserTraining(args={"learning": 1})),
            recipe(Path("x")),
            TRAIN,
            VALIDATION,
            Path(),
        )


def test_a_model_with_a_head_of_its_own_keeps_it(tmp_path):
    tokenizer = wordpiece()
    model = tiny_lm("BertForMaskedLM", tokenizer)
    model.save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    chosen = settings(tmp_path / "lm", limit=8, args={"max_steps": 1, "learning_rate": 0.0})
    train_denoiser(chosen, recipe(tmp_path), TRAIN, VALIDATION, tmp_path)
    after = MaskedLMDenoiser.from_pretrained(tmp_path / "denoiser", device="cpu")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(after.model.state_dict()[name], value, rtol=0, atol=0)
