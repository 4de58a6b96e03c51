"""Noise on embeddings: its law, where it sits, what it hides, and which swaps are claimed."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from conftest import tiny_tokenizer
from scipy.stats import kstest, norm
from tiny import ARCHITECTURES, across_spaces, byte_level_bpe, tiny_model, unigram, wordpiece

from robust_nlp import HuggingFaceClassifier, RandomizedDeletion, embedding_noise
from robust_nlp.certification.plan import FixedPlan
from robust_nlp.embedding_noise import (
    NoisyInput,
    check_embedding,
    gaussian_noise,
    grid_step,
    input_embedding,
    on_grid,
)
from robust_nlp.errors import ModelError
from robust_nlp.inputs import read
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.smoothing import SmoothedClassifier

SWAPS = {
    "good": ["brilliant", "fine", "lovely", "unheard"],
    "film": ["cast", "plot", "movie"],
    "bad": ["poor", "awful"],
    "story": ["plot"],
}
MECHANISM = GaussianEmbedding(sigma=0.5, swaps=SWAPS)
DECODERS = ("GPT2", "Llama", "Qwen2")
REARRANGING = ("XLNet",)
FAMILIES = [name for name in ARCHITECTURES if name not in REARRANGING]
TEXT = "the film is a good film , the plot is poor"


def tokenizer_of(architecture: str):
    return byte_level_bpe(special_tokens_around=architecture not in DECODERS)


def classifier(architecture: str, **settings) -> HuggingFaceClassifier:
    tokenizer = tokenizer_of(architecture)
    return HuggingFaceClassifier(tiny_model(architecture, tokenizer, 3), tokenizer, **settings)


def keys_of(base, text, n: int = 6, mechanism=MECHANISM, seed: int = 0) -> list[NoisyInput]:
    opened = base.open(text, mechanism)
    return opened.encode(opened.law.draw(n, np.random.default_rng(seed)))


def vectors_read(base, keys, monkeypatch) -> torch.Tensor:
    """What the input embedding gives to the model in place of its own output."""
    seen = []
    original = embedding_noise.embeddings_changed

    def recording(embedding, change):
        def recorded(vectors):
            seen.append(change(vectors))
            return seen[-1]

        return original(embedding, recorded)

    with monkeypatch.context() as patch:
        patch.setattr(embedding_noise, "embeddings_changed", recording)
        base.scores(keys)
    return seen[0]


class ToyModel(torch.nn.Module):
    """A table, and any function of its vectors as scores of two classes."""

    def __init__(self, tokenizer, scores, dimension: int = 2) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(len(tokenizer), dimension)
        torch.nn.init.zeros_(self.table.weight)
        self.scores, self.tokenizer = scores, tokenizer
        self.dtype, self.device = torch.float32, torch.device("cpu")
        self.config = SimpleNamespace(
            num_labels=2,
            problem_type=None,
            id2label={0: "no", 1: "yes"},
            pad_token_id=0,
            vocab_size=len(tokenizer),
            is_encoder_decoder=False,
        )

    def get_input_embeddings(self):
        return self.table

    def place(self, word: str, *point: float) -> None:
        with torch.no_grad():
            self.table.weight[self.tokenizer.convert_tokens_to_ids(word)] = torch.tensor(point)

    def forward(self, input_ids):
        logit = self.scores(self.table(input_ids))
        return SimpleNamespace(logits=torch.stack([-logit, logit], dim=-1))


# --- the law of the noise ------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.3, 1.0, 7.0])
def test_noise_is_normal_with_the_sigma_of_the_certificate(sigma):
    noise = gaussian_noise(range(400), 25, 8, sigma=sigma).astype(np.float64)
    assert noise.shape == (400, 25, 8)
    size = noise.size
    assert abs(noise.mean()) < 4.5 * sigma / size**0.5
    assert abs(noise.var() / sigma**2 - 1.0) < 4.5 * (2.0 / size) ** 0.5
    assert kstest(noise.ravel() / sigma, norm.cdf).pvalue > 1e-4


def test_noise_is_independent_between_seeds_tokens_and_dimensions():
    noise = gaussian_noise(range(2000), 3, 2, sigma=1.0).reshape(2000, 6).astype(np.float64)
    correlations = np.corrcoef(noise.T) - np.eye(6)
    assert np.abs(correlations).max() < 4.5 / 2000**0.5
    successive = [np.corrcoef(noise[:-1, i], noise[1:, i])[0, 1] for i in range(6)]
    assert np.abs(successive).max() < 4.5 / 2000**0.5
    assert len(np.unique(noise[:, 0])) > 1500


def test_noise_depends_on_the_seed_alone():
    noise = gaussian_noise([5, 2**63 - 1, 5], 4, 3, sigma=0.5)
    assert np.array_equal(noise[0], noise[2])
    assert not np.array_equal(noise[0], noise[1])
    assert np.array_equal(noise[1], gaussian_noise([2**63 - 1], 4, 3, sigma=0.5)[0])
    assert np.array_equal(noise[:, :2], gaussian_noise([5, 2**63 - 1, 5], 2, 3, sigma=0.5))


@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0, 3.0])
def test_the_last_digits_of_a_sum_do_not_tell_which_vector_went_into_it(sigma):
    step = grid_step(sigma)
    assert sigma / 2048 < step <= sigma / 1024
    clean = on_grid(torch.randn(1, 50, 40, generator=torch.Generator().manual_seed(0)), sigma)
    noise = torch.from_numpy(gaussian_noise([3], 50, 40, sigma=sigma))
    total = clean + noise
    assert total.dtype == torch.float32
    for part in (clean, noise, total):
        assert torch.equal(torch.round(part / step) * step, part)
    assert torch.equal(total.double(), clean.double() + noise.double())


# --- what the model sees -------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", FAMILIES)
def test_little_noise_changes_little(architecture):
    base = classifier(architecture)
    quiet = dataclasses.replace(MECHANISM, sigma=1e-5)
    plain = base.open(TEXT, RandomizedDeletion(p_del=0.5))
    (key,) = plain.encode(np.arange(plain.law.n_units)[None])
    noisy = keys_of(base, TEXT, 2, quiet)
    np.testing.assert_allclose(base.scores(noisy), np.repeat(base.scores([key]), 2, 0), atol=5e-3)
    assert np.ptp(base.scores(keys_of(base, TEXT, 20)), axis=0).max() > 0.1


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_embedding_is_used_once_in_a_forward_pass(architecture):
    base, calls = classifier(architecture), []
    keys = keys_of(base, TEXT)
    input_embedding(base.model).register_forward_hook(lambda *_: calls.append(1))
    base.scores(keys)
    assert len(calls) == 2  # once for the vectors of the text, once by the model


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_text_is_seen_through_its_noisy_vectors_alone(architecture):
    """With equal vectors for all tokens, texts of equal length are equal, whatever they spell."""
    base = classifier(architecture)
    with torch.no_grad():
        input_embedding(base.model).weight[:] = 0.1
    texts = ["the good film", "<mask> good <mask>", "good <pad> </s>", "<pad> <pad> <pad>"]
    shown = {keys_of(base, text)[0].shown for text in texts}
    if len({len(key) for key in shown}) == 1:
        assert len(shown) == 1
    by_length: dict[int, set[bytes]] = {}
    for text in [*texts, "the film is good", "the <pad> is <pad>", "<pad> film is bad"]:
        keys = keys_of(base, text)
        by_length.setdefault(len(keys[0].ids), set()).add(base.scores(keys).tobytes())
    assert all(len(scores) == 1 for scores in by_length.values())
    assert len(by_length) < 7


@pytest.mark.parametrize("architecture", ["Roberta", "MPNet", "Llama", "GPT2"])
def test_a_model_that_reads_the_ids_themselves_leaks_them(architecture):
    """Why the model is shown other ids: these families look for the pad token among them."""
    base = classifier(architecture)
    pad = base.model.config.pad_token_id
    with torch.no_grad():
        input_embedding(base.model).weight[:] = 0.1
    keys = []
    for body in ([7, 8, 9, 10], [7, 8, pad, pad]):
        ids = np.array(body, np.int32).tobytes()
        (key,) = base.builder.build([ids], None)
        keys.append(NoisyInput(ids=key, shown=key, seed=1, sigma=0.5))
    scores = [base.scores([key]) for key in keys]
    assert not np.array_equal(*scores)
    hidden = [base.scores([key._replace(shown=keys[0].shown)]) for key in keys]
    assert np.array_equal(*hidden)


def test_pairs_show_the_protected_side_and_keep_its_token_types():
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
    (key,) = keys_of(base, ("the good film", "is bad"), 1)
    ids, types = read([key.ids])
    shown, shown_types = read([key.shown])
    plain = tokenizer("the good film", "is bad")
    assert ids[0].tolist() == plain["input_ids"]
    assert types[0].tolist() == shown_types[0].tolist() == plain["token_type_ids"]
    body = slice(1, 4)
    assert len(set(shown[0, body].tolist())) == 1
    assert np.array_equal(np.delete(shown[0], body), np.delete(ids[0], body))


@pytest.mark.parametrize("architecture", [*REARRANGING, "Bart", "T5"])
def test_models_that_noise_cannot_follow_are_refused(architecture):
    if architecture in REARRANGING:
        model, message = tiny_model(architecture, byte_level_bpe()), "rearranges texts"
    else:
        small = {"vocab_size": 100, "d_model": 16, "num_labels": 2, "eos_token_id": 2}
        if architecture == "Bart":
            small |= {
                f"{side}_{what}": 1 for side in ("encoder", "decoder") for what in ("layers",)
            }
        else:
            small |= {"d_kv": 8, "d_ff": 8, "num_layers": 1, "num_heads": 2, "pad_token_id": 0}
        config = getattr(transformers, f"{architecture}Config")(**small, decoder_start_token_id=0)
        model = getattr(transformers, f"{architecture}ForSequenceClassification")(config)
        message = "once in a forward pass; this one used it [02] times"
    with pytest.raises(ModelError, match=message):
        check_embedding(model)


def test_a_model_without_a_table_is_refused():
    tokenizer = tiny_tokenizer()
    model = ToyModel(tokenizer, lambda vectors: vectors.sum(dim=(1, 2)))
    model.get_input_embeddings = lambda: torch.nn.Linear(2, 2)
    base = HuggingFaceClassifier(model, tokenizer, max_length=20)
    with pytest.raises(ModelError, match=r"is a torch.nn.Embedding; that of ToyModel is Linear"):
        base.open("good", MECHANISM)


def test_checking_leaves_the_model_as_it_was():
    base = classifier("Bert")
    base.model.train()
    state = torch.get_rng_state()
    base.classify(keys_of(base, TEXT))
    assert base.model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not input_embedding(base.model)._forward_hooks


# --- votes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["Bert", "Llama"])
def test_votes_do_not_depend_on_batches(architecture):
    texts = [TEXT, "good", "", "bad story", "a good story and a good cast"]
    votes, model = {}, classifier(architecture)
    for batch_tokens in (1, 60, 4096):
        base = HuggingFaceClassifier(model.model, model.tokenizer, batch_tokens=batch_tokens)
        keys = [key for text in texts for key in keys_of(base, text, 15)]
        keys += [key._replace(sigma=0.9) for key in keys]
        keys += [key.ids for key in keys[::15]]  # without noise
        votes[batch_tokens] = base.classify(keys).tolist()
        assert base.classify(keys[::-1]).tolist()[::-1] == votes[batch_tokens]
    assert votes[1] == votes[60] == votes[4096]
    assert len(set(votes[1])) > 1


def test_half_precision_reads_the_same_noise():
    base = classifier("Bert")
    scores = base.scores(keys_of(base, TEXT))
    base.model.bfloat16()
    np.testing.assert_allclose(base.scores(keys_of(base, TEXT)), scores, rtol=0.2, atol=0.5)


def test_scores_that_are_no_numbers_are_an_error_that_quotes_the_text():
    base = classifier("Bert")
    keys = keys_of(base, "the good film")
    with torch.no_grad():
        base.model.classifier.weight[:] = float("nan")
    with pytest.raises(ModelError, match="the good film"):
        base.classify(keys)


# --- distances -----------------------------------------------------------------------------------


def rows(base, text: str, mechanism=MECHANISM) -> np.ndarray:
    ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    table = on_grid(input_embedding(base.model).weight.detach(), mechanism.sigma)
    return table[ids].double().numpy()


def by_hand(base, words: list[str], mechanism=MECHANISM, read_=slice(None)) -> list[list[float]]:
    """Distances between whole texts, one swap at a time, by the tokenizer's own account."""
    clean = rows(base, " ".join(words))
    found = []
    for i, word in enumerate(words):
        others = [
            rows(base, " ".join([*words[:i], v, *words[i + 1 :]])) for v in SWAPS.get(word, ())
        ]
        found.append(
            sorted(
                float(np.linalg.norm(clean[read_] - other[read_]))
                for other in others
                if len(other) == len(clean)
            )
        )
    return found


