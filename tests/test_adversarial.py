"""Adversarial training: against known optima, the published algorithm, and mutants of ours."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from robust_nlp.errors import ModelError, RecipeError
from robust_nlp.settings import build, plain
from robust_nlp.training import adversarial, ascents, perturbation
from robust_nlp.training.adversarial import AdversarialLoss
from robust_nlp.training.ascents import symmetric_divergence
from robust_nlp.training.perturbation import Perturbation, open_tokens, perturbed
from robust_nlp.training.replay import RandomState, replayed
from robust_nlp.training.settings import PGD, SMART, AnyAdversary, FreeLB
from robust_nlp.units import keyed_rng

DIM = 6


class Linear(torch.nn.Module):
    """Logits are linear in the sum of the embeddings of the tokens that are attended to."""

    def __init__(self, dropout: float = 0.0, classes: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = torch.nn.Embedding(20, DIM)
        self.head = torch.nn.Linear(DIM, classes, bias=False)
        self.dropout = torch.nn.Dropout(dropout)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator) / 2)

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask):
        summed = (self.embedding(input_ids) * attention_mask[..., None]).sum(dim=1)
        return {"logits": self.head(self.dropout(summed))}


#: Rows of 5, 3 and 1 tokens, padded on the right, on the left, and on both sides.
IDS = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0], [0, 0, 11, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 0, 0]])
LABELS = torch.tensor([0, 1, 1])
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}


def cross_entropy(logits):
    return F.cross_entropy(logits, LABELS)


def run(settings, model, inputs=INPUTS, loss_fn=cross_entropy, **options):
    """Clean pass and adversarial loss; the loss object, its changes of the embeddings, and loss."""
    term = AdversarialLoss(settings, seed=5)
    batch = {name: value for name, value in inputs.items() if name != "labels"}
    random = RandomState.now()
    clean = model(**batch)["logits"]
    changes: list[torch.Tensor] = []

    @contextmanager
    def noting(model, change):
        changes.append(change.detach().clone())
        with perturbed(model, change):
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adversarial, "perturbed", noting)
        options = {"random": random, "step": 7, **options}
        loss = term(model, inputs, clean, loss_fn=loss_fn, **options)
    return term, changes, loss


def norms(change):
    return change.flatten(1).norm(dim=1)


wordpiece = cache(tiny.wordpiece)


def bert(dropout: float = 0.0):
    """A BERT of one layer whose loss is smooth enough to climb; in training mode."""
    tokenizer = wordpiece()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=32,
        initializer_range=0.3,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
    return model.train(), tokenizer


def texts_for(tokenizer, side: str = "right"):
    tokenizer.padding_side = side
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(tiny.CORPUS[:3], padding=True, return_tensors="pt")
    return {**batch, "labels": LABELS}


# --- the optimum of a linear model --------------------------------------------------------------


def check_optimum(steps: int = 3) -> None:
    """The worst perturbation of norm r moves all tokens along the difference of class vectors."""
    model, radius = Linear(), 0.7
    settings = PGD(steps=steps, radius=radius, random_start=False, relative=False)
    _, changes, loss = run(settings, model)
    weight = model.head.weight.detach()
    sizes = MASK.sum(dim=1)
    towards = torch.stack([weight[1 - y] - weight[y] for y in LABELS.tolist()])
    unit = towards / towards.norm(dim=1, keepdim=True)
    best = (radius * unit / sizes.sqrt()[:, None])[:, None] * MASK[..., None]
    assert torch.allclose(changes[-1], best, atol=1e-6)
    logits = model(IDS, MASK)["logits"]
    rows = torch.arange(3)
    gap = logits[rows, LABELS] - logits[rows, 1 - LABELS]
    attacked = gap - radius * sizes.sqrt() * towards.norm(dim=1)
    assert torch.allclose(loss, F.softplus(-attacked).mean(), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_pgd_finds_the_worst_perturbation_of_a_linear_model(steps):
    check_optimum(steps)


def test_relative_norms_are_shares_of_the_norm_of_the_texts():
    model = Linear()
    _, changes, _ = run(PGD(radius=0.1, random_start=False), model)
    texts = norms(model.embedding(IDS).detach() * MASK[..., None])
    assert torch.allclose(norms(changes[-1]), 0.1 * texts, atol=1e-6)
    assert len(set(texts.tolist())) == 3


def check_norms() -> None:
    """Steps of fixed length, and never outside the ball."""
    free = FreeLB(steps=6, step_size=0.2, init_magnitude=0.0, max_norm=0.5)
    _, changes, _ = run(free, Linear())
    found = torch.stack([norms(change) for change in changes])
    expected = torch.tensor([0.0, 0.2, 0.4, 0.5, 0.5, 0.5])
    assert torch.allclose(found, expected[:, None].expand(6, 3), atol=1e-5)


def test_perturbations_stay_within_the_largest_norm():
    check_norms()


def test_a_largest_norm_of_zero_is_no_limit():
    settings = FreeLB(steps=6, step_size=0.2, init_magnitude=0.0, max_norm=0.0)
    _, changes, _ = run(settings, Linear())
    assert torch.allclose(norms(changes[-1]), torch.tensor(1.0), atol=1e-5)


def test_random_starts_are_uniform_and_bounded():
    shape = Perturbation(torch.ones(1, 40, dtype=torch.bool), 50, torch.ones(1))
    numbers = shape.start([3], 0, 0, size=0.6)
    within = 0.6 / math.sqrt(2000)
    assert numbers.abs().max() <= within
    assert float(numbers.abs().max()) > 0.99 * within
    assert norms(numbers).item() == pytest.approx(0.6 / math.sqrt(3), rel=0.05)
    normal = shape.start([3], 0, 0, size=1e-5, normal=True)
    assert normal.std().item() == pytest.approx(1e-5, rel=0.1)


# --- FreeLB as published ------------------------------------------------------------------------


def freelb_as_published(model, inputs, settings, seed, step):
    """Algorithm 1 of the paper with embeddings as input, on row keys; parameter gradients, losses.

    Written from the paper and independent of our code but for the keys of the random start.
    """
    model.zero_grad()
    ids, mask, labels = inputs["input_ids"], inputs["attention_mask"], inputs["labels"]
    rest = {k: v for k, v in inputs.items() if k not in ("input_ids", "labels")}
    table = model.get_input_embeddings()
    dimension = table.weight.shape[1]
    delta = torch.zeros(*ids.shape, dimension)
    for row in range(len(ids)):
        size = int(mask[row].sum())
        rng = keyed_rng(
            seed, "adversarial-start", step, f"text {ids[row][mask[row].bool()].tolist()}"
        )
        uniform = torch.from_numpy(2.0 * rng.random((size, dimension), np.float32) - 1.0)
        delta[row, mask[row].bool()] = (
            uniform * settings.init_magnitude / math.sqrt(size * dimension)
        )
    losses = []
    for k in range(settings.steps):
        delta = delta.detach().requires_grad_()
        logits = model(inputs_embeds=table(ids) + delta, **rest).logits
        loss = F.cross_entropy(logits, labels)
        losses.append(loss.item())
        (loss / settings.steps).backward()
        if k == settings.steps - 1:
            break
        g = delta.grad * mask[..., None]
        delta = delta + settings.step_size * g / g.flatten(1).norm(dim=1)[:, None, None]
        if settings.max_norm > 0:
            size = delta.flatten(1).norm(dim=1)[:, None, None]
            delta = torch.where(size > settings.max_norm, delta * settings.max_norm / size, delta)
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, losses


def check_freelb(settings: FreeLB, *, through_backward: bool = False) -> None:
    model, tokenizer = bert()
    inputs = texts_for(tokenizer)
    assert inputs["attention_mask"].min() == 0
    expected, losses = freelb_as_published(model, inputs, settings, seed=5, step=7)
    model.zero_grad()
    backward = torch.Tensor.backward if through_backward else None
    term, _, loss = run(settings, model, inputs, backward=backward)
    if not through_backward:
        assert all(p.grad is None for p in model.parameters())
        loss.backward()
    assert [v.item() for v in term.losses] == pytest.approx(losses, rel=1e-5)
    assert loss.item() == pytest.approx(settings.weight * np.mean(losses), rel=1e-5)
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        reached = found[name] / settings.weight
        assert torch.allclose(reached, gradient, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("through_backward", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        FreeLB(step_size=0.5, init_magnitude=0.6),
        FreeLB(steps=4, step_size=0.5, init_magnitude=0.6, max_norm=0.7, weight=0.3),
        FreeLB(steps=1),
    ],
)
def test_freelb_is_the_published_algorithm(settings, through_backward):
    check_freelb(settings, through_backward=through_backward)


def test_the_scale_against_underflow_changes_nothing():
    model = Linear()
    losses = [run(FreeLB(), model, scale=scale)[2] for scale in (1.0, 1024.0)]
    found = [torch.autograd.grad(loss, list(model.parameters())) for loss in losses]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*found, strict=True))


# --- SMART --------------------------------------------------------------------------------------


def test_smart_is_the_symmetric_divergence_from_numpy():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 7, 4)) * 3
    expected = [
        rel_entr(a, b).sum() + rel_entr(b, a).sum()
        for a, b in zip(softmax(p, axis=1), softmax(q, axis=1), strict=True)
    ]
    found = symmetric_divergence(torch.from_numpy(p), torch.from_numpy(q))
    assert found.numpy() == pytest.approx(expected, rel=1e-10)


def test_smart_climbs_once_and_compares_the_answers():
    model = Linear(classes=3)
    settings = SMART(step_size=0.3, noise=1e-3, weight=2.0, eps=1e-20)
    _, changes, loss = run(settings, model, loss_fn=None)
    assert len(changes) == 2
    assert changes[0].abs().max() < 5e-3
    step = changes[1] - changes[0]
    largest = step.abs().amax(dim=(1, 2))
    assert torch.allclose(largest, torch.tensor(0.3), rtol=1e-5)
    with torch.no_grad():
        clean = model(IDS, MASK)["logits"].numpy().astype(float)
        with perturbed(model, changes[1]):
            moved = model(IDS, MASK)["logits"].numpy().astype(float)
    p, q = softmax(clean, axis=1), softmax(moved, axis=1)
    expected = 2.0 * np.mean(((p - q) * (np.log(p) - np.log(q))).sum(axis=1))
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_smart_moves_along_the_gradient_of_the_divergence():
    """On a linear model it is the Fisher information times the start, by hand."""
    model = Linear(classes=3).double()
    settings = SMART(step_size=1.0, noise=1e-4, eps=1e-30)
    _, changes, _ = run(settings, model, loss_fn=None)
    weight = model.head.weight.detach().numpy()
    p = softmax(model(IDS, MASK)["logits"].detach().numpy(), axis=1)
    for row in range(3):
        fisher = np.diag(p[row]) - np.outer(p[row], p[row])
        start = changes[0][row].double().sum(dim=0).numpy()
        gradient = weight.T @ fisher @ weight @ start
        expected = gradient / np.abs(gradient).max()
        first = int(MASK[row].argmax())
        found = (changes[1] - changes[0])[row, first].numpy()
        assert found == pytest.approx(expected, abs=5e-3)


def test_smart_makes_smaller_steps_along_small_gradients():
    numbers, gradient = torch.zeros(2, 1, 2), torch.tensor([[[3.0, -1.0]], [[-1e-3, 0.0]]])
    moved = perturbation.climb_max_norm(numbers, gradient, 0.5, 0.0, 1e-3)
    expected = [[[0.5 * 3 / 3.001, -0.5 / 3.001]], [[-0.25, 0.0]]]
    assert torch.allclose(moved, torch.tensor(expected))


def test_smart_limits_its_perturbation_on_demand():
    _, changes, _ = run(SMART(max_norm=1e-5), Linear(), loss_fn=None)
    assert changes[1].abs().max().item() == pytest.approx(1e-5, rel=1e-4)


def test_rows_that_do_not_count_cost_smart_nothing():
    model = Linear()
    some = torch.tensor([True, False, True])
    _, _, whole = run(SMART(step_size=0.5), model, loss_fn=None)
    _, _, part = run(SMART(step_size=0.5), model, loss_fn=None, counted=some)
    inputs = {name: value[some] for name, value in INPUTS.items()}
    _, _, alone = run(SMART(step_size=0.5), model, inputs, loss_fn=None)
    assert torch.allclose(part, alone, rtol=1e-5)
    assert not torch.allclose(part, whole, rtol=1e-2)
    _, _, none = run(SMART(), model, loss_fn=None, counted=torch.zeros(3))
    assert none.item() == 0.0


def test_both_answers_of_smart_are_trained():
    model = Linear()
    clean = model(IDS, MASK)["logits"]
    term = AdversarialLoss(SMART(step_size=0.5), seed=0)
    loss = term(model, INPUTS, clean, loss_fn=None, step=0, random=RandomState.now())
    (through_clean,) = torch.autograd.grad(loss, clean, retain_graph=True)
    assert through_clean.abs().max() > 0
    loss.backward()
    assert model.head.weight.grad.abs().max() > 0


# --- what moves and what does not ---------------------------------------------------------------


@pytest.mark.parametrize("settings", [FreeLB(), PGD(), SMART()], ids=lambda s: s.kind)
def test_ascent_raises_the_loss(settings):
    model, tokenizer = bert()
    if isinstance(settings, SMART):
        settings = SMART(steps=3)
    term, _, _ = run(settings, model, texts_for(tokenizer))
    losses = torch.stack(term.losses).tolist()
    assert losses == sorted(losses)
    assert losses[-1] > losses[0]


def check_padding(settings: AnyAdversary) -> None:
    """Padding stays, all else moves, and a text moves alike in batches padded otherwise."""
    model, tokenizer = bert()
    right, left = (texts_for(tokenizer, side) for side in ("right", "left"))
    found = []
    for inputs in (right, left):
        _, changes, _ = run(settings, model, inputs)
        mask = inputs["attention_mask"].bool()
        for change in changes:
            assert not bool(change[~mask].any())
        assert bool((changes[-1].abs().amax(dim=2) > 0)[mask].all())
        found.append(changes[0][mask])
    assert torch.allclose(*found, rtol=1e-5)


@pytest.mark.parametrize("settings", [FreeLB(), PGD(), SMART()], ids=lambda s: s.kind)
def test_padding_is_not_perturbed(settings):
    check_padding(settings)


def test_closed_ids_do_not_move():
    assert open_tokens(INPUTS, [4, 11]).tolist() == [
        [True, False, True, True, True],
        [True, True, True, False, False],
        [False] * 5,
    ]
    model = Linear()
    term = AdversarialLoss(PGD(), seed=0, closed_ids=[4, 11])
    loss = term(model, INPUTS, model(IDS, MASK)["logits"], loss_fn=cross_entropy, step=0)
    assert torch.isfinite(loss)
    assert bool(open_tokens({"input_ids": IDS}).all())


def test_starts_depend_on_text_seed_and_step_alone(monkeypatch):
    model, noted = Linear(), []
    change = Perturbation.change

    def noting(self, numbers):
        changed = change(self, numbers)
        noted.append(changed.detach())
        return changed

    monkeypatch.setattr(Perturbation, "change", noting)

    def first(ids, mask, step=0, seed=5):
        term = AdversarialLoss(FreeLB(steps=1), seed=seed)
        inputs = {"input_ids": ids, "attention_mask": mask}
        term(model, inputs, None, loss_fn=torch.sum, step=step)
        return noted[-1]

    whole, moves = first(IDS, MASK), MASK.bool()
    swapped = [2, 0, 1]
    assert torch.equal(first(IDS[swapped], MASK[swapped]), whole[swapped])
    assert torch.equal(first(IDS[1:2, :4], MASK[1:2, :4])[:, :3], whole[1:2, :3])
    assert torch.equal(first(IDS, MASK), whole)
    for other in (first(IDS, MASK, step=1), first(IDS, MASK, seed=6), first(IDS + 1, MASK)):
        assert bool((other != whole)[moves].all())


@pytest.mark.parametrize("settings", [FreeLB(per_domain=True), PGD(per_domain=True)])
def test_a_domain_moves_as_one(settings):
    model = Linear()
    domains = torch.tensor([4, 4, 9])
    _, changes, _ = run(settings, model, domains=domains)
    sizes = MASK.sum(dim=1)
    units = torch.ones(3)
    if settings.relative:
        units = norms(model.embedding(IDS).detach() * MASK[..., None])
    for change in changes:
        steps = [
            [change[r, t] * sizes[r].sqrt() / units[r] for t in range(5) if MASK[r, t]]
            for r in range(3)
        ]
        together = [*steps[0], *steps[1]]
        assert all(torch.allclose(step, together[0], atol=1e-6) for step in together)
        assert not torch.allclose(steps[2][0], together[0], atol=1e-3)
    if isinstance(settings, PGD):
        assert torch.allclose(norms(changes[-1]), settings.radius * units, rtol=1e-4)


def test_a_domain_needs_domains():
    with pytest.raises(ValueError, match="domain of each row"):
        run(PGD(per_domain=True), Linear())


# --- dropout and random numbers -----------------------------------------------------------------


def masks_of(model):
    """Note the dropout masks of each pass; a list of passes is filled as they are made."""
    passes: list[list[torch.Tensor]] = []
    model.register_forward_pre_hook(lambda *_: passes.append([]))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module is not model:
            module.register_forward_hook(
                lambda _, given, out: passes[-1].append((out == 0) & (given[0] != 0))
            )
    return passes


def check_masks(settings: AnyAdversary, *, with_clean: bool = True) -> None:
    model, tokenizer = bert(dropout=0.3)
    inputs = texts_for(tokenizer)
    batch = {name: value for name, value in inputs.items() if name != "labels"}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model(**batch)
        after_clean = torch.get_rng_state()
        passes = masks_of(model)
        torch.manual_seed(1)
        random = {} if with_clean else {"random": None}
        _, _, loss = run(settings, model, inputs, **random)
        assert torch.equal(torch.get_rng_state(), after_clean)
        loss.backward()
        assert torch.equal(torch.get_rng_state(), after_clean)
    perturbed_passes = passes if with_clean else passes[1:]
    assert len(perturbed_passes) >= 2
    assert all(len(masks) == len(passes[0]) > 2 for masks in passes)
    assert any(bool(mask.any()) for mask in passes[0])
    for masks in perturbed_passes[1:]:
        assert all(torch.equal(a, b) for a, b in zip(masks, perturbed_passes[0], strict=True))
    same = all(torch.equal(a, b) for a, b in zip(passes[0], passes[1], strict=True))
    assert same is with_clean


@pytest.mark.parametrize("with_clean", [True, False])
@pytest.mark.parametrize("settings", [FreeLB(), PGD(), SMART()], ids=lambda s: s.kind)
def test_all_passes_have_the_same_dropout_masks(settings, with_clean):
    check_masks(settings, with_clean=with_clean)


def test_noise_of_the_embedding_itself_is_replayed_too():
    model, noise = Linear(), []

    def add(_module, _given, vectors):
        noise.append(torch.rand(vectors.shape))
        return vectors + noise[-1]

    model.embedding.register_forward_hook(add)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model(IDS, MASK)
        after_clean = torch.get_rng_state()
        torch.manual_seed(1)
        run(FreeLB(relative=True), model)
        assert torch.equal(torch.get_rng_state(), after_clean)
    assert len(noise) > 4
    assert all(torch.equal(drawn, noise[0]) for drawn in noise)


def test_smart_is_not_disturbed_by_dropout():
    """Its divergence would be that of two masks otherwise, not that of the perturbation."""
    model, tokenizer = bert(dropout=0.3)
    for random in ({}, {"random": None}):
        term, _, _ = run(SMART(), model, texts_for(tokenizer), **random)
        assert 0.0 <= term.losses[0] < 1e-6


def test_the_state_before_the_clean_pass_is_noted():
    model, tokenizer = bert(dropout=0.3)
    inputs = texts_for(tokenizer)
    term = AdversarialLoss(SMART(), seed=0)
    handle = term.watch(model)
    trainer = trainer_like(step=3)
    with torch.random.fork_rng():
        for _ in range(2):
            outputs = model(**inputs)
            after = torch.get_rng_state()
            term.extra_loss(trainer, model, inputs, outputs)
            assert torch.equal(torch.get_rng_state(), after)
            assert term.losses[0] < 1e-6  # the clean answer is that of the same masks
    handle.remove()
    assert term.extra_loss(trainer, model.eval(), inputs, outputs) is None


def test_a_trainer_is_asked_what_belongs_to_the_loss():
    """Smoothing, ignored rows, further columns of the batch, and its domains."""
    model = Linear(classes=3).train()
    labels = torch.tensor([0, -100, 2])
    batch = {**INPUTS, "labels": labels, "field": torch.tensor([4, 4, 9])}

    def model_inputs(given):
        return {name: given[name] for name in ("input_ids", "attention_mask")}

    trainer = trainer_like(3, model_inputs=model_inputs)
    trainer.args = SimpleNamespace(label_smoothing_factor=0.2, domain_column="field")
    outputs = model(**model_inputs(batch))
    settings = PGD(per_domain=True, radius=1e-6, weight=2.0)
    term = AdversarialLoss(settings, seed=0)
    expected = F.cross_entropy(outputs["logits"], labels, label_smoothing=0.2)
    found = term.extra_loss(trainer, model, batch, outputs)
    assert torch.allclose(found, 2.0 * expected, atol=1e-4)

    def doubled(logits, labels):
        return 2.0 * F.cross_entropy(logits, labels, reduction="none")

    expected = F.cross_entropy(outputs["logits"], labels)
    found = term.extra_loss(trainer, model, batch, outputs, task_loss=doubled)
    assert torch.allclose(found, 4.0 * expected, atol=1e-4)
    ignored = {**batch, "labels": torch.full((3,), -100)}
    assert term.extra_loss(trainer, model, ignored, outputs).item() == 0.0


def trainer_like(step: int, **flags):
    return SimpleNamespace(
        state=SimpleNamespace(global_step=step, max_steps=8),
        accelerator=SimpleNamespace(scaler=None),
        args=SimpleNamespace(label_smoothing_factor=0.0),
        **{"is_fsdp_enabled": False, "is_deepspeed_enabled": False, **flags},
    )


def test_the_state_of_gpus_is_put_back_too(monkeypatch):
    gpus = [torch.tensor([1, 2]), torch.tensor([3, 4])]

    def put(states):
        gpus[:] = [state.clone() for state in states]

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [gpu.clone() for gpu in gpus])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", put)
    start = RandomState.now()
    put([torch.tensor([5, 6]), torch.tensor([7, 8])])
    with replayed(start):
        assert [gpu.tolist() for gpu in gpus] == [[1, 2], [3, 4]]
        put([torch.tensor([0, 0])] * 2)
    assert [gpu.tolist() for gpu in gpus] == [[5, 6], [7, 8]]


# --- models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("architecture", [a for a in tiny.ARCHITECTURES if a != "XLNet"])
def test_no_perturbation_is_the_clean_pass(architecture, side):
    tokenizer = tiny.wordpiece() if architecture == "Bert" else tiny.byte_level_bpe()
    model = tiny.tiny_model(architecture, tokenizer)
    inputs = texts_for(tokenizer, side)
    inputs.pop("labels")
    assert inputs["attention_mask"].min() == 0
    with torch.no_grad():
        clean = model(**inputs).logits
        vectors = model.get_input_embeddings()(inputs["input_ids"])
        with perturbed(model, torch.zeros_like(vectors)):
            assert torch.equal(model(**inputs).logits, clean)
        with perturbed(model, torch.randn(vectors.shape, generator=torch.Generator())):
            assert not torch.allclose(model(**inputs).logits, clean, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_embeddings_as_input_would_mislead_a_decoder():
    """Why the ids stay: with right padding, such an input is read at a padded position."""
    tokenizer = tiny.byte_level_bpe()
    model = tiny.tiny_model("Llama", tokenizer)
    inputs = texts_for(tokenizer, "right")
    mask = inputs["attention_mask"]
    with torch.no_grad():
        clean = model(input_ids=inputs["input_ids"], attention_mask=mask).logits
        vectors = model.get_input_embeddings()(inputs["input_ids"])
        naive = model(inputs_embeds=vectors, attention_mask=mask).logits
    assert not torch.allclose(naive, clean, atol=1e-3)


@pytest.mark.parametrize("rows", [2, None])
def test_a_model_that_turns_batches_over_is_refused(rows):
    tokenizer = tiny.byte_level_bpe()
    model = tiny.tiny_model("XLNet", tokenizer).train()
    ids = texts_for(tokenizer)["input_ids"]
    ids = ids[:2] if rows else ids[:, 1:4]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    term = AdversarialLoss(PGD(), seed=0)
    with pytest.raises(ModelError, match="rearranges"):
        term(model, inputs, None, loss_fn=lambda z: z.sum(), step=0)


def test_other_unsuitable_models_and_batches_are_refused():
    model = Linear()
    term = AdversarialLoss(PGD(), seed=0)
    given = {"loss_fn": cross_entropy, "step": 0}
    with pytest.raises(ValueError, match="input_ids"):
        term(model, {"inputs_embeds": torch.zeros(1, 2, DIM)}, None, **given)
    with pytest.raises(ModelError, match="one process per GPU"):
        term(torch.nn.DataParallel(model), INPUTS, None, **given)
    with pytest.raises(ModelError, match="get_input_embeddings"):
        term(torch.nn.Linear(2, 2), INPUTS, None, **given)
    for split in ("is_fsdp_enabled", "is_deepspeed_enabled"):
        with pytest.raises(ModelError, match="whole copy"):
            term.extra_loss(trainer_like(0, **{split: True}), model, INPUTS, None)


def checkpoint(model, **kwargs):
    new = getattr(model, "activation_checkpointing_enable", None)
    (new or model.gradient_checkpointing_enable)(kwargs)


@pytest.mark.parametrize("settings", [FreeLB(), PGD(), SMART()], ids=lambda s: s.kind)
def test_gradient_checkpointing_changes_nothing(settings):
    found = []
    for checkpointing in (False, True):
        model, tokenizer = bert(dropout=0.3)
        inputs = texts_for(tokenizer)
        if checkpointing:
            checkpoint(model, use_reentrant=False)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            _, _, loss = run(settings, model, inputs)
            assert all(p.grad is None for p in model.parameters())
            loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[1][n], g, atol=1e-6) for n, g in found[0].items())


@pytest.mark.filterwarnings("ignore")
def test_reentrant_gradient_checkpointing_is_refused():
    model, tokenizer = bert()
    checkpoint(model, use_reentrant=True)
    model.enable_input_require_grads()
    with pytest.raises(ModelError, match="use_reentrant"):
        run(PGD(), model, texts_for(tokenizer))


@pytest.mark.parametrize("settings", [FreeLB(), PGD(), SMART(noise=0.1)], ids=lambda s: s.kind)
def test_autocast_gives_about_the_same_gradient(settings):
    found = []
    for half in (False, True):
        model, tokenizer = bert()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            _, _, loss = run(settings, model, texts_for(tokenizer))
        loss.backward()
        flat = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        assert torch.isfinite(loss)
        found.append(torch.cat(flat))
    assert F.cosine_similarity(*found, dim=0) > 0.9


@pytest.mark.parametrize("settings", [FreeLB(), PGD(), SMART()], ids=lambda s: s.kind)
def test_a_call_leaves_no_trace(settings):
    model, tokenizer = bert(dropout=0.3)
    inputs = texts_for(tokenizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = {name: value.clone() for name, value in inputs.items()}
    run(settings, model, inputs)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, given[name]) for name, value in inputs.items())
    assert model.training
    assert not model.get_input_embeddings()._forward_hooks


# --- training -----------------------------------------------------------------------------------


class AdversarialTrainer(Trainer):
    """The smallest trainer that uses the loss."""

    def __init__(self, term, **kwargs):
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = False
        self.term, self.seen = term, []
        term.watch(self.model)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        batch = {name: value for name, value in inputs.items() if name != "labels"}
        outputs = model(**batch)
        loss = F.cross_entropy(outputs["logits"], inputs["labels"])
        extra = self.term.extra_loss(self, model, inputs, outputs)
        self.seen.append((extra / loss).item())
        return loss + extra


@pytest.mark.parametrize("settings", [FreeLB(relative=True), PGD(), SMART()], ids=lambda s: s.kind)
def test_a_model_learns(settings, tmp_path):
    """Texts whose first word is their class, among words that say nothing."""
    rng = np.random.default_rng(0)
    made = [
        {"input_ids": [i % 2, *rng.integers(10, 20, 3).tolist()], "attention_mask": [1] * 4}
        for i in range(16)
    ]
    data = [{**row, "labels": row["input_ids"][0]} for row in made]
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=10,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=0.2,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    model = Linear(dropout=0.1)
    term = AdversarialLoss(settings, seed=0)
    trainer = AdversarialTrainer(term, model=model, args=args, train_dataset=data)
    trainer.train()
    ids = torch.tensor([row["input_ids"] for row in data])
    answers = model.eval()(ids, torch.ones_like(ids))["logits"].argmax(dim=1)
    assert answers.tolist() == [row["labels"] for row in data]
    assert len(trainer.seen) == 20
    if isinstance(settings, PGD):  # the perturbed texts cost more than the clean ones
        assert all(ratio > 1.0 for ratio in trainer.seen)


TWO_PROCESSES = """
import torch, torch.distributed as dist, test_adversarial as t
from robust_nlp.training.adversarial import AdversarialLoss
dist.init_process_group("gloo")
assert dist.get_world_size() == 2
for settings in (t.FreeLB(), t.PGD(), t.SMART(step_size=0.1)):
    def loss_of(model, rows):
        inputs = {k: torch.cat([v, v])[rows] for k, v in t.INPUTS.items()}
        labels = inputs.pop("labels")
        def loss_fn(logits):
            return torch.nn.functional.cross_entropy(logits, labels)
        clean = model(**inputs)["logits"]
        term = AdversarialLoss(settings, seed=0)
        extra = term(model, inputs, clean, loss_fn=loss_fn, step=1)
        return loss_fn(clean) + extra
    alone = t.Linear()
    loss_of(alone, [0, 1, 2, 3]).backward()
    model = torch.nn.parallel.DistributedDataParallel(t.Linear())
    for _ in range(2):
        model.zero_grad()
        loss_of(model, [[0, 1], [2, 3]][dist.get_rank()]).backward()
    for p, q in zip(alone.parameters(), model.parameters()):
        assert torch.allclose(p.grad, q.grad, atol=1e-6), settings
        assert p.grad.abs().max() > 1e-3
