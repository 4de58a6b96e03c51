"""Smoothed classifiers as plain files: nothing is lost on the way, and nothing is run."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from tiny import tiny_model, wordpiece
from tiny_lms import parts

from robust_nlp import (
    AdaptiveDeletion,
    BagDeletion,
    CombinedNoise,
    ExponentialSubstitution,
    FixedPlan,
    GaussianEmbedding,
    HuggingFaceClassifier,
    RandomizedDeletion,
    RandomMasking,
    Reordering,
    SmoothedClassifier,
    SynonymSmoothing,
)
from robust_nlp.denoising import (
    CausalLMDenoiser,
    DenoisedClassifier,
    MaskedLMDenoiser,
    Seq2SeqDenoiser,
)
from robust_nlp.errors import ModelError
from robust_nlp.mechanisms import AnyMechanism
from robust_nlp.sharing import check_plain
from robust_nlp.sharing.plain import save_model
from robust_nlp.training.projection import fold, project

PLAN = FixedPlan(alpha=0.05, n_selection=8, n_estimation=24)
TEXTS = ["the film is good", "a bad story , the plot is poor", ""]
SWAPS = {"good": ["bad", "poor"], "film": ["picture", "movie"], "poor": ["bad"]}
DISTANCES = {"good": {"bad": 1.5, "poor": 0.7}, "bad": {"poor": 0.9}}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "swaps.json").write_text(json.dumps(SWAPS))
    (folder / "distances.json").write_text(json.dumps(DISTANCES))
    (folder / "words.txt").write_text("plot\n cast \n\nfilm\n")
    return folder


@pytest.fixture(scope="module")
def base() -> HuggingFaceClassifier:
    tokenizer = wordpiece()
    return HuggingFaceClassifier(
        tiny_model("Bert", tokenizer), tokenizer, max_length=40, prefix="the"
    )


def without_prefix() -> HuggingFaceClassifier:
    tokenizer = wordpiece()
    return HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)


def every_mechanism(files: Path) -> list:
    swaps = str(files / "swaps.json")
    return [
        RandomizedDeletion(p_del=0.6),
        AdaptiveDeletion(keeps=(3.0, 2.0), edges=(10,), p_min=0.5),
        RandomMasking(p_mask=0.5),
        BagDeletion(p_del=0.6),
        Reordering(block=2),
        SynonymSmoothing(swaps=swaps, limit=1, symmetric=True),
        SynonymSmoothing(swaps=SWAPS, sets="nearest"),
        ExponentialSubstitution(swaps=swaps, epsilon=1.0, distances=str(files / "distances.json")),
        ExponentialSubstitution(swaps=SWAPS, epsilon=1.0),
        CombinedNoise(p_del=0.3, p_substitute=0.3, vocabulary=str(files / "words.txt")),
        CombinedNoise(p_del=0.3, p_mask=0.2, vocabulary="nowhere.txt"),
        GaussianEmbedding(sigma=0.5, swaps=swaps),
    ]


def test_every_kind_of_mechanism_is_tried(files):
    tried = {mechanism.kind for mechanism in every_mechanism(files)}
    assert tried == {mechanism.kind for mechanism in get_args(AnyMechanism)}


@pytest.mark.parametrize("which", range(12))
def test_a_moved_folder_gives_the_same_certificates(which, files, base, tmp_path):
    mechanism = every_mechanism(files)[which]
    gone = tmp_path / "gone"
    shutil.copytree(files, gone)
    here = json.loads(json.dumps(mechanism.to_dict()).replace(str(files), str(gone)))
    here.pop("kind")
    before = SmoothedClassifier(base, type(mechanism)(**here))
    before.save_pretrained(tmp_path / "saved")
    expected = before.certify(TEXTS, PLAN)
    shutil.rmtree(gone)
    moved = shutil.move(tmp_path / "saved", tmp_path / "moved")
    text = "".join(path.read_text() for path in Path(moved).glob("*.json"))
    assert str(tmp_path) not in text
    check_plain(moved)
    after = SmoothedClassifier.from_pretrained(moved, device="cpu")
    assert after.certify(TEXTS, PLAN) == expected
    assert (after.base.max_length, after.base.prefix) == (40, "the")
    hashes = [
        {name: content["content_hash"] for name, content in each.contents().items()}
        for each in (mechanism, after.mechanism)
    ]
    assert hashes[0] == hashes[1]


def test_swaps_of_wordnet_are_written_down(base, tmp_path, monkeypatch):
    from robust_nlp import swaps

    monkeypatch.setattr(swaps, "_wordnet", lambda: SWAPS)
    swaps._load_named.cache_clear()
    SmoothedClassifier(base, SynonymSmoothing(swaps="wordnet", limit=1)).save_pretrained(tmp_path)
    swaps._load_named.cache_clear()
    monkeypatch.setattr(swaps, "_wordnet", lambda: pytest.fail("WordNet is not needed any more"))
    allowed = SmoothedClassifier.from_pretrained(tmp_path, device="cpu").mechanism.allowed
    assert {word: allowed.of(word) for word in SWAPS} == {
        "good": ("bad",),
        "film": ("picture",),
        "poor": ("bad",),
    }


# Denoisers.


def denoiser_of(kind: str):
    if kind == "masked_lm":
        model, tokenizer = parts("wordpiece")
        return MaskedLMDenoiser(
            model,
            tokenizer,
            gap_masks=0.7,
            fills=2,
            rounds=2,
            temperature=0.8,
            seed=4,
            max_length=30,
        )
    model, tokenizer = parts({"seq2seq": "bart", "causal_lm": "gpt2"}[kind])
    write = {"seq2seq": Seq2SeqDenoiser, "causal_lm": CausalLMDenoiser}[kind]
    return write(
        model, tokenizer, prompt="q {text} a", mask="_", max_new_tokens=5, temperature=0.5, seed=2
    )


@pytest.mark.parametrize("kind", ["masked_lm", "seq2seq", "causal_lm"])
def test_a_denoiser_comes_back_with_the_same_answers(kind, base, tmp_path):
    denoiser = denoiser_of(kind)
    before = SmoothedClassifier(DenoisedClassifier(base, denoiser), RandomMasking(p_mask=0.4))
    before.save_pretrained(tmp_path)
    check_plain(tmp_path)
    assert {"denoiser.json", "config.json", "model.safetensors"} <= {
        path.name for path in (tmp_path / "denoiser").iterdir()
    }
    after = SmoothedClassifier.from_pretrained(tmp_path, device="cpu")
    noisy = ["the \ue000 is good", "a bad \ue000 \ue000", "good", "film \ue000 " * 20]
    assert after.base.denoiser.repair(noisy) == denoiser.repair(noisy)
    assert after.certify(TEXTS, PLAN) == before.certify(TEXTS, PLAN)
    assert (after.base.max_length, after.base.prefix) == (40, "the")
    plain = SmoothedClassifier.from_pretrained(tmp_path, device="cpu", denoiser=False)
    assert isinstance(plain.base, HuggingFaceClassifier)


def test_a_denoiser_of_noisy_embeddings_keeps_its_confidence(tmp_path):
    model, tokenizer = parts("wordpiece")
    denoised = DenoisedClassifier(
        without_prefix(),
        MaskedLMDenoiser(model, tokenizer),
        protected="first",
        min_confidence=0.9,
    )
    before = SmoothedClassifier(denoised, GaussianEmbedding(sigma=0.3, swaps=SWAPS))
    before.save_pretrained(tmp_path)
    after = SmoothedClassifier.from_pretrained(tmp_path, device="cpu")
    assert after.base.protected == "first"
    assert after.base._min_confidence == 0.9
    assert after.certify(TEXTS, PLAN) == before.certify(TEXTS, PLAN)


def test_what_is_no_denoiser_of_ours_is_not_saved(base, tmp_path):
    class Own:
        def repair(self, noisy):
            return [[text] for text in noisy]

    class Changed(MaskedLMDenoiser):
        pass

    own = SmoothedClassifier(DenoisedClassifier(base, Own()), RandomMasking(p_mask=0.4))
    with pytest.raises(ModelError, match="a Own cannot be saved"):
        own.save_pretrained(tmp_path)
    changed = DenoisedClassifier(base, Changed(*parts("wordpiece")))
    with pytest.raises(ModelError, match="a Changed cannot be saved"):
        SmoothedClassifier(changed, RandomMasking(p_mask=0.4)).save_pretrained(tmp_path)
    model, tokenizer = parts("wordpiece")
    half = MaskedLMDenoiser(copy.deepcopy(model).half(), tokenizer)
    with pytest.raises(ModelError, match=r"single precision.*float16"):
        SmoothedClassifier(
            DenoisedClassifier(base, half), RandomMasking(p_mask=0.4)
        ).save_pretrained(tmp_path)


def test_settings_of_a_denoiser_that_nobody_knows_are_refused(base, tmp_path):
    denoised = DenoisedClassifier(base, denoiser_of("masked_lm"))
    SmoothedClassifier(denoised, RandomMasking(p_mask=0.4)).save_pretrained(tmp_path)
    path = tmp_path / "denoiser" / "denoiser.json"
    saved = json.loads(path.read_text())
    for wrong in ({**saved, "gap_mask": 1}, {**saved, "kind": "shell"}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ModelError, match=r"denoiser.json does not say how to repair"):
            SmoothedClassifier.from_pretrained(tmp_path, device="cpu")


# Weights.


def test_a_projection_in_training_is_folded_into_what_is_saved(tmp_path):
    base = without_prefix()
    project(base.model, rank=3)
    table = base.model.get_input_embeddings()
    with torch.no_grad():
        table.left.normal_(generator=torch.Generator().manual_seed(0))
    smoothed = SmoothedClassifier(base, GaussianEmbedding(sigma=0.5, swaps=SWAPS))
    smoothed.save_pretrained(tmp_path)
    assert base.model.get_input_embeddings() is table  # training goes on as before
    after = SmoothedClassifier.from_pretrained(tmp_path, device="cpu")
    weight = after.base.model.get_input_embeddings().weight
    torch.testing.assert_close(weight, table.map(table.weight.detach()))
    assert not torch.allclose(weight, table.weight)
    folded = copy.deepcopy(base.model)
    fold(folded)
    expected = SmoothedClassifier(
        HuggingFaceClassifier(folded, base.tokenizer), smoothed.mechanism
    ).certify(TEXTS, PLAN)
    assert after.certify(TEXTS, PLAN) == expected


def test_entries_that_name_code_are_left_out_where_nobody_needs_them(tmp_path):
    base = without_prefix()
    base.model.config.auto_map = {"AutoModel": "evil.Model"}
    SmoothedClassifier(base, RandomizedDeletion(p_del=0.5)).save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())

    class Own(type(base.model)):
        pass

    own = copy.deepcopy(base.model)
    own.__class__ = Own
    save_model(tmp_path, own, base.tokenizer)
    with pytest.raises(ModelError, match=r"config.json names code of its own \(auto_map\)"):
        check_plain(tmp_path)


@pytest.mark.parametrize("name", ["model.pkl", "deep/modeling.py", "pytorch_model.bin", "run.sh"])
def test_files_that_may_run_code_are_refused(name, tmp_path):
    check_plain(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(pickle.dumps("x"))
    with pytest.raises(ModelError, match=rf"run no code.*{name}"):
        check_plain(tmp_path)


# The file smoothing.json.


def test_files_that_were_changed_or_lost_are_noticed(files, base, tmp_path):
    mechanism = SynonymSmoothing(swaps=str(files / "swaps.json"))
    for change, message in (
        (lambda path: path.write_text('{"good": ["bad"]}'), "not those that were saved"),
        (lambda path: path.unlink(), "is missing"),
    ):
        folder = tmp_path / message.replace(" ", "-")
        SmoothedClassifier(base, mechanism).save_pretrained(folder)
        (swaps,) = folder.glob("swaps-*.json")
        change(swaps)
        with pytest.raises(ModelError, match=message):
            SmoothedClassifier.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize("name", ["../swaps-01234567.json", "/etc/passwd", "config.json"])
def test_smoothing_files_do_not_reach_out_of_their_folder(name, files, base, tmp_path):
    mechanism = SynonymSmoothing(swaps=str(files / "swaps.json"))
    SmoothedClassifier(base, mechanism).save_pretrained(tmp_path / "saved")
    shutil.copy(next((tmp_path / "saved").glob("swaps-*")), tmp_path / "swaps-01234567.json")
    path = tmp_path / "saved" / "smoothing.json"
    content = json.loads(path.read_text())
    content["mechanism"]["swaps"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="is no file that swaps may be read from"):
        SmoothedClassifier.from_pretrained(tmp_path / "saved", device="cpu")


def test_a_readme_is_written_once(base, tmp_path):
    smoothed = SmoothedClassifier(base, RandomizedDeletion(p_del=0.5))
    smoothed.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.pipeline_tag == "text-classification"
    assert "Randomized deletion: every word is deleted with probability 0.5" in card.text
    (tmp_path / "README.md").write_text("mine")
    smoothed.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


# The Hub.


REAL = huggingface_hub.HfApi


class Hub:
    """A Hub in a folder, asked as the real one is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, []

    def api(self, token=None):
        self.token = token
        return SimpleNamespace(
            create_repo=self.create_repo,
            file_exists=lambda *, repo_id, filename: (self.folder / repo_id / filename).exists(),
            upload_folder=self.upload_folder,
        )

    def create_repo(self, **settings):
        inspect.signature(REAL.create_repo).bind(None, **settings)
        self.calls.append(settings)
        (self.folder / settings["repo_id"]).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=settings["repo_id"])

    def upload_folder(self, **settings):
        real = inspect.signature(REAL.upload_folder)
        assert {*settings} <= {*real.parameters}
        self.calls.append(settings)
        remote, local = self.folder / settings["repo_id"], settings["folder_path"]
        for path in [each for each in remote.rglob("*") if each.is_file()]:
            name = str(path.relative_to(remote))
            if any(fnmatch(name, pattern) for pattern in settings["delete_patterns"]):
                path.unlink()
        ignored = shutil.ignore_patterns(*settings["ignore_patterns"] or ())
        shutil.copytree(local, remote, ignore=ignored, dirs_exist_ok=True)
        return SimpleNamespace(commit_url=f"https://hub/{settings['repo_id']}/commit/1")

    def hf_hub_download(self, repo_id, filename, *, revision=None):
        if not (self.folder / repo_id / filename).is_file():
            error = EntryNotFoundError.__new__(EntryNotFoundError)
            Exception.__init__(error, "404")
            raise error
        return str(self.folder / repo_id / filename)

    def snapshot_download(self, repo_id, *, revision=None, allow_patterns):
        local = self.folder / "cache" / repo_id
        for path in (self.folder / repo_id).rglob("*"):
            name = path.relative_to(self.folder / repo_id)
            if path.is_file() and any(fnmatch(str(name), pattern) for pattern in allow_patterns):
                (local / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, local / name)
        return str(local)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    found = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", found.api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", found.hf_hub_download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    return found


