"""Rows of a training set: copies, environments, and copies that are made once."""

import pickle
from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from robust_nlp.augmentation import (
    AugmentedRows,
    Copies,
    Crop,
    DeleteImportantWords,
    DeleteWords,
    EnvironmentRows,
    Environments,
    TextAttackAugmenter,
    Typos,
    augment,
    augment_rows,
)
from robust_nlp.augmentation.ledger import read_results, work_through
from robust_nlp.errors import DataError, RecipeError
from robust_nlp.settings import build, plain

WORDS = ["a", "good", "film", "with", "a", "clever", "story", "and", "brilliant", "people"]
ROWS = [
    {
        "text": " ".join(WORDS[i % 3 :]),
        "label": i % 2,
        "example_id": i,
        "domain": "books" if i < 4 else "music",
    }
    for i in range(7)
]
PAIRS = [{**row, "pair": "is it a good story"} for row in ROWS]
HALF = DeleteWords(rate=0.5)


def texts(rows):
    return [row["text"] for row in rows]


# --- copies --------------------------------------------------------------------------------------


def test_copies_keep_everything_of_their_source_but_text_and_id():
    rows = AugmentedRows(ROWS, Copies(augmenters=[HALF], copies=2), seed=5)
    assert len(rows) == 21
    assert sorted(row["example_id"] for row in rows) == list(range(21))
    for i, row in enumerate(rows):
        source = ROWS[i // 3]
        kept = {name: row[name] for name in ("label", "domain")}
        assert kept == {name: source[name] for name in ("label", "domain")}
        assert row["source_id"] == source["example_id"]
        assert row["augmented"] is (i % 3 > 0)
        assert row["pair"] is None
        if i % 3 == 0:
            assert row["text"] == source["text"]
        else:
            expected = augment(HALF, source["text"], seed=5, example=i // 3, copy=i % 3)
            assert row["text"] == expected
    assert set(ROWS[0]) == {"text", "label", "example_id", "domain"}  # nothing written into them


def test_texts_change_with_the_epoch_and_come_back_with_it():
    rows = AugmentedRows(ROWS, Copies(augmenters=[HALF]))
    first = texts(rows)
    rows.epoch = 1
    assert texts(rows) != first
    assert texts(rows)[::2] == first[::2]
    rows.epoch = 0
    assert texts(rows) == first


def test_a_copy_draws_one_of_the_augmenters_in_each_epoch():
    short, long = Crop(shortest=0.1, longest=0.1), Crop(shortest=0.5, longest=0.5)
    rows = AugmentedRows(ROWS, Copies(augmenters=[short, long]))
    lengths = Counter()
    for epoch in range(100):
        rows.epoch = epoch
        lengths.update(len(row["text"].split()) for row in rows if row["source_id"] == 0)
    assert lengths[1] + lengths[5] == 100
    assert 25 < lengths[1] < 75


def test_copies_are_not_copied_again_and_ids_stay_unique():
    copied = augment_rows(ROWS, Typos(rate=0.5))
    rows = AugmentedRows(ROWS + copied, Copies(augmenters=[HALF]))
    assert len(rows) == 21
    assert len({row["example_id"] for row in rows}) == 21
    assert sum(row["augmented"] for row in rows) == 14


@pytest.mark.parametrize(("protected", "open_column"), [("second", "text"), ("first", "pair")])
def test_the_protected_text_of_a_pair_stays(protected, open_column):
    other = "pair" if open_column == "text" else "text"
    for rows in (
        AugmentedRows(PAIRS, Copies(augmenters=[HALF]), protected=protected),
        augment_rows(PAIRS, HALF, protected=protected),
        EnvironmentRows(
            PAIRS, Environments(perturbations={"a": HALF, "b": None}), protected=protected
        ),
    ):
        for row in rows:
            assert row[other] == PAIRS[row["source_id"]][other]
        assert any(row[open_column] != PAIRS[row["source_id"]][open_column] for row in rows)


def test_worker_processes_see_the_epoch_change():
    rows = AugmentedRows(ROWS, Copies(augmenters=[HALF]))
    loader = DataLoader(
        rows, batch_size=4, num_workers=1, persistent_workers=True, collate_fn=texts
    )
    seen = []
    for epoch in (0, 1):
        rows.epoch = epoch
        seen.append([text for batch in loader for text in batch])
        assert seen[-1] == texts(rows)
    assert seen[0] != seen[1]


def test_rows_survive_pickling():
    rows = AugmentedRows(ROWS, Copies(augmenters=[HALF]), seed=2)
    rows.epoch = 3
    assert texts(pickle.loads(pickle.dumps(rows))) == texts(rows)


def test_words_count_alike_until_importance_is_set():
    rows = AugmentedRows(ROWS, Copies(augmenters=[DeleteImportantWords(rate=0.2, sharpness=6.0)]))
    assert [row["source_id"] for row in rows.sources] == list(range(7))
    before = texts(rows)[1::2]
    spared = {i: np.array([-1.0] + [0.0] * (len(t.split()) - 1)) for i, t in enumerate(texts(ROWS))}

    def first_words_lost():
        lost = 0
        for epoch in range(60):
            rows.epoch = epoch
            lost += sum(
                row["text"].split()[0] != ROWS[row["source_id"]]["text"].split()[0]
                for row in rows
                if row["augmented"]
            )
        return lost / (60 * 7)

    assert first_words_lost() == pytest.approx(0.2, abs=0.08)
    rows.set_importance(spared)
    assert first_words_lost() < 0.02
    rows.epoch = 0
    assert texts(rows)[1::2] != before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "expected training rows; got none"),
        ([{"text": "a", "label": 0}], "row 0 lacks example_id"),
        ([{"text": None, "label": 0, "example_id": 0}], "lacks a text that is text"),
        ([ROWS[0], ROWS[0]], "same example_id"),
        ([{**ROWS[0], "example_id": "x"}], "whole number of at least 0; got 'x'"),
    ],
)
def test_bad_rows_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        AugmentedRows(rows, Copies(augmenters=[HALF]))


