"""Suites of attacks against tiny victims. Skipped where TextAttack is not installed."""

import contextlib
import dataclasses
import json
import re
import time
import warnings
from collections import OrderedDict
from importlib.util import find_spec

import numpy as np
import pytest
import tiny
from attack_victims import EXAMPLES, TEXTS, Counting, attack_data, logits  # noqa: F401
from conftest import BAD, GOOD, NEUTRAL, tiny_tokenizer
from rapidfuzz.distance import Levenshtein

from robust_nlp import CallableClassifier, RandomizedDeletion
from robust_nlp.attacks import AttackRecipe, AttackSuite, run_attacks
from robust_nlp.attacks.smoothed import VotingJudge
from robust_nlp.augmentation.textattack_import import own_randomness, textattack
from robust_nlp.augmentation.victim import Victim
from robust_nlp.data import Split
from robust_nlp.errors import DataError, RobustNLPWarning
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.units import keyed_rng

pytestmark = pytest.mark.skipif(
    find_spec("textattack") is None, reason="TextAttack is not installed"
)

SWAPS = {
    "good": ["great", "fine", "lovely"],
    "film": ["movie", "picture"],
    "brilliant": ["fine"],
    "awful": ["bad", "poor"],
    "lovely": ["awful", "good"],
    "boring": ["poor"],
    "bad": ["poor", "boring"],
}
A2T = AttackRecipe(attacks=("a2t",), swaps=SWAPS)


def plain(rows):
    """Rows without what depends on the clock."""
    return [dataclasses.replace(row, seconds=0.0) for row in rows]


def outcomes(rows):
    return [row.outcome for row in rows]


def quiet(suite, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RobustNLPWarning)
        return suite.run(*args, **options)


def settings(**values):
    return AttackRecipe(**{"check_examples": 1, "survivors_only": False, **values})


@pytest.fixture(scope="module")
def classifier():
    tokenizer = tiny_tokenizer()
    return HuggingFaceClassifier(tiny.tiny_model("Bert", tokenizer), tokenizer)


def own(classifier, texts=TEXTS):
    """Examples that the classifier is right about."""
    return [(text, int(Victim(classifier)([text])[0].argmax())) for text in texts]


# --- the engine changes nothing ------------------------------------------------------------------


def by_textattack(build, victim, examples, name, seed=0):
    """One example after another, by TextAttack alone, each with its own seed."""
    attack, found = build(victim), []
    for i, (text, label) in enumerate(examples):
        rng = keyed_rng(seed, "attack", name, i)
        with own_randomness(int(rng.integers(2**63))):
            result = attack.attack(text, label)
        won = type(result).__name__ == "SuccessfulAttackResult"
        kind = {"SuccessfulAttackResult": "success", "SkippedAttackResult": "skipped"}
        found.append(
            (
                kind.get(type(result).__name__, "failed"),
                result.perturbed_result.attacked_text.text if won else None,
                result.num_queries,
            )
        )
    return found


@pytest.mark.parametrize("name", ["deepwordbug", "pruthi", "a2t"])
def test_results_and_queries_are_those_of_textattack_alone(classifier, name):
    from robust_nlp.attacks.needs import Given
    from robust_nlp.attacks.recipes import build

    examples = own(classifier)
    examples[2] = (examples[2][0], 1 - examples[2][1])
    options = dataclasses.replace(A2T if name == "a2t" else AttackRecipe(), check_examples=1)
    report = quiet(AttackSuite([name], settings=options), classifier, examples)

    def alone(victim):
        if name == "a2t":
            return build("a2t", victim, given=Given(swaps=SWAPS))
        recipe = {"deepwordbug": "DeepWordBugGao2018", "pruthi": "Pruthi2019"}[name]
        return getattr(textattack("attack_recipes"), recipe).build(victim)

    expected = by_textattack(alone, Victim(classifier), examples, name)
    for row, (outcome, text, queries) in zip(report.rows[name], expected, strict=True):
        assert (row.outcome, row.found) == (outcome, text)
        # The judge finds what is skipped before TextAttack asks.
        assert row.queries == (0 if outcome == "skipped" else queries)
    assert {"success", "skipped"} <= set(outcomes(report.rows[name]))


