"""Trees of dataclasses from plain values and YAML, and back."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from robust_nlp.errors import RecipeError, did_you_mean


def build(hint: Any, values: Any, *path: str) -> Any:
    """Make a dataclass, or one of a union of them that `kind` chooses, of plain values.

    Args:
        hint: A dataclass, or a union of dataclasses with a class variable `kind` each.
        values: A mapping; entries that are dataclasses are mappings again.
        path: Where the values stand, for messages.

    Raises:
        RecipeError: If an entry is unknown, missing or of another type, or if the dataclass
            refuses it; the message begins with the path of the entry, such as `mechanism.p_del`.
    """
    return _build(hint, values, path, default=None)


def plain(value: Any) -> Any:
    """Return a tree of dataclasses as dicts and lists, with `kind` where a class has one."""
    if dataclasses.is_dataclass(value):
        kind = {"kind": _kind(value)} if _kind(value) else {}
        entries = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return kind | entries
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(entry) for entry in value]
    return value


def from_yaml(text: str, where: str) -> Any:
    """Read YAML, in which 1e-3 is a number and no key stands twice.

    Raises:
        RecipeError: If the text is not YAML; the message begins with `where`.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} is not valid YAML: {error}") from error


def to_yaml(values: Any) -> str:
    """Write plain values as YAML that `from_yaml` reads back."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False)
    return text


def override(values: dict[str, Any], entry: str) -> None:
    """Set one entry of nested dicts, such as "certify.limit=100"; the value is YAML.

    Raises:
        RecipeError: If the text does not say an entry and a value.
    """
    path, equals, value = entry.partition("=")
    *parents, last = keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(
            f"--set {entry}: expected an entry and its value, such as certify.limit=100"
        )
    at = values
    for depth, key in enumerate(parents, start=1):
        if at.get(key) is None:
            at[key] = {}
        at = at[key]
        if not isinstance(at, dict):
            raise RecipeError(f"--set {entry}: {'.'.join(keys[:depth])} is {at!r}, not a mapping")
    at[last] = from_yaml(value, f"--set {entry}: the value")


class _Loader(yaml.SafeLoader):
    """Safe YAML with numbers as in YAML 1.2 and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes the text "1e-3" in quotes, so that `_Loader` reads it as text."""


for _yaml in (_Loader, _Dumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def _build(hint: Any, values: Any, path: tuple[str, ...], default: Any) -> Any:
    choices: tuple[Any, ...] = hint if isinstance(hint, tuple) else _alternatives(hint)
    if not isinstance(values, Mapping):
        raise _error(path, f"expected a mapping; got {values!r}{_example(choices, values, path)}")
    values = dict(values)
    if len(choices) > 1 or _kind(choices[0]):
        cls = _choose(choices, values.pop("kind", default), path)
    else:
        cls = choices[0]
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            help_ = did_you_mean(str(key), fields) or f" Expected one of {_names(fields)}."
            raise _error((*path, str(key)), f"unexpected keyword.{help_}")
    hints = _hints(cls)
    arguments = {}
    for name, f in fields.items():
        if name in values:
            arguments[name] = _entry(f, hints[name], values[name], (*path, name))
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise _error((*path, name), "this entry is missing and has no default")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise _error(path, str(error)) from error


def _example(choices: tuple[Any, ...], value: Any, path: tuple[str, ...]) -> str:
    """Show what may have been meant by a single value in place of a mapping."""
    if not isinstance(value, str) or not path:
        return ""
    kinds = [kind for choice in choices if (kind := _kind(choice))]
    if kinds and value not in kinds:
        return f". Write {path[-1]}: {{kind: ...}}, with one of {_names(kinds)}"
    first = dataclasses.fields(choices[0])[0]
    if kinds or first.default is dataclasses.MISSING:
        return f". Write {path[-1]}: {{{'kind' if kinds else first.name}: {value}, ...}}"
    return f". Its entries are {_names(f.name for f in dataclasses.fields(choices[0]))}"


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return (hint,) if isinstance(hint, type) else typing.get_args(hint)


def _entry(f: dataclasses.Field[Any], hint: Any, value: Any, path: tuple[str, ...]) -> Any:
    choices = typing.get_args(hint) or (hint,)
    if value is None and type(None) in choices:
        return None
    choices = tuple(choice for choice in choices if choice is not type(None))
    if all(dataclasses.is_dataclass(choice) for choice in choices):
        factory: Any = f.default_factory
        default = None if factory is dataclasses.MISSING else _kind(factory)
        return _build(choices, value, path, default)
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        inside = [str(part) for part in first["loc"] if part != "[key]"]
        raise _error((*path, *inside), f"{_words(first['msg'])}; got {first['input']!r}") from error


def _choose(choices: Iterable[Any], kind: Any, path: tuple[str, ...]) -> Any:
    kinds = {choice.kind: choice for choice in choices}
    if kind is None:
        raise _error((*path, "kind"), f"this entry is missing; expected one of {_names(kinds)}")
    if kind not in kinds:
        hint = did_you_mean(str(kind), kinds)
        raise _error((*path, "kind"), f"expected one of {_names(kinds)}; got {kind!r}.{hint}")
    return kinds[kind]


def _kind(of: Any) -> str | None:
    kind: str | None = getattr(of, "kind", None)
    return kind


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _words(message: str) -> str:
    """Say in the words of YAML what pydantic says in those of Python."""
    for python, words in (
        ("Input should be", "expected"),
        ("tuple", "list"),
        ("dictionary", "mapping"),
        ("Field required", "expected more entries"),
    ):
        message = message.replace(python, words)
    return message


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def _error(path: tuple[str, ...], message: str) -> RecipeError:
    return RecipeError(f"{'.'.join(path)}: {message}" if path else message)