@pytest.mark.parametrize("prefix", ["", "review :"])
@pytest.mark.parametrize("build", [wordpiece, byte_level_bpe, unigram])
def test_distances_are_those_of_the_rows_in_the_words_places(build, prefix):
    tokenizer = build()
    base = HuggingFaceClassifier(tiny_model("Roberta", tokenizer), tokenizer, prefix=prefix)
    words = ["good", "film", "bad", "film", "story", "good"]
    profile = base.open(" ".join(words), MECHANISM).law.profile
    whole = [*prefix.split(), *words]
    expected = by_hand(base, whole)[len(prefix.split()) :]
    assert [len(distances) for distances in profile] == [len(e) for e in expected]
    assert sum(map(len, expected)) >= 3
    for distances, exact in zip(profile, expected, strict=True):
        np.testing.assert_allclose(distances, exact, rtol=1e-9)
        assert all(d >= e for d, e in zip(distances, exact, strict=True))
    counts = {len(tokenizer(f"the {v}")["input_ids"]) for v in SWAPS["good"]}
    assert len(counts) > 1  # some swaps change the number of tokens, and are not claimed


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_metric_is_that_of_the_raw_table_at_every_position(architecture, monkeypatch):
    base = classifier(architecture)
    seen = set()
    for words in (["the", "good", "film"], ["the", "film", "is", "a", "good", "film"]):
        at = words.index("good")
        swapped = [*words[:at], "brilliant", *words[at + 1 :]]
        keys = [keys_of(base, " ".join(w), 1, seed=4)[0] for w in (words, swapped)]
        one, other = (vectors_read(base, [key], monkeypatch).double() for key in keys)
        moved = float((one - other).norm())
        (distances,) = base.open(" ".join(words), MECHANISM).law.profile[at : at + 1]
        assert min(abs(moved - d) for d in distances) < 1e-8
        seen.add(round(moved, 8))
    assert len(seen) == 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_words_that_are_not_read_are_at_distance_zero(side):
    tokenizer = wordpiece()
    tokenizer.truncation_side = side
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer, max_length=6)
    words = ["good", "film", "bad"] * 2
    assert len(tokenizer(" ".join(words))["input_ids"]) > 6
    profile = base.open(" ".join(words), MECHANISM).law.profile
    n_tokens = len(rows(base, " ".join(words)))
    read_ = slice(n_tokens - 4, None) if side == "left" else slice(4)
    expected = by_hand(base, words, read_=read_)
    for distances, exact in zip(profile, expected, strict=True):
        np.testing.assert_allclose(distances, exact, rtol=1e-9)
    assert any(set(distances) == {0.0} for distances in profile if distances)
    assert any(min(distances) > 0.0 for distances in profile if distances)