# --- environments --------------------------------------------------------------------------------

ENVIRONMENTS = {"clean": None, "deleted": HALF, "typos": Typos(rate=0.5)}


def test_every_text_is_in_every_environment():
    rows = EnvironmentRows(ROWS, Environments(perturbations=ENVIRONMENTS), seed=1)
    assert Counter(row["domain"] for row in rows) == dict.fromkeys(ENVIRONMENTS, 7)
    assert len({row["example_id"] for row in rows}) == 21
    for row in rows:
        source = ROWS[row["source_id"]]
        assert row["label"] == source["label"]
        assert row["augmented"] is False  # these rows are the environment: they count
        perturbation, key = ENVIRONMENTS[row["domain"]], {"seed": 1, "example": row["source_id"]}
        if perturbation is None:
            assert row["text"] == source["text"]
        else:
            assert row["text"] == augment(perturbation, source["text"], copy=row["domain"], **key)
    before = texts(rows)
    rows.epoch = 1
    changed = {row["domain"] for row, text in zip(rows, before, strict=True) if row["text"] != text}
    assert changed == {"deleted", "typos"}


def test_environments_cross_with_domains():
    rows = EnvironmentRows(ROWS, Environments(perturbations=ENVIRONMENTS, mode="cross"))
    counts = Counter(row["domain"] for row in rows)
    assert counts == {f"{d}/{e}": n for d, n in (("books", 4), ("music", 3)) for e in ENVIRONMENTS}
    without_domains = [{k: v for k, v in row.items() if k != "domain"} for row in ROWS]
    assert len(EnvironmentRows(without_domains, Environments(perturbations=ENVIRONMENTS))) == 21
    with pytest.raises(DataError, match="row 0 has no domain to cross with"):
        EnvironmentRows(without_domains, Environments(perturbations=ENVIRONMENTS, mode="cross"))


def test_each_text_in_one_environment_of_equal_sizes():
    settings = Environments(perturbations=ENVIRONMENTS, assign="one")
    rows = EnvironmentRows(ROWS, settings, seed=1)
    assert [row["source_id"] for row in rows] == list(range(7))
    assert sorted(Counter(row["domain"] for row in rows).values()) == [2, 2, 3]
    assert len({row["example_id"] for row in rows}) == 7
    domains = [row["domain"] for row in rows]
    rows.epoch = 1
    assert [row["domain"] for row in rows] == domains
    assert [row["domain"] for row in EnvironmentRows(ROWS, settings, seed=2)] != domains


# --- settings ------------------------------------------------------------------------------------


def test_settings_are_read_from_a_recipe():
    copies = build(Copies, {"augmenters": [{"kind": "typos"}, {"kind": "crop"}], "copies": 2})
    assert copies == Copies(augmenters=[Typos(), Crop()], copies=2)
    assert build(Copies, plain(copies)) == copies
    values = {"perturbations": {"clean": None, "typos": {"kind": "typos", "rate": 0.2}}}
    environments = build(Environments, values)
    assert environments == Environments(perturbations={"clean": None, "typos": Typos(rate=0.2)})
    assert build(Environments, plain(environments)) == environments


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (Copies, {"augmenters": []}, "one augmenter or more"),
        (Copies, {"augmenters": [{"kind": "typos"}], "copies": 0}, "copies must be at least 1"),
        (Copies, {"augmenters": [{"kind": "typos"}], "every": 0}, "every must be at least 1"),
        (Copies, {"augmenters": [{"kind": "typos"}, {"kind": "crop", "by": 1}]}, "augmenters.1.by"),
        (Copies, {"augmenters": [{"kind": "textattack", "name": "eda"}]}, "too slow.*augment_rows"),
        (Environments, {"perturbations": {"clean": None}}, "two perturbations or more"),
        (
            Environments,
            {"perturbations": {"clean": None, "typos": {"kind": "typos", "rate": 2}}},
            "perturbations.typos: Typos needs",
        ),
        (
            Environments,
            {"perturbations": {"clean": None, "a": {"kind": "typos"}}, "mode": "mix"},
            "'replace' or 'cross'",
        ),
    ],
)
def test_bad_settings_are_refused(settings, values, message):
    with pytest.raises(RecipeError, match=message):
        build(settings, values)


