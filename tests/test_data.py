"""Splits: what is read from each source, and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from robust_nlp.data import load_split
from robust_nlp.errors import DataError
from robust_nlp.labels import class_indices
from robust_nlp.recipe import DataRecipe

TEXTS = ["a fine film", "", 'bad, "very" bad', "two\nlines", "ünïcode 😀"]
LABELS = [1, 0, 0, 1, 1]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


#: Texts of one letter each.
LETTERS = "abcdefghij"


def write(folder: Path, ending: str, rows=ROWS) -> str:
    """Write rows as the ending of the name says."""
    path = folder / f"test.{ending}"
    if ending == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return str(path)
    if ending.startswith("csv"):
        quoted = ['"' + row["text"].replace('"', '""') + f'",{row["label"]}' for row in rows]
        content = "\n".join(["text,label", *quoted]) + "\n"
    else:
        content = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    data = content.encode()
    path.write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)
    return str(path)


def read(path, split="test", label_names=None, **columns):
    return load_split(
        DataRecipe(files={"test": str(path)}, **columns), split, label_names=label_names
    )


@pytest.mark.parametrize("ending", ["jsonl", "json", "jsonl.gz", "csv", "csv.gz", "parquet"])
def test_all_formats_hold_the_same_split(tmp_path, ending):
    split = read(write(tmp_path, ending))
    assert (split.texts, split.labels) == (TEXTS, LABELS)
    assert split.content_hash == read(write(tmp_path, "jsonl")).content_hash
    assert len(split) == len(TEXTS)


def test_a_csv_of_long_texts_is_read(tmp_path):
    rows = [{"text": "word " * 300_000, "label": 0}, {"text": "short", "label": 1}]
    assert read(write(tmp_path, "csv", rows)).texts == [row["text"] for row in rows]


def test_the_text_na_is_no_missing_value(tmp_path):
    rows = [{"text": "NA", "label": 0}, {"text": "null", "label": 1}]
    assert read(write(tmp_path, "csv", rows)).texts == ["NA", "null"]


def test_the_hash_tells_contents_apart(tmp_path):
    hashes = set()
    for text, label in (("a", 0), ("b", 0), ("a", 1)):
        rows = [{"text": text, "label": label}]
        path = write(tmp_path, "jsonl", rows)
        hashes.add(read(path, label_names=["no", "yes"]).content_hash)
    assert len(hashes) == 3


def test_the_hash_does_not_depend_on_how_labels_are_written(tmp_path):
    numbers = read(write(tmp_path, "jsonl"), label_names=["no", "yes"])
    rows = [{**row, "label": ["no", "yes"][row["label"]]} for row in ROWS]
    names = read(write(tmp_path, "jsonl", rows), label_names=["no", "yes"])
    assert numbers.content_hash == names.content_hash


def test_pairs_of_texts_are_read_from_two_columns(tmp_path):
    rows = [{"premise": "it rains", "hypothesis": "it is wet", "label": 0}]
    path = write(tmp_path, "jsonl", rows)
    split = read(path, text="premise", pair="hypothesis")
    assert split.texts == [("it rains", "it is wet")]


def test_data_without_labels_are_read_where_the_recipe_says_so(tmp_path):
    split = read(write(tmp_path, "jsonl", [{"text": "alone"}]), label=None)
    assert split.labels is None
    assert split.label_names is None


def test_the_embedded_reviews_are_read():
    split = load_split(DataRecipe(path="embedded:reviews"), "test")
    assert len(split) > 100
    assert set(split.labels) == {0, 1}


def test_a_data_set_of_the_hub_is_read_with_its_classes(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["pos", "neg"])})
    rows = Dataset.from_dict({"text": ["good", "bad"], "label": [0, 1]}, features=features)
    DatasetDict({"test": rows})["test"].to_parquet(tmp_path / "test.parquet")
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n"
        "    dtype:\n      class_label:\n        names:\n          '0': pos\n          '1': neg\n"
        "---\n",
        encoding="utf-8",
    )
    data = DataRecipe(path=str(tmp_path))
    assert load_split(data, "test").label_names == ["pos", "neg"]
    # The classifier counts its classes the other way round: the names decide.
    assert load_split(data, "test", label_names=["neg", "pos"]).labels == [1, 0]


def test_a_data_set_that_cannot_be_loaded_is_named():
    with pytest.raises(DataError, match=r"cannot load the data set 'nobody/nothing'.*data\.files"):
        load_split(DataRecipe(path="nobody/nothing"), "test")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": "txt"}, r"has no column 'txt'; available: text, label\. Did you mean 'text'\?"),
        ({"label": "labels"}, r"no column 'labels'.*mean 'label'\? For data without .*label: null"),
        ({"pair": "other"}, r"has no column 'other'"),
    ],
)
def test_an_unknown_column_is_refused(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, "jsonl"), **columns)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("[:3]", "abc"), ("[3:5]", "de"), ("[-20%:]", "ij"), ("[50%:]", "fghij"), ("[7:99]", "hij")],
)
def test_some_rows_of_a_split_are_read(tmp_path, rows, expected):
    path = write(tmp_path, "jsonl", [{"text": c, "label": i // 5} for i, c in enumerate(LETTERS)])
    found = read(path, split=f"test{rows}")
    assert "".join(found.texts) == expected
    assert found.labels == [LETTERS.index(c) // 5 for c in expected]
    assert found.label_names == ["0", "1"]  # those of all rows
    assert found.name == f"test{rows}"
    assert found.description.endswith(f"rows {rows}")
    alone = write(tmp_path, "csv", [{"text": c, "label": LETTERS.index(c) // 5} for c in expected])
    assert read(alone, label_names=["0", "1"]).content_hash == found.content_hash


def test_rows_of_splits_with_odd_names_are_read(tmp_path):
    data = DataRecipe(files={"dev-matched 2": write(tmp_path, "jsonl")})
    assert load_split(data, "dev-matched 2[1:3]").texts == TEXTS[1:3]


@pytest.mark.parametrize("rows", ["[a]", "[:", "[:2]+dev", "[3]", "[:200%]"])
def test_rows_that_mean_nothing_are_refused(tmp_path, rows):
    with pytest.raises(DataError, match=r"written like train\[:8000\].*of 5 rows"):
        read(write(tmp_path, "jsonl"), split=f"test{rows}")


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"rows \[5:\] \(split 'test\[5:\]'\) has no rows"):
        read(write(tmp_path, "jsonl"), split="test[5:]")
    with pytest.raises(DataError, match="no split 'tets'"):
        read(write(tmp_path, "jsonl"), split="tets[:1]")


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no split 'tets'; available: test\. Did you mean 'test'"):
        read(write(tmp_path, "jsonl"), split="tets")
    with pytest.raises(DataError, match="embedded:reviews has no split 'dev'; available: test, tr"):
        load_split(DataRecipe(path="embedded:reviews"), "dev")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.txt", b"", r"expected a file that ends in \.jsonl, \.json, \.csv, \.parquet"),
        ("a.parquet.gz", b"", "expected a file that ends in"),
        ("a.jsonl", b'{"text": "a"\n', "line 1 of .*a.jsonl is not JSON"),
        ("a.jsonl", b'\n["a"]\n', "line 2 of .*expected one JSON object a line"),
        ("a.jsonl", b"\xff\xfe", "cannot read .*a.jsonl as jsonl"),
        ("a.jsonl", b"", "has no column 'text'; available: none"),
        ("a.csv", b"", "cannot read .*a.csv as csv"),
        ("a.csv", b"text,label\na,0,9\n", "cannot read .*a.csv as csv.*Expected 2 columns, got 3"),
        ("a.csv", b"text,label\n", "has no rows"),
        ("a.jsonl.gz", b"not packed", "cannot read .*a.jsonl.gz as jsonl"),
        ("a.parquet", b"not parquet", "cannot read .*a.parquet as parquet"),
        ("a.jsonl", b'{"text": null, "label": 0}', "row 0 of column 'text' .* got nothing"),
        ("a.jsonl", b'{"text": 5, "label": 0}', r"row 0 of column 'text' .* got 5 \(int\)"),
        ("a.jsonl", b'{"text": "\\ud800", "label": 0}', "row 0 .* half of a surrogate pair"),
        ("a.jsonl", b'{"text": "a", "label": null}', "row 0 .* has no label.*label: null"),
        ("a.jsonl", b'{"text": "a", "label": NaN}', "row 0 .* has no label"),
        ("a.csv", b"text,label\na,\n", "row 0 .* has no label"),
        ("a.jsonl", b'{"text": "a", "label": [0]}', r"expected a class index or .*; got \[0\]"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*nowhere\.jsonl"):
        read(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([0, 1, 1], ["no", "yes"], [0, 1, 1]),
        ([0.0, 1.0], ["no", "yes"], [0, 1]),
        (["0", "1"], ["no", "yes"], [0, 1]),
        ([False, True], ["no", "yes"], [0, 1]),
        (["yes", "no"], ["no", "yes"], [1, 0]),
        (["1", "5"], ["1", "2", "5"], [0, 2]),
        ([1, 5.0], ["1", "2", "5"], [0, 2]),
    ],
    ids=["indices", "floats", "digits", "booleans", "names", "stars-as-text", "stars"],
)
def test_labels_become_class_indices(values, names, expected):
    assert class_indices(values, "here", names=names) == (expected, names)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([1, 0, 2], ["0", "1", "2"]),
        (["b", "a", "b"], ["a", "b"]),
        (["10", "9"], ["9", "10"]),
        ([False, True], ["0", "1"]),
    ],
    ids=["indices", "names", "stars", "booleans"],
)
def test_classes_are_named_as_the_labels_name_them(values, names):
    assert class_indices(values, "here")[1] == names


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([0, 2], ["no", "yes"], r"^row 1 of here: expected one of .* no, yes, or 0 to 1; got 2\.$"),
        ([0, -1], ["no", "yes"], r"got -1\. A label of -1 often stands for a hidden one"),
        ([0.5], ["no", "yes"], r"row 0 of here: .*; got 0\.5"),
        (["yess"], ["no", "yes"], r"got 'yess'\. Did you mean 'yes'\?"),
        ([0], ["1", "2"], r"expected one of the classes 1, 2; got 0\.$"),
        ([0, "yes"], None, "mixes names of classes with numbers"),
        ([0.5, 1.5], None, "has fractions"),
    ],
)
def test_a_label_that_is_no_class_is_refused(values, names, message):
    with pytest.raises(DataError, match=message):
        class_indices(values, "here", names=names)


def domain_file(tmp_path):
    rows = [("a", 0, "books"), ("b", 1, "dvd"), ("c", 0, None), ("d", 1, "books"), ("e", 0, "")]
    lines = [json.dumps({"text": t, "label": y, "domain": d}) for t, y, d in rows]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return DataRecipe(files={"train": str(path)}, domain="domain")


def test_domains_are_read_and_chosen(tmp_path):
    split = load_split(domain_file(tmp_path), "train")
    assert split.domains == ["books", "dvd", None, "books", None]
    books = split.only(["books"])
    assert (books.texts, books.labels, books.domains) == (["a", "d"], [0, 1], ["books"] * 2)
    rest = split.without(["books"])
    assert (rest.texts, rest.domains) == (["b", "c", "e"], ["dvd", None, None])
    assert len({split.content_hash, books.content_hash, rest.content_hash}) == 3
    assert "without the domains books" in rest.description


def test_domains_are_part_of_the_content(tmp_path):
    recipe = domain_file(tmp_path)
    with_domains = load_split(recipe, "train")
    without = load_split(dataclasses.replace(recipe, domain=None), "train")
    assert without.domains is None
    assert with_domains.content_hash != without.content_hash


def test_domain_numbers_are_names(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("text,label,domain\na,0,3\nb,1,4\nc,1,\n")
    split = load_split(DataRecipe(files={"train": str(path)}, domain="domain"), "train")
    assert split.domains == ["3", "4", None]


def test_unknown_domains_are_named(tmp_path):
    recipe = domain_file(tmp_path)
    split = load_split(recipe, "train")
    with pytest.raises(DataError, match=r"no domain 'book'; available: books, dvd.*books"):
        split.without(["book"])
    with pytest.raises(DataError, match="has no rows"):
        split.only(["books"]).without(["books"])
    with pytest.raises(DataError, match="has no domains"):
        load_split(dataclasses.replace(recipe, domain=None), "train").only(["books"])
    with pytest.raises(DataError, match="no column 'domian'"):
        load_split(dataclasses.replace(recipe, domain="domian"), "train")
    with pytest.raises(ValueError, match="say with `domain`"):
        DataRecipe(path="some/data", hold_out=("books",))
