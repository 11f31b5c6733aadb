"""The settings of a sweep: every combination of the values asked for, or samples from ranges.

An axis is a setting with the values that it takes. Kinds (`network`, `learner`, `objective`) may be axes too: settings
that only some of them have are then varied with those alone.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxppo.config import Config
from jaxppo.fields import ConfigError, check, is_whole, suggest
from jaxppo.presets import preset_settings
from jaxppo.settings import KINDS, applicable, every_field, from_settings, kinds_of, load_toml, owned

__all__ = ["Range", "configs_of", "parse_values", "read_sweep"]

RANGE_TABLE = "as a range {low = …, high = …}, with log = true to be even in its logarithm"


class Range(NamedTuple):
    """Where a setting is drawn from: uniformly, or uniformly in its logarithm."""

    low: float
    high: float
    log: bool

    def draw(self, generator: np.random.Generator) -> float:
        """One value."""
        if self.log:
            return float(math.exp(generator.uniform(math.log(self.low), math.log(self.high))))
        return float(generator.uniform(self.low, self.high))


def configs_of(
    search: Mapping[str, Sequence[Any] | Range],
    method: str = "auto",
    *,
    num_samples: int = 1,
    seed: int = 0,
) -> list[Config]:
    """A config for each combination of values, and for each sample from the ranges if there are any.

    Args:
        search: settings with their values, or with a range that they are drawn from; every combination of values is
            tried with the same samples.
        method: the preset that settings are laid over; see `preset_settings`.
        num_samples: how many samples.
        seed: of the samples.

    Raises:
        ConfigError: an axis without values or with one twice, an unknown setting, one that no kind chosen has, a bad
            value, or samples asked for without a range.
    """
    ranges = {name: values for name, values in search.items() if isinstance(values, Range)}
    axes: dict[str, Sequence[Any]] = {"env": ("CartPole-v1",)}
    axes |= {name: values for name, values in search.items() if not isinstance(values, Range)}
    check(is_whole(num_samples), "samples", num_samples, "a whole number >= 1")
    check(is_whole(seed, 0), "search_seed", seed, "a whole number >= 0")
    check(bool(ranges) or num_samples == 1, "samples", num_samples, "left out where no setting has a range")
    for name, values in axes.items():
        check(len(values) > 0, name, list(values), "at least one value")
        for i, value in enumerate(values):
            lists = "; numbers of one list are joined by commas, as in 64,64" if isinstance(value, tuple) else ""
            check(value not in values[:i], name, value, f"given once{lists}")
    generator = np.random.default_rng(seed)
    samples = [{name: each.draw(generator) for name, each in ranges.items()} for _ in range(num_samples)]
    shape = [name for name in axes if name == "env" or name in KINDS]
    unused = set(axes) | set(ranges)
    configs = []
    for kinds in _kinds({name: axes[name] for name in shape}):
        known = applicable(kinds_of(preset_settings(kinds["env"], method, kinds)))
        own = [name for name in axes if name in known and name not in shape]
        unused -= {*shape, *own, *(ranges.keys() & set(known))}
        for values in itertools.product(*(axes[name] for name in own)):
            drawn = [{name: value for name, value in sample.items() if name in known} for sample in samples]
            for sample in drawn if drawn[0] else [{}]:
                settings = {**kinds, **dict(zip(own, values, strict=True)), **sample}
                configs.append(from_settings(preset_settings(kinds["env"], method, settings)))
    for name in unused:
        allowed = "left out, since no kind chosen has it" if name in every_field() else _known(name)
        raise ConfigError(name, search[name], allowed)
    return configs


def _kinds(shape: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Each combination of environments and kinds; of several learners, those without an objective are there once."""
    found = []
    for chosen in itertools.product(*shape.values()):
        kinds = dict(zip(shape, chosen, strict=True))
        learner = KINDS["learner"].get(kinds.get("learner", ""))
        if len(shape.get("learner", ())) > 1 and learner and "objective" not in owned(learner):
            kinds.pop("objective", None)
        if kinds not in found:
            found.append(kinds)
    return found


