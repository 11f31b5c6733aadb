"""Frozen dataclasses of hyperparameters that are pytrees, with a rule on every field.

A field made by `number` is a leaf: it may be traced, stacked and vmapped. A field made by any other function here is
static: it shapes the program and is part of the treedef. Rules are checked when an object is constructed, but not when
JAX rebuilds one from its leaves, which may then be tracers, axes or `None`.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "ConfigError",
    "check",
    "choice",
    "flag",
    "hyperparameters",
    "is_a",
    "is_pytree",
    "is_real",
    "is_whole",
    "nested",
    "number",
    "plain",
    "suggest",
    "whole",
]

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting was refused. The message names the field, the value and what is allowed, on one line."""

    def __init__(self, field: str, value: Any, allowed: str):
        super().__init__(f"{field}={_show(value)}: must be {allowed}")
        self.field = field


def suggest(name: str, options: Iterable[str]) -> str:
    """`"did you mean …?"` with the options closest to `name`."""
    folded = {option.lower(): option for option in sorted(options, reverse=True)}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.0)
    return f"did you mean {', '.join(folded[c] for c in close)}?"


def number(
    *,
    default: Any,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    infinite: bool = False,
    optional: bool = False,
    initial: bool = False,
) -> Any:
    """A leaf: a real number in [low, high] and greater than `above`, or an array of such numbers, one per agent.

    One that is `initial` has its effect when training begins, and none later.
    """
    parts = ["a finite number" if not infinite else "a number"]
    if low > -math.inf and high < math.inf:
        parts.append(f"in [{low:g}, {high:g}]")
    elif low > -math.inf:
        parts.append(f">= {low:g}")
    if above > -math.inf:
        parts.append(f"> {above:g}" + (f" and <= {high:g}" if high < math.inf else ""))
    allowed = " ".join(parts) + (" or None" if optional else "")

    def ok(value: Any) -> bool:
        if isinstance(value, jax.core.Tracer):
            return True
        if value is None:
            return optional
        if not is_real(value):
            return False
        with np.errstate(over="ignore"):
            array = np.asarray(value).astype(np.float32)  # the precision of training, in which 1e39 is infinite
        inside = (array >= low) & (array <= high) & (array > above)
        return array.size > 0 and bool(np.all(inside if infinite else inside & np.isfinite(array)))

    lowest = low if above == -math.inf else max(low, _above(above))
    return _field(default, ok, allowed, static=False, limits=(lowest, high), initial=initial)


def _above(limit: float) -> float:
    """The least number above a limit >= 0, in the precision of training and not so small that it counts as 0 there."""
    least = np.nextafter(np.float32(limit), np.float32(np.inf))
    return float(max(least, np.finfo(np.float32).tiny))


def whole(*, default: int, minimum: int) -> Any:
    """A static integer, `minimum` or more, that 32 bits hold."""
    allowed = f"a whole number >= {minimum} (and < 2^31)"
    return _field(default, lambda value: is_whole(value, minimum) and bool(value < 2**31), allowed)


def flag(*, default: bool) -> Any:
    """A static boolean."""
    return _field(default, lambda value: isinstance(value, bool | np.bool_), "True or False")


def choice(*, default: str, options: Iterable[str]) -> Any:
    """A static string out of `options`."""
    options = tuple(options)
    return _field(default, lambda value: isinstance(value, str) and value in options, f"one of {', '.join(options)}")


def plain(*, default: Any, ok: Callable[[Any], bool], allowed: str) -> Any:
    """A static field with a rule of its own."""
    return _field(default, ok, allowed)


def nested(*, default_factory: Callable[[], Any], ok: Callable[[Any], bool], allowed: str) -> Any:
    """A child pytree, whose own fields have rules of their own."""
    metadata = {"ok": ok, "allowed": allowed, "static": False}
    return dataclasses.field(default_factory=default_factory, metadata=metadata)


def is_real(value: Any) -> bool:
    """Whether `value` is a real number or an array of such; booleans, text and lists are not."""
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array) or isinstance(value, bool):
        return False
    dtype = np.asarray(value).dtype
    return bool(jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating))


def is_whole(value: Any, minimum: int = 1) -> bool:
    """Whether `value` is a whole number, `minimum` or more; booleans are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= minimum)


def is_a(value: Any, *methods: str) -> bool:
    """Whether `value` is an object, not a class, that has these methods."""
    return not isinstance(value, type) and all(callable(getattr(value, method, None)) for method in methods)


def is_pytree(value: Any) -> bool:
    """Whether `value` is a registered node, not a leaf."""
    return not jax.tree_util.all_leaves([value])


def check(condition: bool, field: str, value: Any, allowed: str) -> None:
    """Raise `ConfigError` unless `condition` holds: for rules that take more than one field."""
    if not condition:
        raise ConfigError(field, value, allowed)


@dataclass_transform(
    frozen_default=True, kw_only_default=False, field_specifiers=(number, whole, flag, choice, plain, nested)
)
def hyperparameters(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass, check its rules on construction, and register it as a pytree.

    Raises:
        TypeError: a field without a rule.
    """
    own_rules = getattr(cls, "__post_init__", None)

    def post_init(self: Any) -> None:
        for field in dataclasses.fields(self):
            if not field.metadata["ok"](getattr(self, field.name)):
                raise ConfigError(field.name, getattr(self, field.name), field.metadata["allowed"])
        if own_rules:
            own_rules(self)

    cls.__post_init__ = post_init  # type: ignore[attr-defined]
    cls = dataclasses.dataclass(frozen=True)(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if "ok" not in field.metadata:
            by = "made by a function of jaxppo.fields, such as number()"
            raise TypeError(f"{cls.__name__}.{field.name}: must be {by}")
    leaves = tuple(field.name for field in dataclasses.fields(cls) if not field.metadata["static"])  # type: ignore[arg-type]
    statics = tuple(field.name for field in dataclasses.fields(cls) if field.metadata["static"])  # type: ignore[arg-type]

    def flatten_with_keys(self: T) -> tuple[Any, Any]:
        children = tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in leaves)
        return children, tuple(getattr(self, name) for name in statics)

    def unflatten(aux: Any, children: Any) -> T:
        self = object.__new__(cls)
        for name, value in zip(leaves + statics, (*children, *aux), strict=True):
            object.__setattr__(self, name, value)
        return self

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    return cls


def _field(default: Any, ok: Callable[[Any], bool], allowed: str, *, static: bool = True, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"ok": ok, "allowed": allowed, "static": static, **more})


def _show(value: Any) -> str:
    bare = isinstance(value, PurePath) or (isinstance(value, str) and not _looks_otherwise(value))
    return " ".join((str(value) if bare else repr(value)).split())


def _looks_otherwise(text: str) -> bool:
    """Whether it would be taken for a number or a constant if it stood without quotes."""
    try:
        float(text)
    except ValueError:
        return text in ("None", "True", "False")
    return True
