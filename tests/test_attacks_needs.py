"""The table of what attacks need, and what stands in. Neither TextAttack nor torch is needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from robust_nlp.attacks import AttackRecipe, needs, plans
from robust_nlp.attacks.needs import NEEDS, NEVER, RECIPES, STAND_INS, Given, Need
from robust_nlp.attacks.plans import check, plan, require
from robust_nlp.attacks.settings import NAMES
from robust_nlp.errors import DataError

SWAPS = {"good": ["great", "fine", "lovely"], "film": ["movie"]}


@pytest.fixture
def there(monkeypatch):
    """Let exactly the needs of a set be there, besides those that settings give."""
    names: set[str] = set()

    def has(name, find):
        return lambda given: "here" if name in names else find(given)

    settings = {"neighbours", "masked-lm"}
    known = {
        name: need._replace(find=has(name, need.find if name in settings else lambda _: None))
        for name, need in NEEDS.items()
    }
    monkeypatch.setenv("ROBUST_NLP_HOME", "/nowhere")
    monkeypatch.setattr(plans, "NEEDS", known)
    return names


def test_tables_name_each_other():
    assert set(NAMES.values()) - {"A2TYoo2021"} <= set(RECIPES)
    assert {need for row in RECIPES.values() for need in row} <= set(NEEDS)
    assert {need.stand_in for need in NEEDS.values()} - {None} == set(STAND_INS)
    assert {need for each in STAND_INS.values() for need in each.needs} <= set(NEEDS)
    assert not set(NEVER) & set(RECIPES)


def test_what_is_there_is_used_and_changes_no_name(there):
    there |= set(NEEDS)
    for when in ("never", "missing"):
        for recipe in RECIPES:
            found = plan(recipe, Given(stand_ins=when))
            assert found == ((), (), ())
            assert found.title("x") == "x"


def test_stand_ins_are_used_only_when_asked_for_and_change_the_name(there):
    there |= {"tagger", "tagset", "minilm"}
    swaps = Given(swaps=SWAPS)
    assert plan("TextFoolerJin2019", swaps).lacks == ("vectors", "encoder")
    with pytest.raises(DataError, match="stand_ins: missing"):
        check("textfooler", "TextFoolerJin2019", swaps)
    found = plan("TextFoolerJin2019", Given(stand_ins="missing", swaps=SWAPS))
    assert found.title("textfooler") == "textfooler[neighbours-3, minilm]"
    there |= {"encoder"}
    found = plan("TextFoolerJin2019", Given(stand_ins="missing", swaps=SWAPS))
    assert found.title("textfooler") == "textfooler[neighbours-3]"


def test_a_stand_in_that_lacks_something_is_none(there):
    found = plan("TextFoolerJin2019", Given(stand_ins="missing"))
    assert found.lacks == ("vectors", "neighbours", "tagger", "tagset", "encoder", "minilm")
    assert found.title("textfooler") == "textfooler"
    with pytest.raises(DataError) as caught:
        check("textfooler", "TextFoolerJin2019", Given(stand_ins="missing"))
    for name in found.lacks:
        assert NEEDS[name].command in str(caught.value)
    assert "stand_ins" not in str(caught.value)


def test_own_stop_words_need_no_asking_and_are_named(there):
    assert plan("DeepWordBugGao2018", Given()).title("deepwordbug") == "deepwordbug[own-stop-words]"
    there |= {"stopwords"}
    assert plan("DeepWordBugGao2018", Given()).title("deepwordbug") == "deepwordbug"


def test_a_masked_model_of_the_user_comes_before_the_recipe_s_own(there, tmp_path):
    there |= set(NEEDS) - {"masked-lm"}
    given = Given(masked_lm=str(tmp_path))
    assert plan("BERTAttackLi2020", given).lacks == ("bert", "masked-lm")
    (tmp_path / "config.json").write_text("{}")
    found = plan("BERTAttackLi2020", given)
    assert found.title("bert-attack") == f"bert-attack[mlm-{tmp_path.name}]"
    assert plan("BERTAttackLi2020", Given()) == ((), (), ())
    assert plan("PWWSRen2019", given) == ((), (), ())


def test_what_never_runs_says_why():
    with pytest.raises(DataError, match="takes each word for one token"):
        check("HotFlipEbrahimi2017", "HotFlipEbrahimi2017", Given(stand_ins="missing"))


def test_a_need_by_itself_is_named_with_what_brings_it(there):
    require("the augmenter 'x'")
    with pytest.raises(DataError, match=r"the augmenter 'x' lacks\n- WordNet\. Get it with: robus"):
        require("the augmenter 'x'", "wordnet")


def test_models_and_tables_are_found_where_their_libraries_keep_them(tmp_path, monkeypatch):
    for variable in ("TA_CACHE_DIR", "FLAIR_CACHE_ROOT"):
        monkeypatch.setenv(variable, str(tmp_path))
    given = Given()
    for name in ("vectors", "flair-ner", "hownet"):
        assert NEEDS[name].find(given) is None
    (tmp_path / "word_embeddings" / "paragramcf").mkdir(parents=True)
    assert NEEDS["vectors"].find(given) == str(tmp_path / "word_embeddings" / "paragramcf")
    assert NEEDS["hownet"].find(given) is None
    snapshot = tmp_path / "models/ner-english/models--flair--ner-english"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text("abc")
    (snapshot / "snapshots" / "abc").mkdir(parents=True)
    (snapshot / "snapshots" / "abc" / "pytorch_model.bin").touch()
    assert str(NEEDS["flair-ner"].find(given)).endswith("pytorch_model.bin")
    assert NEEDS["flair-pos"].find(given) is None


def test_settings_say_what_recipes_may_work_with():
    recipe = AttackRecipe(attacks=("textfooler",), swaps=SWAPS, stand_ins="missing", masked_lm="m")
    assert recipe.given == Given(stand_ins="missing", swaps=SWAPS, masked_lm="m")
    with pytest.raises(ValueError, match="stand_ins must be never or missing; got 'always'"):
        AttackRecipe(stand_ins="always")
    with pytest.raises(ValueError, match="with stand_ins: missing, to others"):
        AttackRecipe(attacks=("textfooler",), swaps=SWAPS)


def test_torch_and_textattack_are_not_imported(tmp_path):
    code = (
        "import json, sys\n"
        "from robust_nlp.attacks.doctor import diagnose, report\n"
        "report(diagnose())\n"
        "print(json.dumps([m for m in ('torch', 'textattack', 'flair') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == []


def test_a_need_says_what_it_is():
    for need in NEEDS.values():
        assert isinstance(need, Need)
        assert need.what
        assert need.command
    assert needs.ENCODER in NEEDS["encoder"].command


def test_tables_of_the_terminal_show_the_whole_name():
    from robust_nlp.scoring.wording import drawn

    name = "textfooler[neighbours-8, minilm]"
    assert any(name in line for line in drawn(["attack"], [[name]]))