def test_what_is_pushed_is_what_is_loaded(hub, files, base, monkeypatch):
    denoised = DenoisedClassifier(base, denoiser_of("masked_lm"))
    before = SmoothedClassifier(denoised, SynonymSmoothing(swaps=str(files / "swaps.json")))
    url = before.push_to_hub("me/mine", private=True, token="a-token", commit_message="first")
    assert url == "https://hub/me/mine/commit/1"
    created, uploaded = hub.calls
    assert (created["private"], created["exist_ok"], hub.token) == (True, True, "a-token")
    assert (uploaded["commit_message"], uploaded["repo_id"]) == ("first", "me/mine")
    after = SmoothedClassifier.from_pretrained("me/mine", device="cpu")
    assert after.certify(TEXTS, PLAN) == before.certify(TEXTS, PLAN)
    card = ModelCard.load(hub.folder / "me/mine/README.md")
    assert "from_pretrained('me/mine')" in card.text
    assert "the denoiser in `denoiser/` repairs it" in card.text


def test_a_second_push_keeps_the_card_and_drops_what_is_replaced(hub, base):
    remote = hub.folder / "me/mine"
    smoothed = SmoothedClassifier(base, RandomMasking(p_mask=0.4))
    with_denoiser = DenoisedClassifier(base, denoiser_of("masked_lm"))
    SmoothedClassifier(with_denoiser, smoothed.mechanism).push_to_hub("me/mine")
    (remote / "README.md").write_text("mine")
    (remote / "model-00001-of-00002.safetensors").write_text("old")
    smoothed.push_to_hub("me/mine")
    assert (remote / "README.md").read_text() == "mine"
    left = {path.name for path in remote.rglob("*") if path.is_file()}
    assert not {"denoiser.json", "model-00001-of-00002.safetensors"} & left
    smoothed.push_to_hub("me/mine", card="a card of mine")
    assert (remote / "README.md").read_text() == "a card of mine"