def test_the_room_of_a_protected_partner_is_not_read_either():
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer, max_length=9)
    body = "the the the good film"
    alone = base.open(body, MECHANISM).law.profile
    paired = base.open((body, "is it bad"), MECHANISM).law.profile
    assert max(alone[3]) > 0.0
    assert set(paired[3]) == {0.0}


def test_tokenizers_that_reach_across_words_are_refused():
    tokenizer = across_spaces()
    base = HuggingFaceClassifier(tiny_model("Roberta", tokenizer), tokenizer)
    with pytest.raises(ModelError, match="splits texts word by word"):
        base.open(TEXT, MECHANISM)


def test_a_text_with_a_word_that_depends_on_its_neighbours_has_no_claims():
    base = classifier("Roberta")
    encoder = base._encoder("word")
    assert any(base.open("odd good film", MECHANISM).law.profile)
    encoder._pieces["odd"] = None
    assert base.open("odd good film", MECHANISM).law.profile == ((), (), ())
    encoder._pieces["brilliant"] = None
    assert len(base.open("the good film", MECHANISM).law.profile[1]) < len(
        by_hand(base, ["the", "good", "film"])[1]
    )


def test_punctuation_and_capitals_stay():
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
    profile = base.open('The "Good" film!', MECHANISM).law.profile
    plain = base.open("the good film", MECHANISM).law.profile
    assert profile == plain
    assert len(profile[2]) >= 1