def parse_values(name: str, texts: Sequence[str]) -> tuple[Any, ...] | Range:
    """The values of a flag: words, or one range `LOW:HIGH` or `LOW:HIGH:log`.

    Raises:
        ConfigError: an unknown setting, or a word that is no value of it.
    """
    fields = every_field()
    check(name in fields, name, " ".join(texts), _known(name))
    if not texts and name != "env" and fields[name][0].metadata["ok"](True):
        return (True,)  # a switch
    check(len(texts) > 0, name, "", "at least one value")
    if len(texts) == 1 and ":" in texts[0]:
        return _parse_range(name, texts[0])
    return tuple(_parse_value(name, text, fields[name]) for text in texts)


def read_sweep(path: Path, own: Collection[str] = ()) -> dict[str, Any]:
    """The values and ranges in a TOML file: a list holds values, a table {low, high, log} is a range, else a value.

    Args:
        path: the file.
        own: keys that are no settings; their values are returned as they are.

    Raises:
        ConfigError: a file that can't be read or parsed, an unknown setting, or a bad value.
    """
    content = load_toml(path)
    search: dict[str, Any] = {}
    try:
        for name, value in content.items():
            if name in own:
                search[name] = value
                continue
            fields = every_field()
            check(name in fields, name, value, _known(name))
            ranged = name != "env_params" and isinstance(value, Mapping)
            if ranged and (_is_number(name) or value.keys() >= {"low", "high"}):
                check({"low", "high"} <= value.keys() <= {"low", "high", "log"}, name, dict(value), RANGE_TABLE)
                search[name] = _checked_range(name, value["low"], value["high"], value.get("log", False))
                continue
            values = value if isinstance(value, list) else [value]
            search[name] = choices = tuple(tuple(each) if isinstance(each, list) else each for each in values)
            for each in choices:
                allowed = fields[name][0].metadata.get("allowed")
                word = name in KINDS or name == "env"
                ok = isinstance(each, str) if word else any(field.metadata["ok"](each) for field in fields[name])
                check(ok, name, each, allowed)
    except ConfigError as error:
        raise ConfigError("config", path, f"a file of valid settings; in it, {error}") from error
    return search


def _known(name: str) -> str:
    return f"a known setting; {suggest(name, every_field())}"


def _parse_range(name: str, text: str) -> Range:
    low, high, *log = text.split(":")
    allowed = "a range LOW:HIGH, or LOW:HIGH:log"
    check(log in ([], ["log"]), name, text, allowed)
    try:
        return _checked_range(name, float(low), float(high), bool(log))
    except ValueError as error:
        raise error if isinstance(error, ConfigError) else ConfigError(name, text, allowed) from error


def _is_number(name: str) -> bool:
    """Whether a setting is a real number, whatever kind it is of."""
    return all("limits" in field.metadata for field in every_field()[name])


def _checked_range(name: str, low: Any, high: Any, log: Any) -> Range:
    """A range of a setting that is a number."""
    check(_is_number(name), name, f"{low}:{high}", "values and no range, since it is not a real number")
    check(isinstance(log, bool), name, f"log={log!r}", "a range whose log is true or false")
    ok = all(isinstance(each, int | float) and math.isfinite(each) for each in (low, high))
    check(ok and low < high, name, f"{low}:{high}", "a range of finite numbers, the lower one first")
    check(not log or low > 0, name, f"{low}:{high}:log", "a range above 0 for its logarithm")
    return Range(float(low), float(high), log)


def _parse_value(name: str, text: str, fields: Sequence[Any]) -> Any:
    """The first reading of a word that the setting takes."""
    if name in KINDS or name == "env":
        return text
    readings = _readings(text, numeric="limits" in fields[0].metadata)
    for value in readings:
        if any(field.metadata["ok"](value) for field in fields):
            return value
    pairs = "NAME=NUMBER, or several of these joined by commas"
    allowed = pairs if name == "env_params" else fields[0].metadata["allowed"]
    raise ConfigError(name, readings[0] if readings else text, allowed)


def _readings(text: str, *, numeric: bool) -> list[Any]:
    """What a word may mean: none, a number; or a truth value, whole numbers joined by commas, parameters, the word."""
    readings: list[Any] = [{"none": None, "true": True, "false": False}.get(text.lower(), text)]
    if readings[0] is not text:
        return [*readings, text]
    kinds: list[Any] = [float] if numeric else [int, float, _whole_numbers, _parameters, str]
    readings = []
    for kind in kinds:
        try:
            readings.append(kind(text))
        except ValueError:
            continue
    return readings


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _parameters(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in (word.split("=") for word in text.split(","))}