def test_rows_do_not_depend_on_width_order_or_company(classifier):
    suite = AttackSuite(["deepwordbug"], settings=settings(width=1))
    examples = own(classifier)
    base = plain(quiet(suite, classifier, examples).rows["deepwordbug"])
    for width in (2, 32):
        wide = AttackSuite(["deepwordbug"], settings=settings(width=width))
        assert plain(quiet(wide, classifier, examples).rows["deepwordbug"]) == base
    numbered = [
        {"text": text, "label": label, "example_id": i} for i, (text, label) in enumerate(examples)
    ]
    back = quiet(suite, classifier, numbered[::-1]).rows["deepwordbug"]
    assert plain(back)[::-1] == base
    assert plain(quiet(suite, classifier, numbered[3:4]).rows["deepwordbug"]) == base[3:4]
    other = AttackSuite(["deepwordbug"], settings=settings(), seed=1)
    assert plain(quiet(other, classifier, examples).rows["deepwordbug"]) != base


def test_many_examples_share_calls():
    alone, together = Counting(), Counting()
    quiet(AttackSuite(["deepwordbug"], settings=settings(width=1)), alone, EXAMPLES * 3)
    quiet(AttackSuite(["deepwordbug"], settings=settings(width=18)), together, EXAMPLES * 3)
    assert together.rows == alone.rows
    assert together.calls < alone.calls / 5


def test_an_interrupted_run_goes_on(tmp_path):
    class Interrupted(Counting):
        def __call__(self, texts):
            if self.rows > 100:
                raise KeyboardInterrupt
            return super().__call__(texts)

    suite = AttackSuite(["deepwordbug"], settings=settings(width=2))
    whole = plain(quiet(suite, logits, EXAMPLES).rows["deepwordbug"])
    with pytest.raises(KeyboardInterrupt):
        quiet(suite, Interrupted(), EXAMPLES, folder=tmp_path, model="m")
    (path,) = tmp_path.glob("part-*.jsonl")
    lines = path.read_text().splitlines()
    assert 0 < len(lines) < len(EXAMPLES)
    path.write_text("\n".join(lines) + '\n{"key": "cut')
    rest = Counting()
    found = quiet(suite, rest, EXAMPLES, folder=tmp_path, model="m").rows["deepwordbug"]
    assert plain(found) == whole
    done = {json.loads(line)["example_id"] for line in lines}
    searched = {text for text in rest.texts if text.startswith(tuple(TEXTS[i][:3] for i in done))}
    again = Counting()
    quiet(suite, again, EXAMPLES, folder=tmp_path, model="m")
    assert again.rows == 3 * len(EXAMPLES)  # the detector of stochastic victims, and nothing else
    assert len(searched) < again.rows + 60
    other = Counting()
    quiet(suite, other, EXAMPLES, folder=tmp_path, model="another")
    assert other.rows > again.rows


class Process:
    """One of two processes, which run one after the other here."""

    def __init__(self, index):
        self.process_index, self.num_processes, self.is_main_process = index, 2, index == 0

    def wait_for_everyone(self):
        pass


def test_two_processes_give_the_rows_of_one(tmp_path, classifier):
    suite = AttackSuite(["deepwordbug", "pruthi"], settings=AttackRecipe(check_examples=2))
    examples = own(classifier)
    one = quiet(suite, classifier, examples)
    reports = []
    with pytest.raises(DataError, match="another process stopped early"):
        quiet(suite, classifier, examples, folder=tmp_path, processes=Process(1))
    for turn in range(12):
        with contextlib.suppress(DataError):
            reports.append(
                quiet(suite, classifier, examples, folder=tmp_path, processes=Process(turn % 2))
            )
    assert len(reports) >= 2
    for report in reports:
        assert {name: plain(rows) for name, rows in report.rows.items()} == {
            name: plain(rows) for name, rows in one.rows.items()
        }
        assert report.findings == one.findings