def test_a_table_with_numbers_that_are_not_finite_is_refused():
    base = classifier("Bert")
    with torch.no_grad():
        input_embedding(base.model).weight[:] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        base.open(TEXT, MECHANISM)


# --- the whole way, where the worst classifier is known ------------------------------------------

#: Class 1 where the first coordinate of the first word is above this, under noise of sigma 0.5: the
#: word "good" at the origin has the other class with probability 0.9.
SIGMA = 0.5
THRESHOLD = SIGMA * norm.ppf(0.9)
HALF_SPACE = GaussianEmbedding(sigma=SIGMA, swaps={"good": ["great"], "the": []})
PLAN = FixedPlan(n_selection=100, n_estimation=20_000, alpha=0.001)


def half_space(distance: float) -> SmoothedClassifier:
    """The half space that is the worst classifier against the swap of "good" for "great"."""
    tokenizer = tiny_tokenizer()
    model = ToyModel(tokenizer, lambda vectors: vectors[:, 1, 0] - THRESHOLD)
    model.place("great", distance, 0.0)
    return SmoothedClassifier(HuggingFaceClassifier(model, tokenizer, max_length=20), HALF_SPACE)


def test_a_swap_inside_the_radius_is_certified_and_keeps_the_answer():
    smoothed = half_space(1.15 * SIGMA)
    clean, attacked = smoothed.certify(["good film", "great film"], PLAN)
    assert (clean.predicted, clean.radius) == (0, 2)
    assert clean.details["log10_texts"] == pytest.approx(np.log10(2))
    assert clean.p_lower == pytest.approx(0.9, abs=0.02)
    assert attacked.predicted == 0


