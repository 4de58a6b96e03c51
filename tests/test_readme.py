"""What the README and the recipes say can be run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robust_nlp.recipe import load_recipe
from robust_nlp.settings import from_yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    assert found, f"the README has no {language} block"
    return found


@pytest.mark.parametrize("block", blocks("python"))
def test_python_of_the_readme_runs(block, capsys):
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("block", blocks("yaml"))
def test_recipes_of_the_readme_are_recipes(block, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(block, encoding="utf-8")
    load_recipe(path)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("**/*.yaml")), ids=lambda p: p.name)
def test_every_recipe_of_the_project_is_one(path):
    assert load_recipe(path).name


def test_files_and_folders_that_the_readme_names_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    for script in re.findall(r"scripts/\w+\.(?:sh|py)", README):
        assert (ROOT / script).exists(), script


def test_the_readme_holds_no_placeholder():
    assert not re.findall(r"\b[A-Z]+_(?:OUTPUT|TABLE)\b", README)


def test_commands_of_the_readme_exist():
    from typer.main import get_command

    from robust_nlp.cli import app

    commands = set(get_command(app).commands)
    assert set(re.findall(r"robust-nlp ([a-z]+) ", README)) <= commands


def test_the_quickstart_recipe_is_plain_yaml_with_the_embedded_data():
    text = (ROOT / "robust_nlp" / "resources" / "quickstart.yaml").read_text(encoding="utf-8")
    assert from_yaml(text, "quickstart")["data"] == {"path": "embedded:reviews"}
