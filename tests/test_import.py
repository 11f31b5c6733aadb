"""What importing the package does and does not do, seen from a fresh process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxppo

ROOT = Path(jaxppo.__file__).parent.parent


def fresh(code):
    """Standard output of a new interpreter that runs `code`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("XLA_FLAGS", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_touches_nothing():
    """`import jaxppo` imports neither JAX nor gymnax, and leaves the environment variables alone."""
    code = """
import os, sys
before = dict(os.environ)
import jaxppo
assert dict(os.environ) == before
print(sorted({"jax", "gymnax", "flax", "optax", "matplotlib", "numpy"} & set(sys.modules)))
"""
    assert fresh(code).strip() == "[]"


def test_using_every_name_starts_no_backend():
    """Resolving every public name starts no JAX backend and imports no gymnax, so platform choices stay open."""
    code = """
import os, sys
before = dict(os.environ)
import jaxppo
for name in jaxppo.__all__:
    getattr(jaxppo, name)
assert "gymnax" not in sys.modules
from jax._src import xla_bridge
assert not xla_bridge._backends
changed = {name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)}
print(sorted(changed))
"""
    assert fresh(code).strip() == "[]"


def test_no_drawing_without_a_picture():
    """The libraries that gymnax draws with are not imported with its environments, but as soon as they are used."""
    code = """
import sys
import jaxppo
jaxppo.Config(env="Pong-misc")
print(sorted({"matplotlib", "matplotlib.pyplot", "seaborn", "pandas", "scipy.stats"} & set(sys.modules)))
from gymnax.environments.misc import pong
assert type(pong.plt).__name__ == "_Postponed" and not hasattr(pong.sns, "__file__")
assert "seaborn" not in sys.modules
assert pong.sns.color_palette is sys.modules["seaborn"].color_palette
from matplotlib import colors, pyplot
assert pong.plt.subplots is pyplot.subplots and pong.plt is not pyplot
assert pong.colors.ListedColormap is colors.ListedColormap
import pickle
assert pickle.loads(pickle.dumps(pong.plt)) is pyplot
"""
    assert fresh(code).strip() == "[]"


def test_what_is_asked_for_at_once_is_imported_at_once():
    """A module that is used while it is postponed, perhaps by another thread, is the real one from then on."""
    code = """
import sys
from jaxppo.envs.postponed import postponed
with postponed("colorsys", "wave"):
    import colorsys, wave
    assert type(colorsys).__name__ == type(wave).__name__ == "_Postponed"
    assert colorsys.rgb_to_hsv(1, 0, 0) == (0, 1, 1)
    import colorsys as real
    assert type(real).__name__ == "module"
    assert sys.modules["wave"] is wave
assert sys.modules["colorsys"] is real
print("wave" in sys.modules)
"""
    assert fresh(code).strip() == "False"


def test_drawing_libraries_that_are_there_stay():
    """Modules imported before gymnax are what its environments get."""
    code = """
import sys
from matplotlib import pyplot
import jaxppo
jaxppo.Config(env="Pong-misc")
from gymnax.environments.misc import pong
print(pong.plt is pyplot is sys.modules["matplotlib.pyplot"])
"""
    assert fresh(code).strip() == "True"


@pytest.mark.parametrize("name", jaxppo.__all__)
def test_every_public_name_resolves(name):
    """Each name in `__all__` is an attribute, and listed by `dir`."""
    assert getattr(jaxppo, name) is not None
    assert name in dir(jaxppo)


@pytest.mark.parametrize("name", ["compilation", "envs", "fields", "figures", "networks", "scoring", "stats"])
def test_modules_that_the_documentation_names(name):
    """They are attributes of the package at once, without an import of their own."""
    assert fresh(f"import jaxppo; print(jaxppo.{name}.__name__)").strip() == f"jaxppo.{name}"


def test_pictures_leave_the_choice_of_a_backend_alone():
    """Of matplotlib: who imports the figures may want to see others in a window."""
    code = """
import matplotlib
matplotlib.use("svg")
import jaxppo.figures, jaxppo.plot
print(matplotlib.get_backend())
"""
    assert fresh(code).strip() == "svg"


def test_unknown_name():
    """A name that doesn't exist is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        jaxppo.tarin  # noqa: B018


def test_version_is_that_of_the_package():
    """The version has three numbers."""
    assert [part.isdigit() for part in jaxppo.__version__.split(".")] == [True] * 3