# --- limits --------------------------------------------------------------------------------------


def test_budgets_are_hard_and_cut_the_same_run(classifier):
    examples = own(classifier)
    whole = quiet(AttackSuite(["pruthi"], settings=settings()), classifier, examples).rows["pruthi"]
    costs = sorted(row.forwards for row in whole if row.attacked)
    limit = costs[len(costs) // 2]
    capped = quiet(
        AttackSuite(["pruthi"], settings=settings(max_forwards=limit)), classifier, examples
    ).rows["pruthi"]
    for before, after in zip(plain(whole), plain(capped), strict=True):
        assert after.forwards <= limit
        if before.forwards <= limit:
            assert after == before
        else:
            assert after.outcome == "budget"
            assert after.found is None
    assert "budget" in outcomes(capped)
    assert set(outcomes(capped)) - {"budget"}


def test_slow_examples_time_out():
    def slow(texts):
        if any("lovely movie" in text for text in texts):
            time.sleep(0.25)
        return logits(texts)

    suite = AttackSuite(["deepwordbug"], settings=settings(max_seconds=0.4, width=1))
    report = quiet(suite, slow, EXAMPLES)
    assert [row.outcome == "timeout" for row in report.rows["deepwordbug"]] == [
        i == 3 for i in range(6)
    ]
    assert report.worst()[3].outcome == "timeout"


def test_a_query_budget_of_the_user_still_holds():
    def build(victim):
        attack = textattack("attack_recipes").Pruthi2019.build(victim)
        attack.goal_function.query_budget = 5
        return attack

    report = quiet(AttackSuite([build], settings=settings()), logits, EXAMPLES)
    assert max(row.queries for row in report.rows["build"]) == 5


# --- detectors -----------------------------------------------------------------------------------


def reviews(n):
    """Short reviews that `logits` tells apart by a small margin."""
    rng, found = np.random.default_rng(0), []
    while len(found) < n:
        words = [*rng.choice(NEUTRAL, 4), *rng.choice((GOOD[:5], BAD[:4])[len(found) % 2], 3)]
        text = " ".join(rng.permutation(words))
        margin = logits([text])[0, 1]
        if abs(margin) > 0.5:
            found.append((text, int(margin > 0)))
    return found


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_over_confidence_is_flagged_and_honesty_is_not(scale):
    examples = reviews(24)
    report = quiet(AttackSuite(["deepwordbug"]), lambda texts: logits(texts, scale), examples)
    flagged = {finding.name for finding in report.flagged}
    assert flagged == ({"saturation", "blind"} if scale == 50.0 else set())
    assert "stochastic" in {finding.name for finding in report.findings}
    # Margins undo the scale: the attack is as strong as on the honest model, example by example.
    honest = quiet(AttackSuite(["deepwordbug"]), logits, examples)
    assert outcomes(report.checks["margins"]) == outcomes(honest.checks["margins"])
    if scale == 50.0:
        lost = honest.summary()["worst_case"]["robust_accuracy"]["value"]
        assert report.summary()["worst_case"]["robust_accuracy"]["value"] > lost + 0.2


def test_over_confident_models_are_flagged_too(classifier):
    examples = own(classifier, [text for text, _ in reviews(24)])
    assert quiet(AttackSuite(["deepwordbug"]), classifier, examples).flagged == []
    tokenizer = tiny_tokenizer()
    sure = tiny.tiny_model("Bert", tokenizer)
    sure.classifier.weight.data *= 50
    sure.classifier.bias.data *= 50
    report = quiet(AttackSuite(["deepwordbug"]), HuggingFaceClassifier(sure, tokenizer), examples)
    assert "saturation" in {finding.name for finding in report.flagged}


def test_a_stochastic_victim_is_flagged_with_a_warning():
    rng = np.random.default_rng(0)

    def noisy(texts):
        return logits(texts) + rng.normal(size=(len(texts), 2))

    with pytest.warns(RobustNLPWarning, match="The victim is stochastic"):
        AttackSuite(["deepwordbug"], settings=settings()).run(noisy, EXAMPLES[:1])


def test_a_constant_victim_is_a_blind_search():
    report = quiet(
        AttackSuite(["deepwordbug"], settings=settings()), lambda t: [[1.0, 0.0]] * len(t), EXAMPLES
    )
    assert {finding.name for finding in report.flagged} == {"blind"}
    assert report.summary()["worst_case"]["outcomes"] == {"skipped": 3, "failed": 3}


# --- the cascade ---------------------------------------------------------------------------------


def test_only_survivors_go_on_and_the_worst_case_is_the_same(classifier):
    examples = own(classifier)
    cascade = quiet(AttackSuite(["pruthi", "deepwordbug"]), classifier, examples)
    each = quiet(AttackSuite(["pruthi", "deepwordbug"], settings=settings()), classifier, examples)
    assert list(cascade.rows) == ["deepwordbug", "pruthi"]  # the cheaper one first
    over = [
        r.example_id for r in cascade.rows["deepwordbug"] if r.outcome in ("success", "skipped")
    ]
    assert {row.example_id for row in cascade.rows["pruthi"]} == set(range(6)) - set(over)
    assert len(each.rows["pruthi"]) == 6
    assert outcomes(cascade.worst()) == outcomes(each.worst())


def test_edits_are_distances_and_finds_fool_the_classifier(classifier):
    report = quiet(AttackSuite(["deepwordbug"], settings=settings()), classifier, own(classifier))
    won = [row for row in report.rows["deepwordbug"] if row.outcome == "success"]
    assert won
    for row in won:
        assert row.edits == Levenshtein.distance(row.text.split(), row.found.split())
        assert Victim(classifier)([row.found])[0].argmax() == row.found_predicted != row.label


# --- what is attacked with -----------------------------------------------------------------------


def test_attacks_come_by_name_class_function_and_as_they_are(classifier):
    recipes = textattack("attack_recipes")

    def mine(victim):
        return recipes.DeepWordBugGao2018.build(victim)

    examples = own(classifier)
    base = quiet(AttackSuite(["deepwordbug"], settings=settings()), classifier, examples)
    for attack in ("DeepWordBugGao2018", recipes.DeepWordBugGao2018):
        found = quiet(AttackSuite([attack], settings=settings()), classifier, examples)
        assert plain(found.rows["deepwordbug"]) == plain(base.rows["deepwordbug"])
    assert list(quiet(AttackSuite([mine], settings=settings()), logits, EXAMPLES).rows) == ["mine"]
    with own_randomness(0):  # which silences TextAttack
        built = mine(Victim(logits))
    found = quiet(AttackSuite([built], settings=settings()), classifier, examples)
    assert built.goal_function.model._classifier is logits  # and the user's attack is left alone
    assert len(found.rows["attack"]) == 6
    assert {row.outcome for row in found.rows["attack"]} & {"success"}


def test_targeted_attacks_want_their_class():
    def to_zero(victim):
        parts = textattack("attack_recipes").DeepWordBugGao2018.build(victim)
        goal = textattack("goal_functions").TargetedClassification(victim, target_class=0)
        return textattack().Attack(
            goal,
            parts.constraints + parts.pre_transformation_constraints,
            parts.transformation,
            parts.search_method,
        )

    examples = [("a good plot", 1), ("this is fine", 1)]
    report = quiet(
        AttackSuite([to_zero], settings=settings()),
        lambda t: logits(t) + np.array([1.2, 0]),
        examples,
    )
    assert "success" in outcomes(report.rows["to_zero"])
    there = quiet(AttackSuite([to_zero], settings=settings()), logits, [("a bad plot", 0)])
    assert outcomes(there.rows["to_zero"]) == ["failed"]
    assert there.rows["to_zero"][0].queries == 0
    assert all(row.found_predicted in (0, None) for row in report.rows["to_zero"])


def test_what_is_no_attack_on_a_class_is_refused():
    with pytest.raises(DataError, match="the goal of InputReductionFeng2018 is InputReduction"):
        AttackSuite(["InputReductionFeng2018"]).run(logits, EXAMPLES)
    with pytest.raises(DataError, match=r"no attack 'textfoler'.*Did you mean 'textfooler'"):
        AttackSuite(["textfoler"]).run(logits, EXAMPLES)
    with pytest.raises(DataError, match="two attacks are called 'pruthi'"):
        AttackSuite(["pruthi", "Pruthi2019"])
    with pytest.raises(DataError, match="needs allowed swaps"):
        AttackSuite(["a2t"])
    with pytest.raises(DataError, match="got int"):
        AttackSuite([3]).run(logits, EXAMPLES)


def test_missing_resources_are_named_before_the_victim_is_asked():
    victim = Counting()
    for name, message in (
        ("textfooler", r"'textfooler' lacks\n- counter-fitted word vectors.*\n- the Universal"),
        ("pwws", "robust-nlp resources install wordnet"),
        ("checklist", r"SequenceTagger as T; T\.load\('ner'\)"),
    ):
        with pytest.raises(DataError, match=message):
            AttackSuite(["deepwordbug", name]).run(victim, EXAMPLES)
    assert victim.rows == 0


def with_encoder(encode):
    """DeepWordBug under a constraint on sentences."""
    encoders = textattack("constraints.semantics.sentence_encoders")

    class Encoder(encoders.SentenceEncoder):
        def encode(self, sentences):
            return encode(sentences)

    def build(victim):
        parts = textattack("attack_recipes").DeepWordBugGao2018.build(victim)
        return textattack().Attack(
            parts.goal_function,
            [*parts.pre_transformation_constraints, Encoder(threshold=-1.0)],
            parts.transformation,
            parts.search_method,
        )

    return build


def test_sentences_are_encoded_once_and_together():
    batches = []

    def encode(sentences):
        batches.append(list(sentences))
        return np.array([[len(s), s.count("e"), 1.0] for s in sentences])

    suite = AttackSuite([with_encoder(encode)], settings=settings())
    quiet(suite, logits, EXAMPLES)
    everything = [sentence for batch in batches for sentence in batch]
    assert len(everything) == len(set(everything)) > 30
    assert max(map(len, batches)) > 15


def test_an_encoder_that_fails_is_named_before_anything_runs():
    def encode(sentences):
        raise OSError("no network")

    victim = Counting()
    with pytest.raises(DataError, match=r"'build' fails on a sentence .* OSError: no network"):
        AttackSuite([with_encoder(encode)]).run(victim, EXAMPLES)
    assert victim.rows == 0


def test_errors_of_textattack_are_outcomes(monkeypatch):
    kind = textattack("attack_recipes").DeepWordBugGao2018

    def build(victim):
        attack = kind.build(victim)
        inner = type(attack.transformation).__call__

        class Odd(type(attack.transformation)):
            def __call__(self, text, *args, **kwargs):
                if "awful" in text.text:
                    raise IndexError("odd text")
                return inner(self, text, *args, **kwargs)

        attack.transformation.__class__ = Odd
        return attack

    report = quiet(AttackSuite([build], settings=settings()), logits, EXAMPLES)
    row = report.rows["build"][2]
    assert (row.outcome, row.error) == ("error", "IndexError: odd text")
    assert outcomes(report.rows["build"]).count("error") == 1
    with pytest.raises(DataError, match=r"all 1 attacks ended in errors.*odd text"):
        AttackSuite([build]).run(logits, EXAMPLES[2:3])


@pytest.mark.parametrize("protected", ["first", "second"])
def test_the_protected_text_of_a_pair_stays(protected):
    tokenizer = tiny_tokenizer()
    classifier = HuggingFaceClassifier(
        tiny.tiny_model("Bert", tokenizer), tokenizer, protected=protected
    )
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    examples = own(classifier, pairs)
    report = quiet(AttackSuite(["deepwordbug"], settings=settings()), classifier, examples)
    won = [row for row in report.rows["deepwordbug"] if row.outcome == "success"]
    assert won
    for row in won:
        clean = row.pair if protected == "first" else row.text
        assert Levenshtein.distance(clean.split(), row.found.split()) == row.edits > 0
        pair = (row.text, row.found) if protected == "first" else (row.found, row.pair)
        assert Victim(classifier)([pair])[0].argmax() != row.label


def test_functions_of_pairs_keep_their_protected_side():
    base = CallableClassifier(
        lambda pairs: logits([second for _, second in pairs]), ["no", "yes"], protected="first"
    )
    examples = [((text, text), label) for text, label in EXAMPLES]
    report = quiet(AttackSuite(["deepwordbug"], settings=settings()), base, examples)
    alone = quiet(AttackSuite(["deepwordbug"], settings=settings()), logits, EXAMPLES)
    assert [row.found for row in report.rows["deepwordbug"]] == [
        row.found for row in alone.rows["deepwordbug"]
    ]
    assert "success" in outcomes(report.rows["deepwordbug"])


def test_a_folder_holds_rows_and_a_summary(tmp_path):
    split = Split(
        name="test",
        texts=TEXTS,
        labels=[label for _, label in EXAMPLES],
        label_names=["no", "yes"],
        content_hash="",
        description="reviews",
    )
    recipe = AttackRecipe(attacks=("deepwordbug",), check_examples=2, limit=4)
    report = run_attacks(logits, split, recipe, tmp_path, model="m")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["worst_case"]["examples"] == 4
    assert summary == json.loads(json.dumps(report.summary()))
    assert len(list((tmp_path / "rows").glob("part-000.jsonl"))) == 1


# --- smoothed classifiers ------------------------------------------------------------------------


def smoothed(scale=1.0, p_del=0.3, function=None):
    base = CallableClassifier(function or (lambda t: logits(t, scale)), ["no", "yes"])
    return SmoothedClassifier(base, RandomizedDeletion(p_del=p_del))


NOISY = {"search_votes": 16, "judge_votes": 400, "check_examples": 2}


def test_success_needs_the_judge():
    victim = smoothed()
    report = quiet(AttackSuite(["deepwordbug"], settings=settings(**NOISY)), victim, EXAMPLES)
    rows = report.rows["deepwordbug"]
    won = [row for row in rows if row.outcome == "success"]
    assert won
    for row in won:
        shares = victim.vote_shares([row.found], 4_000, seed=99)[0]
        assert shares.argmax() == row.found_predicted != row.label
        assert row.flips >= 1
    for row in rows:
        if row.attacked:
            assert row.forwards == 16 * row.asked + row.judge_forwards
            texts = 1 + row.flips  # a first look at 160 votes, and where they leave a doubt all
            assert row.judge_forwards in {160 * (texts - n) + 400 * n for n in range(texts + 1)}
            assert row.flips <= 4
            assert 0.0 <= row.null_flip <= 1.0
    (found,) = (f for f in report.findings if f.name == "judged")
    assert found.values["confirmed"] == len(won)
    assert "stochastic" not in {finding.name for finding in report.findings}
    assert {"transfer", "saturation"} <= {finding.name for finding in report.findings}


def test_smoothed_rows_do_not_depend_on_width_or_budget():
    one = quiet(
        AttackSuite(["deepwordbug"], settings=settings(**NOISY, width=1)), smoothed(), EXAMPLES
    )
    all_ = quiet(AttackSuite(["deepwordbug"], settings=settings(**NOISY)), smoothed(), EXAMPLES)
    assert plain(one.rows["deepwordbug"]) == plain(all_.rows["deepwordbug"])
    assert one.findings == all_.findings
    limit = sorted(row.forwards for row in one.rows["deepwordbug"])[2]
    few = settings(**NOISY, max_forwards=limit)
    capped = quiet(AttackSuite(["deepwordbug"], settings=few), smoothed(), EXAMPLES)
    rows = zip(plain(one.rows["deepwordbug"]), plain(capped.rows["deepwordbug"]), strict=True)
    for before, after in rows:
        assert after.forwards <= limit
        assert after == before or after.outcome == "budget"
        assert after == before or before.forwards + 400 > limit  # a verdict may take all its votes
        assert after != before or before.forwards <= limit
    assert "budget" in outcomes(capped.rows["deepwordbug"])


def test_a_doubtful_find_is_uncertain(monkeypatch):
    ask = VotingJudge.judge

    def doubtful(self, texts):
        found = zip(texts, ask(self, texts), strict=True)
        return [v if text in TEXTS else v._replace(predicted=None) for text, v in found]

    monkeypatch.setattr(VotingJudge, "judge", doubtful)
    report = quiet(AttackSuite(["deepwordbug"], settings=settings(**NOISY)), smoothed(), EXAMPLES)
    rows = report.rows["deepwordbug"]
    assert set(outcomes(rows)) == {"uncertain", "failed"}
    for row in rows:
        assert row.found is None
        assert (row.outcome == "uncertain") == (row.flips > 0)
        assert row.flips <= 4
    worst = report.summary()["worst_case"]
    doubts = worst["outcomes"]["uncertain"] / 6
    gap = worst["robust_accuracy_lenient"]["value"] - worst["robust_accuracy"]["value"]
    assert gap == pytest.approx(doubts)
    assert worst["in_search_accuracy"]["value"] == pytest.approx(1 - doubts)


def test_a_refuted_find_is_a_failure(monkeypatch):
    ask = VotingJudge.judge

    def stubborn(self, texts):
        sure = dict(EXAMPLES)
        found = zip(texts, ask(self, texts), strict=True)
        return [v if text in sure else v._replace(predicted=0) for text, v in found]

    monkeypatch.setattr(VotingJudge, "judge", stubborn)
    bad = [example for example in EXAMPLES if example[1] == 0]
    report = quiet(AttackSuite(["deepwordbug"], settings=settings(**NOISY)), smoothed(), bad)
    assert set(outcomes(report.rows["deepwordbug"])) == {"failed"}
    assert max(row.flips for row in report.rows["deepwordbug"]) > 0


def test_smoothed_models_are_attacked(tiny_classifier_dir):
    victim = SmoothedClassifier.from_pretrained(
        tiny_classifier_dir, mechanism=RandomizedDeletion(p_del=0.3), device="cpu"
    )
    examples = [(text, int(victim.vote_shares([text], 500)[0].argmax())) for text in TEXTS[2:4]]
    few = settings(search_votes=8, judge_votes=200, check_examples=1)
    report = quiet(AttackSuite(["deepwordbug"], settings=few), victim, examples)
    assert set(outcomes(report.rows["deepwordbug"])) <= {
        "success",
        "failed",
        "skipped",
        "uncertain",
    }
    assert report.summary()["search_sees"] == "probabilities"
    assert re.match("The victim is randomized", report.findings[1].words)
    assert isinstance(report.rows["deepwordbug"][0].text, str)
    assert OrderedDict(report.checks).keys() >= {"margins", "base classifier"}
