"""TextAttack's augmenters and recipes. Skipped where it is not installed; needs no data."""

import json
import logging
import os
import random
import re
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import tiny
import torch
from attack_victims import forget_stop_words
from conftest import tiny_tokenizer
from rapidfuzz.distance import Levenshtein

from robust_nlp.attacks import plans
from robust_nlp.augmentation import (
    Adversarial,
    AdversarialExamples,
    TextAttackAugmenter,
    Victim,
    augment,
    augment_rows,
    textattack_augmenter,
)
from robust_nlp.augmentation.attacks import build_attack
from robust_nlp.augmentation.textattack_import import neighbours, own_randomness, textattack
from robust_nlp.errors import DataError, MissingExtraError, ModelError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.swaps import AllowedSwaps

pytestmark = pytest.mark.skipif(
    find_spec("textattack") is None, reason="TextAttack is not installed"
)

SWAPS = {
    "good": ["great", "fine", "lovely"],
    "film": ["movie", "picture"],
    "brilliant": ["bright"],
    "awful": ["bad", "poor"],
    "lovely": ["awful", "good"],
    "plot": ["story"],
    "boring": ["tedious"],
}
ADJECTIVES = ["good", "great", "fine", "lovely", "brilliant", "bright", "awful", "bad", "poor"]
TEXT = "The film is a surprisingly good film, and the cast was brilliant in all of its scenes."
TEXTS = [
    "the film is a good film and the cast was brilliant",
    "a bad story , the plot is poor and it was not good at all",
    "don't you think this is an awful, tedious picture?",
    "this lovely movie isn't boring: i'd see it again!",
]


@pytest.fixture(scope="module", autouse=True)
def _data(tmp_path_factory):
    """The few files of NLTK that TextAttack cannot do without, and none of its downloads."""
    folder, cache = tmp_path_factory.mktemp("nltk_data"), tmp_path_factory.mktemp("cache")
    files = {
        "corpora/stopwords/english": "the\na\nis\nand\nwas\nin\nof\nits\nall\nnot\n",
        "taggers/universal_tagset/en-ptb.map": "NN\tNOUN\nJJ\tADJ\n",
    }
    tagger = "taggers/averaged_perceptron_tagger_eng/averaged_perceptron_tagger_eng"
    for name, content in {
        "weights": {},
        "tagdict": dict.fromkeys([*ADJECTIVES, "boring", "tedious"], "JJ"),
        "classes": ["JJ", "NN"],
    }.items():
        files[f"{tagger}.{name}.json"] = json.dumps(content)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    (cache / "post_install_check_3").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TA_CACHE_DIR", str(cache))
        patch.setenv("FLAIR_CACHE_ROOT", str(cache))
        patch.setenv("NLTK_DATA", str(folder))
        patch.setenv("ROBUST_NLP_HOME", str(tmp_path_factory.mktemp("home")))
        if "nltk.data" in sys.modules:
            patch.setattr(sys.modules["nltk.data"], "path", [str(folder)])
        forget_stop_words()
        yield
    forget_stop_words()


@pytest.fixture(scope="module")
def classifier():
    tokenizer = tiny_tokenizer()
    return HuggingFaceClassifier(tiny.tiny_model("Bert", tokenizer), tokenizer)


def word_distance(one, other):
    """How many words differ, whatever the punctuation."""
    return Levenshtein.distance(re.findall(r"[\w']+", one), re.findall(r"[\w']+", other))


# --- the import ----------------------------------------------------------------------------------


def test_the_import_leaves_the_process_as_it_was():
    logger = logging.getLogger("somebody.else")
    before = {name: os.environ.get(name) for name in ("HF_HOME", "TOKENIZERS_PARALLELISM")}
    state = random.getstate()
    assert textattack().name == "textattack"
    assert {name: os.environ.get(name) for name in before} == before
    assert random.getstate() == state
    assert not logger.disabled


def test_what_an_import_lacks_is_named(monkeypatch):
    from robust_nlp.augmentation import textattack_import

    for problem, error, message in (
        (LookupError("stopwords"), DataError, "robust-nlp resources install stopwords"),
        (ImportError("no AdamW"), MissingExtraError, "no AdamW. It needs transformers below 5"),
    ):

        def fails(name, problem=problem):
            raise problem

        monkeypatch.setattr(textattack_import, "import_module", fails)
        with pytest.raises(error, match=message):
            textattack_import._import.__wrapped__()