def test_a_swap_just_outside_the_radius_is_not_certified_and_flips_the_answer():
    smoothed = half_space(1.45 * SIGMA)
    clean, attacked = smoothed.certify(["good film", "great film"], PLAN)
    assert (clean.predicted, clean.radius) == (0, 0)
    assert clean.details["log10_texts"] == 0.0
    assert attacked.predicted == 1


def test_a_sampler_with_another_sigma_than_the_certificate_is_caught(monkeypatch):
    quiet = gaussian_noise

    def half_the_noise(seeds, n_tokens, dimension, *, sigma):
        return quiet(seeds, n_tokens, dimension, sigma=sigma / 2)

    monkeypatch.setattr(embedding_noise, "gaussian_noise", half_the_noise)
    clean, attacked = half_space(1.45 * SIGMA).certify(["good film", "great film"], PLAN)
    assert (clean.predicted, clean.radius) == (0, 2)  # a claim that the attack refutes
    assert attacked.predicted == 1


def test_swaps_that_change_the_number_of_tokens_would_be_refuted():
    tokenizer = tiny_tokenizer()
    swaps = {"good": ["great", "nice"]}  # "nice" is spelled in four pieces
    mechanism = GaussianEmbedding(sigma=SIGMA, swaps=swaps)
    model = ToyModel(tokenizer, lambda vectors: vectors.sum(dim=(1, 2)) * 0 + vectors.shape[1] - 5)
    base = HuggingFaceClassifier(model, tokenizer, max_length=20)
    law = base.open("good film", mechanism).law
    assert law.profile == ((0.0,), ())  # "great" alone is claimed
    everything = ((0.0, 0.0), ())
    radius = mechanism.radius(
        0.99, 0.01, n_units=2, attacker=frozenset({"substitute"}), profile=everything
    )
    assert radius == 2
    answers = SmoothedClassifier(base, mechanism).predict(["good film", "great film", "nice film"])
    assert answers == [0, 0, 1]


def test_certificates_of_a_transformer_are_repeatable_and_hold_their_profile():
    base = classifier("Bert")
    smoothed = SmoothedClassifier(base, MECHANISM)
    plan = FixedPlan(n_selection=20, n_estimation=100, alpha=0.05)
    texts = [TEXT, "", "bad story", ("good film", "is it ?")]
    one = smoothed.votes(texts, plan, seed=3)
    other = smoothed.votes(texts[::-1], plan, seed=3)[::-1]
    assert [r.votes for r in one] == [r.votes for r in other]
    assert [len(r.votes.profile) for r in one] == [11, 0, 2, 2]
    certificates = smoothed.certify(texts, plan, seed=3)
    assert certificates[1].dead_zone
    assert all(c.details for c in certificates if not c.abstains)
