"""Presets, overrides, and configurations to and from YAML."""

from __future__ import annotations

import difflib
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.schema import DataConfig, RunConfig
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import read_text

_PRESETS = resources.files("c2f_dgl.config") / "presets"

Group = TypeVar("Group", bound=BaseModel)


def preset_names() -> list[str]:
    """Names accepted by `load_config`."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _PRESETS.iterdir() if entry.name.endswith(".yaml"))


def load_config(preset: str = "fast", overrides: Sequence[str] = (), graph: GraphConfig | None = None) -> RunConfig:
    """The configuration of a preset, or of a YAML file of the same form, with overrides such as ``"coarse.m=600"``.

    A key ``preset`` in a file names the one it changes; values are read as YAML; `graph` takes the place of the
    preset's. `InputError` for an unknown preset or option, a value of the wrong type, or an impossible combination.
    """
    tree, where = _preset_tree(preset)
    if graph is not None:
        tree["graph"] = graph.model_dump(mode="json")
    return parse_config(_overridden(tree, overrides), " with ".join(filter(None, [where, " ".join(overrides)])))


def changed(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """`config` with ``key=value`` overrides (raises what `load_config` does)."""
    return parse_config(_overridden(config.model_dump(mode="json"), overrides), " ".join(overrides))


def _preset_tree(preset: str, above: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """Options of a preset on top of those of the preset it names, and what to call it in messages."""
    names = preset_names()
    if preset in names:
        text, where = (_PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"), f"preset {preset}"
    elif os.path.isfile(preset):
        text, where = read_text(preset, expected="a YAML file of options"), preset
    else:
        expected = f"one of {', '.join(names)} or a YAML file"
        raise InputError(f"no preset and no file called {preset!r}", expected=expected)
    tree = _read_yaml(text, where)
    if "fine" in tree and "fine" not in (tree.get("finer") or {}):  # as --set and `options` call it
        tree["finer"] = {**(tree.get("finer") or {}), "fine": tree.pop("fine")}
    base = tree.pop("preset", None)
    if base is None:
        return tree, where
    if not isinstance(base, str) or base in (*above, preset):
        raise InputError(f"preset: {base!r} cannot be what this one changes", where=where, expected="another preset")
    return _merged(_preset_tree(base, (*above, preset))[0], tree), where


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes`, group by group."""
    merged = dict(base)
    for key, value in changes.items():
        group = merged.get(key)
        merged[key] = _merged(group, value) if isinstance(group, dict) and isinstance(value, dict) else value
    return merged


def parse_config(tree: dict[str, Any], where: str) -> RunConfig:
    """A validated configuration from nested dictionaries."""
    return _validated(RunConfig, tree, where)


def parse_graph(tree: dict[str, Any], where: str = "graph") -> GraphConfig:
    """A validated schema from nested dictionaries, with errors that name the field."""
    return _validated(GraphConfig, tree, where, "graph.")


def parse_data(overrides: Sequence[str]) -> DataConfig:
    """How data is read and split, from overrides of ``data`` alone, such as ``"data.user=who"``; not its source."""
    options, where = _overridden({}, overrides).get("data", {}), f"--set {' '.join(overrides)}"
    if "source" in options:
        raise InputError("data.source is not set here", where=where, expected="DATASET to say it")
    return _validated(DataConfig, options, where, "data.")


def read_config(path: str | Path) -> RunConfig:
    """The configuration written by `dump_config`."""
    text = read_text(path, expected="the config.yaml of a run")
    return parse_config(_read_yaml(text, str(path)), str(path))


def dump_config(config: RunConfig) -> str:
    """YAML of the whole configuration, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _validated(model: type[Group], tree: dict[str, Any], where: str, prefix: str = "") -> Group:
    """A group of options from nested dictionaries; the error is the first thing that is wrong, in one line."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = prefix + ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = [option for option, _, _ in options()]
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            raise InputError(f"unknown option {key!r}", where=where, expected=f"e.g. {(near or known)[0]}") from error
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{key + ': ' if key else ''}{message}", where=where) from error


def _read_yaml(text: str, where: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date and is none
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        raise InputError("not valid YAML", where=where, line=None if line is None else line + 1) from error
    if tree is not None and not isinstance(tree, dict):
        raise InputError(f"holds a {type(tree).__name__}", where=where, expected="a mapping of options")
    return tree or {}


def _overridden(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`tree`, with the values of ``key=value`` overrides set in place."""
    for override in overrides:
        _override(tree, override)
    return tree


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{override!r} is no option", where="--set", expected="key=value, e.g. coarse.m=600")
    *path, leaf = key.strip().split(".")
    finer = tree.get("finer", {})  # where it is left out it stays so: the schema has a tier there
    if path and path[0] not in RunConfig.model_fields and isinstance(finer, dict) and path[0] in {"fine", *finer}:
        path = ["finer", *path]
    group = tree
    for name in path:
        if name in group and group[name] is None:
            raise InputError(f"the preset has no {name}", where=f"--set {override}", expected="a preset that has one")
        group = group.setdefault(name, {})
        if not isinstance(group, dict):
            raise InputError(f"{name!r} in {key!r} is not a group of options", where="--set")
    group[leaf] = _read_yaml(f"value: {value}", f"--set {override}")["value"]


def options(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every option as (key, default, description); tiers below the first stand under ``fine``, other names as NAME."""
    for name, field in model.model_fields.items():
        key = "fine" if name == "finer" else f"{prefix}{name}"
        if typing.get_origin(field.annotation) is dict and name != "finer":
            key = f"{key}.NAME"
        nested = _nested_model(field.annotation)
        if nested is None:
            yield key, field.default, field.description or ""
        else:
            yield from options(nested, f"{key}.")


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    """The group of options that a field is, may be or has by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType, dict):
        return None
    return next(filter(None, map(_nested_model, typing.get_args(annotation))), None)


def value_of(config: RunConfig, key: str, default: Any) -> Any:
    """The value of an option as `options` calls it; `default` where the configuration has no such group."""
    values = flattened(config.model_dump())
    return values.get(key, values.get(f"finer.{key}", default))


def flattened(tree: Mapping[str, Any], mark: str = ".", above: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, keys joined by `mark`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{above}{key}"
        flat |= flattened(value, mark, path + mark) if isinstance(value, dict) else {path: value}
    return flat