def test_global_generators_go_on_as_if_nothing_had_been_drawn():
    def draw():
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    with own_randomness(0):
        first = draw()
    outside = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # noqa: NPY002
    with own_randomness(0):
        assert draw() == first
    with own_randomness(1):
        assert draw() != first
    with pytest.raises(KeyError), own_randomness(0):
        raise KeyError
    assert outside == [
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_rng_state().tolist(),
    ]


def test_neighbours_are_the_allowed_swaps_in_order():
    table = neighbours(AllowedSwaps(SWAPS))
    assert table.nearest_neighbours(table.word2index("good"), 2) == ["great", "fine"]
    assert table.index2word("fine") == "fine"
    assert table.nearest_neighbours(table.word2index("fine"), 2) == []


def test_a_bound_on_distances_asks_whether_one_word_may_replace_the_other():
    table = neighbours(AllowedSwaps(SWAPS))
    distance = textattack("constraints.semantics").WordEmbeddingDistance
    text = textattack("shared").AttackedText("a good film")
    for word, allowed in (("great", True), ("good", True), ("film", False), ("unheard", False)):
        changed = text.replace_word_at_index(1, word)
        for bound in ({"min_cos_sim": 0.5}, {"max_mse_dist": 0.5}):
            assert distance(embedding=table, **bound)._check_constraint(changed, text) is allowed
    back = text.replace_word_at_index(1, "great").replace_word_at_index(1, "good")
    great = text.replace_word_at_index(1, "great")
    assert not distance(embedding=table, min_cos_sim=0.5)._check_constraint(
        back, great
    )  # great -> good is not there


# --- augmenters ----------------------------------------------------------------------------------

NAMES = {
    "charswap": {},
    "deletion": {},
    "embedding": {"swaps": SWAPS},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_tenth_of_the_words_change(name):
    augmenter = TextAttackAugmenter(name=name, **NAMES[name])
    changed = [augment(augmenter, TEXT, seed=0, example=i) for i in range(20)]
    assert len(set(changed)) > 2
    for text in changed:
        assert word_distance(TEXT, text) == 1
        if name != "deletion":  # whose words TextAttack does not look up among the stop words
            assert " is a " in text
            assert " and the " in text


def test_more_words_change_at_higher_rates():
    augmenter = TextAttackAugmenter(name="charswap", rate=0.3)
    assert word_distance(TEXT, augment(augmenter, TEXT, seed=0, example=0)) == 5


@pytest.mark.parametrize("name", NAMES)
def test_each_part_of_the_key_matters_and_nothing_else(name):
    augmenter = TextAttackAugmenter(name=name, **NAMES[name])

    def texts(seed=0, **key):
        return [augment(augmenter, TEXT, seed=seed, example=i, **key) for i in range(12)]

    base = texts()
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert texts() == base
    assert [augment(augmenter, TEXT, seed=0, example=i) for i in reversed(range(12))] == base[::-1]
    assert base not in (texts(seed=1), texts(copy=1))


@pytest.mark.parametrize("text", ["", "  ", "...", "good", "x\ny\tz  w"])
def test_odd_texts_come_through(text):
    for name, options in NAMES.items():
        assert isinstance(
            augment(TextAttackAugmenter(name=name, **options), text, seed=0, example=0), str
        )


class Candidate(str):
    """What a transformation returns, as far as sorting sees it."""

    text = property(str)


def test_candidates_are_drawn_in_an_order_of_their_own():
    ordered = textattack_augmenter._InOrder(lambda *args: [Candidate(c) for c in "bca"])
    assert ordered() == ["a", "b", "c"]
    built = textattack_augmenter._load(TextAttackAugmenter(name="charswap"))
    assert all(isinstance(one.transformation, textattack_augmenter._InOrder) for one in built)


class Lemma:
    def __init__(self, name):
        self.name = lambda: name


class Synset:
    def __init__(self, *names):
        self.lemma_names = lambda lang: list(names)
        self.lemmas = lambda: [Lemma(name) for name in names]


class WordNet:
    """A WordNet of one sense."""

    def langs(self):
        return ["eng"]

    def synsets(self, word, lang="eng"):
        return [Synset("film", "movie", "picture")] if word == "film" else []


@pytest.fixture
def wordnet(monkeypatch):
    words = textattack("transformations.word_swaps.word_swap_wordnet")
    insertions = textattack("transformations.word_insertions.word_insertion_random_synonym")
    monkeypatch.setattr(words, "wordnet", WordNet())
    monkeypatch.setattr(insertions, "wordnet", WordNet())
    monkeypatch.setattr(words.nltk, "download", lambda *args, **kwargs: False)
    monkeypatch.setattr(plans, "require", lambda *needs: None)
    textattack_augmenter._load.cache_clear()
    yield
    textattack_augmenter._load.cache_clear()


def test_wordnet_swaps_synonyms(wordnet):
    found = {
        augment(TextAttackAugmenter(name="wordnet"), "a film", seed=0, example=i) for i in range(30)
    }
    assert found == {"a movie", "a picture"}


def test_eda_makes_each_of_its_four_changes(wordnet):
    counts = dict.fromkeys(("swap", "delete", "exchange", "insert"), 0)
    text = "a film worth seeing"
    for i in range(200):
        words = augment(TextAttackAugmenter(name="eda"), text, seed=0, example=i).split()
        if len(words) == 3:
            counts["delete"] += 1
        elif len(words) == 5:
            counts["insert"] += 1
        elif sorted(words) == sorted(text.split()):
            counts["exchange"] += 1
        else:
            counts["swap"] += 1
    assert min(counts.values()) > 30, counts
    insertion = textattack_augmenter._load(TextAttackAugmenter(name="eda"))[3].transformation
    synonyms = insertion._transformation._get_synonyms("film")
    assert synonyms == ["movie", "picture"]  # sorted: a set has no order of its own


def test_missing_data_are_named():
    textattack_augmenter._load.cache_clear()
    for name in ("wordnet", "eda"):
        with pytest.raises(DataError, match="robust-nlp resources install wordnet"):
            augment(TextAttackAugmenter(name=name), TEXT, seed=0, example=0)
    with pytest.raises(DataError, match="flair's tagger of names"):
        augment(TextAttackAugmenter(name="checklist"), TEXT, seed=0, example=0)


class Tagger:
    """A tagger that sees no names."""

    def predict(self, sentence, **kwargs):
        for token in sentence.tokens:
            token.add_label("ner", "O", 1.0)


def test_checklist_rewrites_contractions(monkeypatch):
    monkeypatch.setitem(textattack("shared.utils.strings")._flair_taggers, "ner", Tagger())
    monkeypatch.setattr(plans, "require", lambda *needs: None)
    textattack_augmenter._load.cache_clear()
    found = augment(TextAttackAugmenter(name="checklist"), "it isn't bad", seed=0, example=0)
    assert found == "it is not bad"
    textattack_augmenter._load.cache_clear()


def test_copies_made_once_come_from_disk(tmp_path):
    rows = [{"text": text, "label": 0, "example_id": i} for i, text in enumerate(TEXTS)]
    augmenter = TextAttackAugmenter(name="charswap")
    copies = augment_rows(rows, augmenter, folder=tmp_path)
    textattack_augmenter._load.cache_clear()
    assert augment_rows(rows, augmenter, folder=tmp_path) == copies
    assert textattack_augmenter._load.cache_info().currsize == 0
    assert all(copy["text"] != row["text"] for copy, row in zip(copies, rows, strict=True))


# --- attacks -------------------------------------------------------------------------------------

RECIPES = [
    Adversarial(recipe="a2t", swaps=SWAPS),
    Adversarial(recipe="deepwordbug"),
    Adversarial(recipe="pruthi"),
]


def predicted(classifier, texts):
    return Victim(classifier)(texts).argmax(-1).tolist()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.recipe)
def test_attacks_end_as_they_say(classifier, recipe):
    labels = predicted(classifier, TEXTS)
    labels[1] = 1 - labels[1]
    found = AdversarialExamples(recipe).generate(classifier, TEXTS, labels)
    answers = predicted(classifier, [row.text for row in found])
    for row, text, label, answer in zip(found, TEXTS, labels, answers, strict=True):
        if row.outcome == "success":
            assert answer != label
            assert 1 <= word_distance(text, row.text) <= (4 if recipe.recipe == "a2t" else 20)
        else:
            assert row.text == text
            assert (answer == label) == (row.outcome == "failed")
        assert row.queries >= 1
    assert found[1].outcome == "skipped"
    assert any(row.outcome == "success" for row in found)


