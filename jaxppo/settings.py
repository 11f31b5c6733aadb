"""Configs as flat settings: the one naming that flags, TOML files, presets and manifests share.

A setting is a field of `Config`, or of the network, learner or objective inside it; all their names are distinct. The
settings `network`, `learner` and `objective` name the kind of each.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxppo.config import Config
from jaxppo.fields import ConfigError, suggest
from jaxppo.learners import SGD
from jaxppo.networks import MLP
from jaxppo.objectives import Clip

__all__ = ["from_settings", "read_toml", "to_flags", "to_settings"]

KINDS: dict[str, dict[str, type]] = {"network": {"mlp": MLP}, "learner": {"sgd": SGD}, "objective": {"clip": Clip}}


def to_settings(config: Config) -> dict[str, Any]:
    """The flat settings of a config whose leaves are plain numbers; an environment object becomes its name."""
    settings = _collect(config)
    settings["env"] = config.make_env().name
    return settings


def from_settings(settings: Mapping[str, Any]) -> Config:
    """The config with these settings and defaults for the rest.

    Raises:
        ConfigError: a setting that does not exist, or a value that is refused.
    """
    check_names(settings)
    return _construct(Config, settings)


def check_names(settings: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for the first name that is not a setting."""
    known = _collect(Config)
    for name, value in settings.items():
        if name not in known:
            raise ConfigError(name, value, f"a known setting; {suggest(name, known)}")


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        ConfigError: a file that cannot be read or parsed, an unknown setting, or a value of the wrong type or size.
    """
    try:
        settings = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError("config", path, f"a readable TOML file; {error}") from error
    try:
        check_names(settings)
        settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        _check_values(Config, settings)
    except ConfigError as error:
        raise ConfigError("config", path, f"a file of valid settings; in it, {error}") from error
    return settings


def to_flags(settings: Mapping[str, Any]) -> list[str]:
    """The command-line flags that say the same as `settings`."""
    flags: list[str] = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if name in KINDS:
            continue
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, Mapping):
            flags += [flag, *(str(part) for item in value.items() for part in item)]
        elif isinstance(value, tuple | list):
            flags += [flag, *map(str, value)]
        else:
            flags += [flag, str(value)]
    return flags


def _kind(name: str, settings: Mapping[str, Any]) -> type:
    kinds = KINDS[name]
    kind = settings.get(name, next(iter(kinds)))
    if kind not in kinds:
        raise ConfigError(name, kind, f"one of {', '.join(kinds)}")
    return kinds[kind]


def _collect(node: Any) -> dict[str, Any]:
    """Settings of a config, or, given a class, the names of all settings with their defaults."""
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(node):
        value = _default(field) if isinstance(node, type) else getattr(node, field.name)
        if field.name in KINDS:
            settings[field.name] = {cls: kind for kind, cls in KINDS[field.name].items()}[type(value)]
            settings.update(_collect(value))
        elif isinstance(value, Mapping):
            settings[field.name] = {name: np.asarray(number).tolist() for name, number in value.items()}
        else:
            settings[field.name] = value
    return settings


def _default(field: Any) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def _construct(cls: type, settings: Mapping[str, Any]) -> Any:
    arguments = {}
    for field in dataclasses.fields(cls):
        if field.name in KINDS:
            arguments[field.name] = _construct(_kind(field.name, settings), settings)
        elif field.name in settings:
            value = settings[field.name]
            arguments[field.name] = tuple(value) if isinstance(value, list) else value
    return cls(**arguments)


def _check_values(cls: type, settings: Mapping[str, Any]) -> None:
    for field in dataclasses.fields(cls):
        if field.name in KINDS:
            _check_values(_kind(field.name, settings), settings)
        elif field.name in settings and not field.metadata["ok"](settings[field.name]):
            raise ConfigError(field.name, settings[field.name], field.metadata["allowed"])
