"""Configs as flat settings: the one naming that flags, TOML files, presets and manifests share.

A setting is a field of `Config`, or of the network, learner or objective inside it. The settings `network`, `learner`
and `objective` name the kind of each, and so decide which other settings there are; all of one config have distinct
names.
"""

import dataclasses
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxppo.config import Config
from jaxppo.fields import ConfigError, check, is_real, suggest
from jaxppo.learners import SGD, TrustRegion
from jaxppo.networks import CNN, MLP
from jaxppo.objectives import AdaptiveKL, Clip, FixedKL, PolicyGradient, Unclipped

__all__ = [
    "KINDS",
    "applicable",
    "check_names",
    "defaults",
    "every_field",
    "from_settings",
    "kinds_of",
    "load_toml",
    "owned",
    "read_toml",
    "to_cells",
    "to_flags",
    "to_settings",
]

# The first of each is the default.
KINDS: dict[str, dict[str, type]] = {
    "network": {"mlp": MLP, "cnn": CNN},
    "learner": {"sgd": SGD, "trust-region": TrustRegion},
    "objective": {
        "clip": Clip,
        "adaptive-kl": AdaptiveKL,
        "fixed-kl": FixedKL,
        "unclipped": Unclipped,
        "policy-gradient": PolicyGradient,
    },
}

# What choosing a kind means for other settings that are not given.
IMPLIED: dict[str, dict[str, Any]] = {"policy-gradient": {"num_epochs": 1, "num_minibatches": 1}}


# Of a run, not of its config.
FLAGS_ONLY = {"seed", "out", "overwrite", "preset", "log_interval", "logger", "quiet", "agents", "repeats"}


def to_settings(config: Config) -> dict[str, Any]:
    """The flat settings of a config whose leaves are plain numbers; an environment object becomes its name."""
    settings = _collect(config)
    settings["env"] = config.make_env().name
    return settings


def to_cells(config: Config) -> dict[str, Any]:
    """The flat settings as plain values: lists as the words of the flag, mappings as JSON, objects as text."""
    return {name: _cell(value) for name, value in to_settings(config).items()}


def from_settings(settings: Mapping[str, Any]) -> Config:
    """The config with these settings and defaults for the rest.

    Raises:
        ConfigError: a setting that does not exist or does not go with the kinds chosen, or a value that is refused.
    """
    check_names(settings)
    config: Config = _construct(Config, {**IMPLIED.get(settings.get("objective", ""), {}), **settings})
    return config


def defaults(kinds: Mapping[str, Any]) -> Config:
    """A config with these kinds and defaults for the rest: to lay settings over, not to train with.

    It is not checked as a whole, since the kinds need not go with the default environment.

    Raises:
        ConfigError: an unknown kind.
    """
    config = Config()
    settings = {**IMPLIED.get(kinds.get("objective", ""), {}), **kinds}
    for name in KINDS.keys() & {field.name for field in dataclasses.fields(Config)}:
        object.__setattr__(config, name, _construct(_kind(name, settings), settings))
    return config


def kinds_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that choose a kind."""
    return {name: settings[name] for name in KINDS if name in settings}


def applicable(settings: Mapping[str, Any]) -> list[str]:
    """The names of all settings that there are with the kinds that `settings` choose.

    Raises:
        ConfigError: an unknown kind.
    """
    return [field.name for field in _walk(Config, settings)]


def every_field() -> dict[str, list[Any]]:
    """Every setting that there is with some kind, with its fields: one for each class that has it."""
    classes = [Config, *(kind for kinds in KINDS.values() for kind in kinds.values())]
    fields: dict[str, list[Any]] = {}
    for cls in classes:
        for field in dataclasses.fields(cls):
            fields.setdefault(field.name, []).append(field)
    return fields


def owned(kind: Any) -> list[str]:
    """The settings that are a kind's own: the fields of its class."""
    return [field.name for field in dataclasses.fields(kind)]


def check_names(settings: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for the first name that is not a setting of the kinds chosen."""
    known = applicable(settings)
    for name, value in settings.items():
        if name not in known:
            owners = [f"{part} {kind}" for part, kinds in KINDS.items() for kind in kinds if name in owned(kinds[kind])]
            missing = f"left out, or chosen with {' or '.join(owners)}"
            raise ConfigError(name, value, missing if owners else f"a known setting; {suggest(name, known)}")


def load_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says; "None" is None, alone or in a list, as in flags, since TOML has no word for it.

    Raises:
        ConfigError: a file that cannot be read or parsed.
    """

    def value_of(value: Any) -> Any:
        if isinstance(value, list):
            return [value_of(each) for each in value]
        return None if value == "None" else value

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError("config", path, f"a readable TOML file; {error}") from error
    return {name: value_of(value) for name, value in content.items()}


def read_toml(path: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a TOML file, checked as for these kinds, which win over the file's.

    Raises:
        ConfigError: a file that cannot be read or parsed, an unknown setting, or a value of the wrong type or size.
    """
    settings = load_toml(path)
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    try:
        for name in FLAGS_ONLY & settings.keys():
            raise ConfigError(name, settings[name], f"a flag of the command line, --{name.replace('_', '-')}")
        check_names({**settings, **kinds})
        check(isinstance(settings.get("env", ""), str), "env", settings.get("env"), "the name of an environment")
        for field in _walk(Config, {**settings, **kinds}):
            if field.name in settings and field.name not in KINDS and not field.metadata["ok"](settings[field.name]):
                raise ConfigError(field.name, settings[field.name], field.metadata["allowed"])
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


def _cell(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    if isinstance(value, Mapping):
        return json.dumps(value)
    value = np.asarray(value).item() if is_real(value) or isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _kind(name: str, settings: Mapping[str, Any]) -> type:
    kinds = KINDS[name]
    kind = settings.get(name, next(iter(kinds)))
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(name, kind, f"one of {', '.join(kinds)}")
    return kinds[kind]


def _walk(cls: Any, settings: Mapping[str, Any]) -> Iterator[Any]:
    """The fields of a class, and of the objects inside it, whose kinds `settings` choose."""
    for field in dataclasses.fields(cls):
        yield field
        if field.name in KINDS:
            yield from _walk(_kind(field.name, settings), settings)


def _collect(node: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if field.name in KINDS:
            kinds = {cls: kind for kind, cls in KINDS[field.name].items()}
            settings[field.name] = kinds.get(type(value), type(value).__name__)  # one of a user's own goes by its class
            settings.update(_collect(value) if dataclasses.is_dataclass(value) else {})
        elif isinstance(value, Mapping):
            settings[field.name] = {name: np.asarray(number).tolist() for name, number in value.items()}
        else:
            settings[field.name] = value
    return settings


def _construct(cls: type, settings: Mapping[str, Any]) -> Any:
    arguments = {}
    for field in dataclasses.fields(cls):
        if field.name in KINDS:
            arguments[field.name] = _construct(_kind(field.name, settings), settings)
        elif field.name in settings:
            value = settings[field.name]
            arguments[field.name] = tuple(value) if isinstance(value, list) else value
    return cls(**arguments)