def test_nothing_is_uploaded_that_names_code(hub):
    base = without_prefix()

    class Own(type(base.model)):
        pass

    base.model.config.auto_map = {"AutoModel": "own.Own"}
    base.model.__class__ = Own
    with pytest.raises(ModelError, match="names code of its own"):
        SmoothedClassifier(base, RandomizedDeletion(p_del=0.5)).push_to_hub("me/own")
    assert hub.calls == []


@pytest.fixture
def pushed(hub, files, base) -> Path:
    mechanism = SynonymSmoothing(swaps=str(files / "swaps.json"))
    SmoothedClassifier(base, mechanism).push_to_hub("you/yours")
    return hub.folder / "you/yours"


def edit(path: Path, **entries) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_code_and_pickles_from_the_hub_are_not_even_downloaded(hub, pushed):
    for name in ("modeling_own.py", "pytorch_model.bin", "training_args.bin", "x.pkl"):
        (pushed / name).write_bytes(pickle.dumps("x"))
    SmoothedClassifier.from_pretrained("you/yours", device="cpu")
    check_plain(hub.folder / "cache")
    (pushed / "model.safetensors").unlink()
    shutil.rmtree(hub.folder / "cache")
    with pytest.raises(ModelError, match="pickles may run code"):
        SmoothedClassifier.from_pretrained("you/yours", device="cpu")