def test_a2t_swaps_allowed_words_of_the_same_part_of_speech(classifier):
    swaps = {**SWAPS, "brilliant": ["cast"]}  # a noun for an adjective
    found = AdversarialExamples(Adversarial(swaps=swaps)).generate(
        classifier, TEXTS, predicted(classifier, TEXTS)
    )
    allowed = AllowedSwaps(swaps)
    changed = 0
    for row, text in zip(found, TEXTS, strict=True):
        for before, after in zip(text.split(), row.text.split(), strict=True):
            if before != after:
                changed += 1
                assert after in allowed.of(before)
                assert after != "cast"
    assert changed > 0


@pytest.mark.parametrize("recipe", RECIPES[:2], ids=lambda r: r.recipe)
def test_results_do_not_depend_on_order_or_on_what_came_before(classifier, recipe):
    labels, state = predicted(classifier, TEXTS), random.getstate()
    examples = AdversarialExamples(recipe)
    base = examples.generate(classifier, TEXTS, labels)
    back = examples.generate(classifier, TEXTS[::-1], labels[::-1], example_ids=[3, 2, 1, 0])
    assert back[::-1] == base
    alone = examples.generate(classifier, TEXTS[2:3], labels[2:3], example_ids=[2])
    assert alone == base[2:3]
    assert random.getstate() == state
    if recipe.recipe == "deepwordbug":  # which draws letters
        assert examples.generate(classifier, TEXTS, labels, epoch=1) != base


@pytest.mark.parametrize("protected", ["first", "second"])
@pytest.mark.parametrize("recipe", RECIPES[:2], ids=lambda r: r.recipe)
def test_the_protected_text_of_a_pair_stays(recipe, protected):
    tokenizer = tiny_tokenizer()
    model = tiny.tiny_model("Bert", tokenizer)
    classifier = HuggingFaceClassifier(model, tokenizer, protected=protected)
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    labels = predicted(classifier, pairs)
    found = AdversarialExamples(recipe, protected=protected).generate(classifier, pairs, labels)
    kept = 0 if protected == "first" else 1
    assert [row.text[kept] for row in found] == [pair[kept] for pair in pairs]
    won = [row.outcome == "success" for row in found]
    assert any(won)
    answers = predicted(classifier, [row.text for row in found])
    assert [a != b for a, b in zip(answers, labels, strict=True)] == won


def test_functions_are_attacked_without_gradients():
    def scores(texts):
        return [[0.0, 3.0 - 2.0 * (text.split()[0] != "good")] for text in texts]

    settings = Adversarial(swaps=SWAPS)
    (found,) = AdversarialExamples(settings).generate(scores, ["good film"], [1])
    assert found.outcome == "failed"

    def weaker(texts):
        return [[1.0, 3.0 * text.count("good")] for text in texts]

    (found,) = AdversarialExamples(settings).generate(weaker, ["good film"], [1])
    assert found.outcome == "success"
    assert found.text in {"great film", "fine film", "lovely film"}


def test_queries_have_a_limit(classifier):
    recipe = Adversarial(recipe="pruthi", max_queries=5)
    found = AdversarialExamples(recipe).generate(classifier, TEXTS, predicted(classifier, TEXTS))
    assert max(row.queries for row in found) <= 5


def test_a_victim_that_fails_stops_the_attack():
    def scores(texts):
        raise ModelError("out of order")

    with pytest.raises(ModelError, match="out of order"):
        AdversarialExamples(RECIPES[1]).generate(scores, TEXTS, [0] * 4)


def test_recipes_say_what_they_lack(classifier):
    for recipe, message in (
        ("textfooler", "'textfooler' lacks\n- counter-fitted word vectors"),
        ("pwws", "robust-nlp resources install wordnet"),
        ("checklist", "flair's tagger of names"),
    ):
        with pytest.raises(DataError, match=message):
            build_attack(Adversarial(recipe=recipe), Victim(classifier))
