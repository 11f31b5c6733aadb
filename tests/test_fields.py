"""Rules on fields, and the pytrees that they make: on a small class of the tests' own."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxppo
from jaxppo.fields import choice, flag, hyperparameters, number, suggest, whole


@hyperparameters
class Settings:
    """One field of each kind."""

    rate: float = number(default=0.5, low=0, high=1)
    positive: float = number(default=1.0, above=0)
    limit: float = number(default=2.0, above=0, infinite=True)
    maybe: float | None = number(default=None, low=0, optional=True)
    count: int = whole(default=3, minimum=1)
    on: bool = flag(default=True)
    kind: str = choice(default="a", options=("a", "b"))


def test_a_field_without_a_rule_is_refused():
    """With its name, when the class is made; constants of the class need none."""
    with pytest.raises(TypeError, match=r"Bare.width: must be made by a function of jaxppo.fields"):

        @hyperparameters
        class Bare:
            constant: ClassVar[int] = 3
            rate: float = number(default=0.5)
            width: float = 1.0

    @dataclasses.dataclass(frozen=True)
    class Plain:
        width: float = 1.0

    with pytest.raises(TypeError, match=r"Heir.width: must be made by"):

        @hyperparameters
        class Heir(Plain):
            rate: float = number(default=0.5)


@pytest.mark.parametrize("text", ["0.5", "1e-3", "nan", "None", "True"])
def test_text_that_looks_like_something_else_is_shown_in_quotes(text):
    """Or the message would contradict itself; other text stands as it is."""
    with pytest.raises(jaxppo.ConfigError, match=f"^rate='{text}': must be a finite number"):
        Settings(rate=text)
    with pytest.raises(jaxppo.ConfigError, match=r"^kind=other: must be one of a, b"):
        Settings(kind="other")


ACCEPTED = [
    ("rate", 0),
    ("rate", 1.0),
    ("rate", np.float32(0.3)),
    ("rate", jnp.array(0.3)),
    ("rate", np.array([0.0, 0.5, 1.0])),
    ("rate", jnp.array([0, 1])),
    ("positive", 1e-12),
    ("limit", 1e39),
    ("limit", float("inf")),
    ("maybe", None),
    ("maybe", 0.0),
    ("count", 1),
    ("count", np.int64(7)),
    ("on", False),
    ("kind", "b"),
]

NAN = float("nan")
REFUSED = [
    *[
        ("rate", bad)
        for bad in (-1e-9, 1.1, NAN, float("inf"), "0.5", True, None, 1j, object(), {}, [0.1, 0.2], (0.1,))
    ],
    ("rate", np.zeros(0)),
    *[("rate", np.array(bad)) for bad in ([0.5, 2.0], [0.5, NAN], [True], ["0.5"], [0.5 + 0j], [None])],
    ("rate", jnp.array([0.5, -0.5])),
    *[("positive", bad) for bad in (0, 0.0, -1, NAN, float("inf"), float("-inf"), np.array([1.0, 0.0]))],
    *[("limit", bad) for bad in (0, -1, NAN, float("-inf"))],
    *[("maybe", bad) for bad in (-1, NAN, "None")],
    *[("count", bad) for bad in (0, -1, 1.0, 2.5, "3", True, None, 2**31, NAN, np.array(3))],
    *[("on", bad) for bad in (0, 1, "True", None, NAN)],
    *[("kind", bad) for bad in ("c", "A", "", None, 1, ["a"])],
]


@pytest.mark.parametrize(("field", "value"), ACCEPTED)
def test_accepted(field, value):
    """What the rule allows is kept as given."""
    assert getattr(Settings(**{field: value}), field) is value


@pytest.mark.parametrize(("field", "value"), REFUSED)
def test_refused(field, value):
    """What the rule doesn't allow raises on one line that begins with field and value."""
    with pytest.raises(jaxppo.ConfigError) as error:
        Settings(**{field: value})
    message = str(error.value)
    assert message.startswith(f"{field}=")
    assert "must be" in message
    assert "\n" not in message
    assert error.value.field == field
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize(("field", "value"), [("maybe", 1e39), ("maybe", np.array([1.0, 1e300])), ("positive", 1e-50)])
def test_numbers_beyond_float32_are_refused(field, value):
    """Training is in float32, where these would be infinite or zero."""
    with pytest.raises(jaxppo.ConfigError):
        Settings(**{field: value})


def test_frozen():
    """A field can't be set after construction."""
    with pytest.raises(AttributeError):
        Settings().rate = 0.1


def test_only_numbers_are_leaves():
    """Numbers are leaves in order; everything else, and nothing else, is in the treedef."""
    leaves, treedef = jax.tree.flatten(Settings(rate=0.25, positive=3.0, limit=4.0))
    assert leaves == [0.25, 3.0, 4.0]
    assert treedef == jax.tree.structure(Settings(rate=0.9))
    for other in (Settings(count=4), Settings(on=False), Settings(kind="b"), Settings(maybe=1.0)):
        assert jax.tree.structure(other) != treedef


def test_round_trip_and_paths():
    """Flattening and unflattening gives an equal object, and key paths are the fields' names."""
    settings = Settings(rate=0.25, count=9, kind="b")
    leaves, treedef = jax.tree.flatten(settings)
    assert jax.tree.unflatten(treedef, leaves) == settings
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(settings)]
    assert paths == [".rate", ".positive", ".limit"]


@pytest.mark.parametrize("leaf", [None, 0, "axis", -5.0])
def test_rules_are_not_for_rebuilt_objects(leaf):
    """JAX may rebuild an object with any leaves: axes, None, tracers."""
    rebuilt = jax.tree.map(lambda _: leaf, Settings())
    assert rebuilt.rate is leaf
    assert rebuilt.count == 3


def test_tracers_are_accepted():
    """An object may be constructed inside a traced function."""
    assert jax.jit(lambda rate: Settings(rate=rate).rate * 2)(0.25) == 0.5


def test_suggestions():
    """Close names are suggested, closest first, whatever their case."""
    options = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"]
    assert suggest("cartpole-V1", options).startswith("did you mean CartPole-v1")
    assert suggest("Pendulm", options).startswith("did you mean Pendulum-v1")