"""


@pytest.mark.slow  # starts Python processes that import torch
def test_two_processes_have_the_gradient_of_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES, encoding="utf-8")
    here = os.path.dirname(__file__)  # noqa: PTH120
    path = os.pathsep.join([here, os.path.dirname(here)])  # noqa: PTH120
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    done = subprocess.run(
        [*launch, "2", str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [FreeLB(steps=2), PGD(step_size=0.1), SMART(weight=3.0)])
def test_settings_are_plain_values_and_back(settings):
    assert build(AnyAdversary, plain(settings), "adversary") == settings


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("freelb", {"steps": 0}),
        ("freelb", {"step_size": 0.0}),
        ("freelb", {"max_norm": -1.0}),
        ("freelb", {"init_magnitude": float("nan")}),
        ("pgd", {"radius": 0.0}),
        ("pgd", {"step_size": -0.1}),
        ("pgd", {"weight": float("inf")}),
        ("smart", {"noise": 0.0}),
        ("smart", {"eps": 0.0}),
    ],
)
def test_wrong_settings_are_refused(kind, wrong):
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        build(AnyAdversary, {"kind": kind, **wrong}, "adversary")


# --- mutants ------------------------------------------------------------------------------------


def test_other_dropout_masks_are_caught(monkeypatch):
    @contextmanager
    def not_put_back(state):
        state.restore()
        yield

    def fresh(state):
        return replayed(RandomState.now())

    monkeypatch.setattr(adversarial, "replayed", fresh)  # all alike, but not the clean pass's
    with pytest.raises(AssertionError):
        check_masks(FreeLB())

    calls = iter(range(100))

    @contextmanager
    def different(state):
        with torch.random.fork_rng():
            torch.manual_seed(next(calls))
            yield

    for mutant in (different, not_put_back):
        monkeypatch.setattr(adversarial, "replayed", mutant)
        with pytest.raises(AssertionError):
            check_masks(FreeLB(), with_clean=False)


def test_a_descent_is_caught(monkeypatch):
    climb = ascents.climb
    monkeypatch.setattr(ascents, "climb", lambda n, g, *rest: climb(n, -g, *rest))
    with pytest.raises(AssertionError):
        check_optimum()
    with pytest.raises(AssertionError):
        check_freelb(FreeLB(step_size=0.5))


def test_perturbed_padding_is_caught(monkeypatch):
    monkeypatch.setattr(
        adversarial, "open_tokens", lambda inputs, _: torch.ones_like(inputs["input_ids"]).bool()
    )
    for settings in (FreeLB(), PGD(), SMART()):
        with pytest.raises(AssertionError):
            check_padding(settings)


def test_a_missing_projection_is_caught(monkeypatch):
    climb = ascents.climb
    monkeypatch.setattr(ascents, "climb", lambda n, g, step, _: climb(n, g, step, 0.0))
    for check in (check_norms, check_optimum):
        with pytest.raises(AssertionError):
            check()


def test_a_norm_of_the_batch_is_caught(monkeypatch):
    monkeypatch.setattr(perturbation, "_norms", lambda n: n.norm())
    for check in (check_norms, check_optimum):
        with pytest.raises(AssertionError):
            check()


def test_summed_gradients_are_caught(monkeypatch):
    settings = FreeLB(step_size=0.5)
    averaged = ascents.with_gradients

    def summed(value, of, known):
        return averaged(value, of, [None if g is None else g * settings.steps for g in known])

    monkeypatch.setattr(ascents, "with_gradients", summed)
    with pytest.raises(AssertionError):
        check_freelb(settings)


def test_the_last_gradient_alone_is_caught(monkeypatch):
    """The worst point alone is PGD, not FreeLB."""
    gradients, settings = ascents.gradients, FreeLB(step_size=0.5)
    calls = []

    def last(loss, of, scale):
        calls.append(None)
        found = gradients(loss, of, scale)
        return found if len(calls) == settings.steps else [found[0], *[None] * (len(of) - 1)]

    monkeypatch.setattr(ascents, "gradients", last)
    with pytest.raises(AssertionError):
        check_freelb(settings)


def test_domains_that_nobody_knows_share_no_perturbation():
    with pytest.raises(ValueError, match="no row of this batch is of a known one"):
        run(PGD(per_domain=True), Linear(), domains=torch.full((3,), -1))
