"""How does a YAML file become a Run? Reading, overriding, writing and comparing configurations."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml

from kerasllm.config.schema import Run
from kerasllm.errors import ConfigError


def load_run(path: str | os.PathLike[str] | None, overrides: Iterable[str] = ()) -> Run:
    """Reads a run from YAML and applies `section.key=value` overrides, each value itself YAML.

    Without a path the defaults hold, and the overrides on top of them.

    Raises:
      ConfigError: the file is missing or not YAML, or a key or value is not one that the schema knows.
    """
    tree = {} if path is None else _read(path)
    for override in overrides:
        _apply(tree, override)
    return make_run(tree, source="--set" if path is None else str(path))


def make_run(tree: Mapping[str, Any], source: str = "the configuration") -> Run:
    """Checks a nested mapping against the schema; `source` names it in errors.

    Raises:
      ConfigError: with the nearest right name for an unknown key.
    """
    try:
        return Run.model_validate(tree)
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_explain(problem, source) for problem in error.errors())) from None


def part_of(run: Run, name: str) -> Run:
    """The run of one model of an application: the common sections, and on top of them what `parts.<name>` says.

    Raises:
      ConfigError: a key or value there is not one that the schema knows.
    """
    tree = run.model_dump(exclude={"parts"})
    for section, fields in run.parts.get(name, {}).items():
        if {"steps", "epochs"} & fields.keys():
            tree[section] |= {"steps": None, "epochs": None}  # one of them replaces either
        tree[section] = tree.get(section, {}) | fields
    return make_run(tree, source=f"parts.{name}")


def dump_run(run: Run) -> str:
    """The whole run as YAML, defaults included; `load_run` reads it back equal."""
    return yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def differences(old: Run, new: Run) -> list[str]:
    """One line `section.key: old -> new` for each setting in which two runs differ."""
    before, after = (_flatten(run.model_dump(mode="json")) for run in (old, new))
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in after if before.get(key) != after.get(key)]


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the configuration ({error}). Give a YAML file.") from error
    tree = _parse(text, str(path))
    if not isinstance(tree, dict | None):
        raise ConfigError(f"{path}: a configuration is a mapping of sections, this is a {type(tree).__name__}.")
    return tree or {}


def _apply(tree: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {override}: expected section.key=value, for example --set train.steps=100.")
    *sections, key = name.strip().split(".")
    for section in sections:
        child = tree.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {section!r} is a single value, not a section.")
        tree = child
    tree[key] = _parse(value, f"--set {override}")


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


def _explain(problem: Any, source: str) -> str:
    """Turns one finding of pydantic into a sentence that names the place and the mend."""
    place = [str(part) for part in problem["loc"]]
    parent, key = ".".join(place[:-1]) or "the top level", place[-1] if place else ""
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, _fields(place[:-1]), n=1, cutoff=0.5)
        hint = f"Did you mean {nearest[0]!r}?" if nearest else f"It has: {', '.join(_fields(place[:-1]))}."
        return f"{source}: {parent} has no field {key!r}. {hint}"
    if not place or problem["type"] == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        return f"{source}: {'.'.join(place) + ': ' if place else ''}{message}."
    hint = ""
    if isinstance(problem["input"], str) and problem["type"].startswith(("float", "int")):
        hint = " (YAML reads a number like 1e-4 as text: write 1.0e-4)"
    return f"{source}: {'.'.join(place)}={problem['input']!r}: {problem['msg']}{hint}."


def _fields(place: list[str]) -> list[str]:
    model: Any = Run
    for part in place:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat
