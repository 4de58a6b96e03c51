"""What the README, the guides and the recipes say can be run, and what they name is there."""

from __future__ import annotations

import importlib
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from attack_victims import attack_data  # noqa: F401
from typer.main import get_command
from typer.testing import CliRunner

from robust_nlp.cli import app
from robust_nlp.recipe import load_recipe, recipe_from_dict
from robust_nlp.settings import from_yaml, override

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "recipes" / "README.md", *sorted(ROOT.glob("docs/*.md"))]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
INLINE = re.compile(r"`([^`]+)`")

#: What a guide leaves out of a recipe.
REST = {
    "name": "guide",
    "model": {"base": "embedded:minilm"},
    "data": {"path": "embedded:reviews"},
    "mechanism": {"kind": "randomized_deletion", "p_del": 0.9},
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    return FENCED.sub("", text_of(page))


def blocks(language: str) -> list:
    found = [
        pytest.param(page, block, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, (kind, block) in enumerate(FENCED.findall(text_of(page)))
        if kind == language
    ]
    assert len({param.values[0] for param in found}) > 1, f"few pages have a {language} block"
    return found


def spans(page: Path) -> list[str]:
    """Return what stands between backticks, and the lines of a shell."""
    shell = [body for kind, body in FENCED.findall(text_of(page)) if kind in ("bash", "console")]
    lines = [line.partition(" #")[0] for body in shell for line in body.splitlines()]
    return [" ".join(span.split()) for span in INLINE.findall(prose_of(page))] + lines


def options_of(command) -> set[str]:
    return {"--help", *(name for option in command.params for name in option.opts)}


@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_python_runs(page, block, capsys, tmp_path, monkeypatch):
    if "import textattack" in block and find_spec("textattack") is None:
        pytest.skip("TextAttack is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, page.name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(("page", "block"), blocks("yaml"))
def test_yaml_is_a_recipe_or_a_part_of_one(page, block, tmp_path):
    if page.name == "README.md":
        path = tmp_path / "recipe.yaml"
        path.write_text(block, encoding="utf-8")
        load_recipe(path)
    else:
        recipe_from_dict({**REST, **from_yaml(block, page.name)})


@every_page
def test_what_a_console_shows_is_what_it_shows(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")
    for kind, block in FENCED.findall(text_of(page)):
        if kind == "console":
            asked, _, shown = block.partition("\n")
            assert asked.startswith("$ robust-nlp "), asked
            given = CliRunner().invoke(app, shlex.split(asked)[2:]).output
            assert [line.rstrip() for line in given.splitlines()] == shown.splitlines(), asked


@every_page
def test_commands_and_their_options_exist(page):
    program = get_command(app)
    every = {name for command in program.commands.values() for name in options_of(command)}
    for span in spans(page):
        if span.startswith("--"):
            assert span.split()[0] in every, span
        for said in re.findall(r"(?:^|[\s$(])robust-nlp ([a-z].*)", span):
            command, words = program, said.split()
            while words and hasattr(command, "commands"):
                assert words[0] in command.commands, said
                command = command.commands[words.pop(0)]
            named = {word.strip("[]()").partition("=")[0] for word in words}
            unknown = {name for name in named if name.startswith("-")} - options_of(command)
            assert not unknown, f"{said}: {unknown}"


@every_page
def test_entries_that_a_command_replaces_exist(page):
    for entry in re.findall(r"--set ([\w.]+=[^\s`]+)", text_of(page)):
        values = dict(REST)
        override(values, entry)
        recipe_from_dict(values)


@every_page
def test_names_in_the_package_exist(page):
    for name in re.findall(r"`(robust_nlp(?:\.\w+)+)", prose_of(page)):
        parts = name.split(".")
        for depth in range(len(parts), 0, -1):
            if find_spec(".".join(parts[:1])) and _module(".".join(parts[:depth])):
                break
        found = importlib.import_module(".".join(parts[:depth]))
        for part in parts[depth:]:
            assert hasattr(found, part), name
            found = getattr(found, part)


def _module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


@every_page
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", prose_of(page)):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose_of(there), re.M)
            assert anchor in [slug(heading) for heading in headings], f"{target}#{anchor}"


def slug(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@every_page
def test_scripts_and_files_of_the_package_that_pages_name_are_there(page):
    for name in re.findall(
        r"\b(?:scripts|recipes|tests|benchmarks|examples)/[\w/]+\.\w+", text_of(page)
    ):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\brobust_nlp/[\w/]+\.(?:py|md)", text_of(page)):
        assert (ROOT / name).exists(), name


@every_page
def test_no_placeholder_is_left(page):
    assert not re.findall(r"\b[A-Z]+_(?:OUTPUT|TABLE)\b|TODO|FIXME", text_of(page))


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/**/*.yaml")), ids=lambda p: p.name)
def test_every_recipe_of_the_project_is_one(path):
    assert load_recipe(path).name


def test_the_quickstart_recipe_is_plain_yaml_with_the_embedded_data():
    text = (ROOT / "robust_nlp" / "resources" / "quickstart.yaml").read_text(encoding="utf-8")
    assert from_yaml(text, "quickstart")["data"] == {"path": "embedded:reviews"}