# --- copies that are made once -------------------------------------------------------------------


class Counting(Typos):
    """Typos that count the texts they rewrite."""

    calls = 0

    def rewrite(self, *args):
        type(self).calls += 1
        return super().rewrite(*args)


@pytest.fixture
def counting():
    Counting.calls = 0
    return Counting(rate=0.5)


def test_copies_made_once_are_those_of_their_key(tmp_path, counting):
    rows = augment_rows(ROWS, counting, copies=2, seed=4, folder=tmp_path)
    assert len(rows) == Counting.calls == 14
    for row, (i, copy) in zip(rows, [(i, c) for i in range(7) for c in (1, 2)], strict=True):
        key = {"seed": 4, "example": i, "copy": copy}
        assert row["text"] == augment(Typos(rate=0.5), ROWS[i]["text"], **key)
        assert (row["source_id"], row["augmented"]) == (i, True)
        assert (row["label"], row["domain"]) == (ROWS[i]["label"], ROWS[i]["domain"])
    assert augment_rows(ROWS, counting, copies=2, seed=4) == rows


def test_copies_on_disk_are_not_made_again_unless_something_changed(tmp_path, counting):
    rows = augment_rows(ROWS, counting, folder=tmp_path)
    assert augment_rows(ROWS[::-1], counting, folder=tmp_path) == rows[::-1]
    assert Counting.calls == 7
    augment_rows(ROWS, counting, seed=1, folder=tmp_path)
    assert Counting.calls == 14
    augment_rows(ROWS, Counting(rate=0.4), folder=tmp_path)
    assert Counting.calls == 21
    augment_rows([{**ROWS[0], "text": "another text"}, *ROWS[1:]], counting, folder=tmp_path)
    assert Counting.calls == 22


def test_copies_cannot_depend_on_a_classifier():
    with pytest.raises(ValueError, match="depends on the current classifier"):
        augment_rows(ROWS, DeleteImportantWords())
    with pytest.raises(ValueError, match="copies must be at least 1"):
        augment_rows(ROWS, HALF, copies=0)


def test_slow_augmenters_are_only_for_copies_made_once():
    with pytest.raises(ValueError, match="too slow"):
        Environments(perturbations={"clean": None, "eda": TextAttackAugmenter(name="eda")})


# --- the ledger ----------------------------------------------------------------------------------

KEYS = [f"key-{i}" for i in range(10)]


class Work:
    """Doubles positions, stops at one if asked to, and remembers what it did."""

    def __init__(self, stop_at=None):
        self.done, self.stop_at = [], stop_at

    def __call__(self, positions):
        if self.stop_at in positions:
            raise KeyboardInterrupt
        self.done += positions
        return [{"value": 2 * i} for i in positions]


class Process:
    """One of two processes that do not really wait for each other."""

    num_processes = 2

    def __init__(self, index):
        self.process_index = index

    def wait_for_everyone(self):
        pass


def values(results):
    return [result["value"] for result in results]


ALL = list(range(0, 20, 2))


@pytest.mark.parametrize("chunk", [1, 3])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, chunk):
    first, second = Work(stop_at=7), Work()
    with pytest.raises(KeyboardInterrupt):
        work_through(KEYS, first, folder=tmp_path, name="double", chunk=chunk)
    assert values(work_through(KEYS, second, folder=tmp_path, name="double", chunk=chunk)) == ALL
    assert first.done == list(range(7 - 7 % chunk))
    assert second.done == list(range(7 - 7 % chunk, 10))


def test_a_line_that_was_cut_off_is_written_again(tmp_path):
    work_through(KEYS, Work(), folder=tmp_path, name="double")
    (part,) = tmp_path.iterdir()
    whole = part.read_bytes()
    part.write_bytes(whole[:-5])
    again = Work()
    assert values(work_through(KEYS, again, folder=tmp_path, name="double")) == ALL
    assert again.done == [9]
    assert part.read_bytes() == whole


def test_processes_share_the_work_and_both_return_all(tmp_path):
    alone = values(work_through(KEYS, Work(), folder=None, name="double"))
    second, first = Work(), Work()
    share = {"folder": tmp_path, "name": "double"}
    with pytest.raises(DataError, match=r"5 of 10 results are missing.*another process"):
        work_through(KEYS, second, processes=Process(1), **share)
    assert values(work_through(KEYS, first, processes=Process(0), **share)) == alone == ALL
    assert sorted(first.done + second.done) == list(range(10))
    assert len(list(tmp_path.iterdir())) == 2
    idle = Work()
    assert values(work_through(KEYS, idle, processes=Process(1), **share)) == ALL
    assert values(work_through(KEYS[::-1], idle, **share)) == ALL[::-1]  # now one process
    assert idle.done == []


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "part-000.jsonl").write_text("[1]\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds a line that is no result"):
        read_results(tmp_path)