def test_a_classifier_from_the_hub_that_names_code_or_files_of_yours_is_refused(hub, pushed, files):
    content = json.loads((pushed / "smoothing.json").read_text())
    outside = {**content["mechanism"], "swaps": str(files / "swaps.json")}
    edit(pushed / "smoothing.json", mechanism=outside, files={})
    with pytest.raises(ModelError, match="which is not shared with it"):
        SmoothedClassifier.from_pretrained("you/yours", device="cpu")
    edit(pushed / "smoothing.json", mechanism=content["mechanism"], files=content["files"])
    SmoothedClassifier.from_pretrained("you/yours", device="cpu")
    edit(pushed / "config.json", auto_map={"AutoModel": "evil--Model"})
    with pytest.raises(ModelError, match=r"names code of its own \(auto_map\)"):
        SmoothedClassifier.from_pretrained("you/yours", device="cpu")


def test_what_cannot_be_looked_up_is_said(hub, monkeypatch):
    with pytest.raises(ModelError, match=r"'you/nothing' has no smoothing\.json that names a"):
        SmoothedClassifier.from_pretrained("you/nothing")

    def offline(*_, **__):
        raise LocalEntryNotFoundError("no network, no cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(
        ModelError, match=r"\(there is no such folder, and the Hub could not be reached\)"
    ):
        SmoothedClassifier.from_pretrained("you/yours")
