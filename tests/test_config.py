"""What a Config refuses, what its leaves are, and that whatever it accepts can be initialised."""

import dataclasses
import math

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jaxppo
from jaxppo import envs

NAN = float("nan")
CLASSES = (
    jaxppo.Config,
    jaxppo.MLP,
    jaxppo.CNN,
    jaxppo.SGD,
    jaxppo.TrustRegion,
    jaxppo.Clip,
    jaxppo.AdaptiveKL,
    jaxppo.FixedKL,
)
CHILDREN = {"env_params", "learner", "objective"}
NUMBERS = [
    (cls, f.name)
    for cls in CLASSES
    for f in dataclasses.fields(cls)
    if not f.metadata["static"] and f.name not in CHILDREN
]
COUNTS = [(cls, f.name) for cls in CLASSES for f in dataclasses.fields(cls) if type(f.default) is int]
FLAGS = [(cls, f.name) for cls in CLASSES for f in dataclasses.fields(cls) if type(f.default) is bool]


def refuse(cls, field, value, *parts):
    """`cls(field=value)` raises a ConfigError on one line that names the field and holds every part."""
    with pytest.raises(jaxppo.ConfigError) as error:
        cls(**{field: value})
    message = str(error.value)
    assert message.startswith(f"{field}=")
    assert "\n" not in message
    for part in parts:
        assert part in message


def ids(cases):
    """`Class.field` for pytest's output."""
    return [f"{cls.__name__}.{field}" for cls, field in cases]


def test_every_kind_of_field_is_covered():
    """The lists that the tests below run over hold what they should."""
    assert {"gamma", "learning_rate", "clip_eps", "vf_clip_eps", "kl_target", "max_kl"} <= {name for _, name in NUMBERS}
    counts = {"num_envs", "num_steps", "total_timesteps", "num_epochs", "num_minibatches"}
    counts |= {"cg_iters", "line_search_steps", "vf_epochs", "vf_minibatches"}
    counts |= {"frame_stack", "memory_size", "kernel_size", "stride"}
    assert counts == {name for _, name in COUNTS}
    assert {"normalize_obs", "anneal_lr", "normalize_advantage"} <= {name for _, name in FLAGS}


@pytest.mark.parametrize(("cls", "field"), NUMBERS, ids=ids(NUMBERS))
@pytest.mark.parametrize("bad", [NAN, "0.5", True, np.array([0.5, NAN]), jnp.array([NAN]), [0.5], 1j, -1.0, -math.inf])
def test_no_number_takes_this(cls, field, bad):
    """Every numeric field refuses NaN, text, booleans, lists, complex and negative numbers, and arrays with one."""
    refuse(cls, field, bad)


@pytest.mark.parametrize(("cls", "field"), COUNTS, ids=ids(COUNTS))
@pytest.mark.parametrize("bad", [0, -1, 2.0, NAN, "4", True, None, 2**31])
def test_no_count_takes_this(cls, field, bad):
    """Every count refuses zero, negative and fractional numbers, text and booleans."""
    refuse(cls, field, bad, str(bad), "whole number >= 1")


@pytest.mark.parametrize(("cls", "field"), FLAGS, ids=ids(FLAGS))
@pytest.mark.parametrize("bad", [0, 1, "false", None])
def test_no_flag_takes_this(cls, field, bad):
    """Every flag refuses what is not a boolean."""
    refuse(cls, field, bad, "True or False")


@pytest.mark.parametrize("field", ["gamma", "gae_lambda"])
@pytest.mark.parametrize("bad", [-0.01, 1.01, math.inf])
def test_discounts_lie_in_the_unit_interval(field, bad):
    """γ and λ outside [0, 1] are refused, and the ends are not."""
    refuse(jaxppo.Config, field, bad, str(bad), "[0, 1]")
    for end in (0, 1):
        assert getattr(jaxppo.Config(**{field: end}), field) == end


@pytest.mark.parametrize("bad", [0, 0.0, -0.2, math.inf])
def test_clip_range_is_positive(bad):
    """ε of zero or below is refused."""
    refuse(jaxppo.Clip, "clip_eps", bad, str(bad), "> 0")


@pytest.mark.parametrize(
    ("name", "closest"),
    [("CartPol", "CartPole-v1"), ("pendulum", "Pendulum-v1"), ("breakout-minatar", "Breakout-MinAtar")],
)
def test_unknown_env(name, closest):
    """A name that no suite knows is refused, with the closest ones."""
    refuse(jaxppo.Config, "env", name, name, closest)


@pytest.mark.parametrize("bad", [None, 3, "", object(), {}, type(gymnax.make("CartPole-v1")[0])])
def test_not_an_env(bad):
    """What is neither a name nor an environment object is refused, a class too."""
    refuse(jaxppo.Config, "env", bad)


def test_unknown_env_parameter():
    """A parameter that the environment doesn't have is refused, with the closest ones."""
    refuse(jaxppo.Config, "env_params", {"gravty": 9.0}, "gravty", "gravity", "CartPole")


@pytest.mark.parametrize(
    "bad",
    [
        {"gravity": NAN},
        {"gravity": math.inf},
        {"gravity": "9.8"},
        {"gravity": None},
        {"gravity": [9.8, 9.9]},
        {"gravity": np.array([9.8, NAN])},
        {"gravity": np.array(["9.8"])},
        {"max_steps_in_episode": NAN},
        {3: 9.8},
        [("gravity", 9.8)],
        None,
    ],
    ids=repr,
)
def test_bad_env_parameters(bad):
    """Parameters are finite numbers or arrays of them, by name, and whole where the environment's own are."""
    refuse(jaxppo.Config, "env_params", bad)


def test_whole_env_parameters_stay_whole():
    """A fraction is refused where the environment's own parameter is a whole number."""
    with pytest.raises(jaxppo.ConfigError, match=r"max_steps_in_episode.*10\.5.*whole"):
        jaxppo.Config(env_params={"max_steps_in_episode": 10.5})
    assert jaxppo.Config(env_params={"max_steps_in_episode": 10.0}).env_params["max_steps_in_episode"] == 10


def test_env_parameters_of_an_env_without_any():
    """Overriding a parameter of an environment that has none is refused."""
    with pytest.raises(jaxppo.ConfigError, match="env_params="):
        jaxppo.Config(env=probes.constant_reward(), env_params={"gravity": 1.0})


def test_minibatches_divide_the_batch():
    """A number of minibatches that doesn't divide num_envs·num_steps is refused."""
    with pytest.raises(jaxppo.ConfigError, match=r"num_minibatches=3: .*num_envs\*num_steps=512") as error:
        jaxppo.Config(learner=jaxppo.SGD(num_minibatches=3))
    assert "\n" not in str(error.value)


def test_a_minibatch_of_one_can_not_be_normalised():
    """One sample per minibatch is refused while advantages are normalised, and allowed otherwise."""
    sizes = {"num_envs": 2, "num_steps": 4}
    with pytest.raises(jaxppo.ConfigError, match=r"num_minibatches=8: .*normalize_advantage"):
        jaxppo.Config(**sizes, learner=jaxppo.SGD(num_minibatches=8))
    jaxppo.Config(**sizes, learner=jaxppo.SGD(num_minibatches=8, normalize_advantage=False))
    jaxppo.Config(**sizes, learner=jaxppo.SGD(num_minibatches=4))


def test_at_least_one_update():
    """Fewer steps than one update takes are refused, and exactly as many are not."""
    refuse(jaxppo.Config, "total_timesteps", 511, "511", "512")
    assert jaxppo.Config(total_timesteps=512).num_updates == 1
    assert jaxppo.Config(total_timesteps=1023).num_updates == 1


@pytest.mark.parametrize("bad", [None, "mlp", 64, jaxppo.MLP])
def test_not_a_network(bad):
    """A network is an object that can be built, not its class."""
    refuse(jaxppo.Config, "network", bad, "jaxppo.MLP()")


@pytest.mark.parametrize("bad", [None, "sgd", 1e-3, jaxppo.SGD, jaxppo.Clip()])
def test_not_a_learner(bad):
    """A learner is an object that updates, not its class."""
    refuse(jaxppo.Config, "learner", bad, "jaxppo.SGD()")


@pytest.mark.parametrize("bad", [None, "clip", 0.2, jaxppo.Clip])
def test_not_an_objective(bad):
    """An objective is an object with a loss, not its class."""
    refuse(jaxppo.SGD, "objective", bad, "jaxppo.Clip()")


def test_an_objective_that_is_no_pytree():
    """A plain subclass has no numbers that could be traced."""
    refuse(jaxppo.SGD, "objective", type("Plain", (jaxppo.Objective,), {})(), "registered as a pytree")


@pytest.mark.parametrize("bad", [(0,), (-1,), (1.0,), [64], 64, ("64",), (True,), None])
def test_bad_hidden_widths(bad):
    """Hidden widths are a tuple of positive whole numbers."""
    refuse(jaxppo.MLP, "hidden", bad)


@pytest.mark.parametrize(("field", "bad"), [("activation", "tan"), ("activation", None), ("log_std_init", NAN)])
def test_bad_network_settings(field, bad):
    """Unknown activations and NaN are refused."""
    refuse(jaxppo.MLP, field, bad)


@pytest.mark.parametrize("objective", [None, jaxppo.Clip(), jaxppo.AdaptiveKL(), jaxppo.FixedKL(), jaxppo.Unclipped()])
def test_leaves_are_exactly_the_numbers(objective):
    """The leaves are every numeric field of the config, its learner and its objective, and nothing else."""
    learner = jaxppo.SGD(objective=objective, dual_clip=3.0, kl_limit=0.1) if objective else jaxppo.TrustRegion()
    leaves = jax.tree_util.tree_leaves_with_path(jaxppo.Config(learner=learner))
    parts = (jaxppo.Config, type(learner), type(objective))
    found = [jax.tree_util.keystr(path).rsplit(".", 1)[1] for path, _ in leaves]
    assert sorted(found) == sorted(name for cls, name in NUMBERS if cls in parts)


@pytest.mark.parametrize(
    "change",
    [{"env": "Pendulum-v1"}, {"num_envs": 8}, {"normalize_obs": True}, {"network": jaxppo.MLP(hidden=(8,))}]
    + [
        {"learner": jaxppo.SGD(**change)} for change in ({"anneal_lr": False}, {"num_epochs": 2}, {"vf_clip_eps": None})
    ],
    ids=str,
)
def test_what_shapes_the_program_is_in_the_treedef(change):
    """Static fields tell treedefs apart; numbers don't."""
    structure = jax.tree.structure(jaxppo.Config())
    assert jax.tree.structure(jaxppo.Config(**change)) != structure
    assert jax.tree.structure(jaxppo.Config(gamma=0.5, learner=jaxppo.SGD(learning_rate=1.0))) == structure


def test_round_trip():
    """A config survives flattening with everything it holds."""
    config = jaxppo.Config(
        env_params={"gravity": jnp.float32(9.0), "length": 0.6}, learner=jaxppo.SGD(vf_clip_eps=None)
    )
    leaves, treedef = jax.tree.flatten(config)
    again = jax.tree.unflatten(treedef, leaves)
    assert again == config
    assert dict(again.env_params) == {"gravity": jnp.float32(9.0), "length": 0.6}
    assert jax.tree.map(lambda leaf: None, config).gamma is None


def test_env_parameters_are_leaves_only_as_arrays():
    """A plain number is compiled in, an array is a leaf."""
    plain = jaxppo.Config(env_params={"gravity": 9.0})
    assert jax.tree.structure(plain) != jax.tree.structure(jaxppo.Config(env_params={"gravity": 9.1}))
    assert not jax.tree.leaves(plain.env_params)
    arrays = jaxppo.Config(env_params={"gravity": jnp.array([9.0, 9.1]), "length": np.float32(0.5), "force_mag": 9})
    paths = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(arrays.env_params)}
    assert paths == {"['gravity']", "['length']"}


def test_batch_axes():
    """Stacked leaves have axis 0 and the others None, env parameters included, as a prefix that vmap accepts."""
    learner = jaxppo.SGD(learning_rate=jnp.array([1e-3, 1e-4]), objective=jaxppo.Clip(clip_eps=np.array([0.1, 0.2])))
    config = jaxppo.Config(learner=learner, env_params={"gravity": jnp.array([9.0, 10.0]), "length": jnp.array(0.5)})
    axes = jaxppo.batch_axes(config)
    assert (axes.learner.learning_rate, axes.learner.objective.clip_eps, axes.env_params["gravity"]) == (0, 0, 0)
    assert (axes.gamma, axes.learner.ent_coef, axes.env_params["length"]) == (None, None, None)
    rows = jax.vmap(lambda c: (c.learner.learning_rate, c.env_params["gravity"], c.gamma), in_axes=(axes,))(config)
    np.testing.assert_allclose(rows, [[1e-3, 1e-4], [9, 10], [0.99, 0.99]], rtol=1e-6)


def test_the_environment_is_the_same_object_each_time():
    """Making it again makes nothing new, so programs are not compiled anew."""
    assert jaxppo.Config().make_env() is jaxppo.Config(gamma=0.5).make_env()
    env = gymnax.make("CartPole-v1")[0]
    assert jaxppo.Config(env=env).make_env() is jaxppo.Config(env=env).make_env()
    assert envs.make(probe := probes.constant_reward()) is probe


NUMBER = st.floats(0.01, 1)
ODD_NUMBER = st.one_of(st.floats(), st.integers(-2, 2), st.sampled_from([1e-45, 1e-50, 1e39, math.inf, NAN, "1", None]))
COUNT = st.sampled_from([1, 2, 4, 8])
ODD_COUNT = st.one_of(st.integers(-1, 12), st.sampled_from([2**31 - 1, 2**31, 2.0, True, None]))


@st.composite
def constructed(draw, odd):
    """A Config, or None where a value was refused; if `odd`, about one value in eight may be out of range."""
    number, count = NUMBER, COUNT
    if odd:
        number, count = (st.one_of(*[usual] * 7, rare) for usual, rare in ((NUMBER, ODD_NUMBER), (COUNT, ODD_COUNT)))

    def some(**options):
        return {name: draw(option) for name, option in options.items() if draw(st.booleans())}

    try:
        network = jaxppo.MLP(
            **some(
                hidden=st.lists(st.integers(1, 9), max_size=3).map(tuple),
                activation=st.sampled_from(["tanh", "relu", "swish", "gelu", "elu"]),
                shared=st.booleans(),
                orthogonal=st.booleans(),
            )
        )
        objective = draw(
            st.sampled_from(
                [
                    jaxppo.Clip(**some(clip_eps=number, anneal_clip=st.booleans())),
                    jaxppo.AdaptiveKL(**some(kl_target=number, kl_coef=number)),
                    jaxppo.FixedKL(**some(kl_coef=number)),
                    jaxppo.Unclipped(),
                    jaxppo.PolicyGradient(),
                ]
            )
        )
        if draw(st.integers(0, 3)):
            options = some(
                learning_rate=number,
                num_epochs=count,
                num_minibatches=count,
                ent_coef=number,
                vf_clip_eps=number | st.none(),
                dual_clip=st.just(3.0) | number | st.none(),
                kl_limit=number | st.none(),
                max_grad_norm=number,
                normalize_advantage=st.booleans(),
                adam_eps=number,
            )
            learner = jaxppo.SGD(objective=objective, **options)
        else:
            options = some(
                max_kl=number,
                cg_iters=count,
                cg_damping=number,
                cg_tolerance=number,
                line_search_steps=count,
                line_search_factor=number,
                vf_learning_rate=number,
                vf_minibatches=count,
                normalize_advantage=st.booleans(),
            )
            learner = jaxppo.TrustRegion(**options)
        return jaxppo.Config(
            network=network,
            learner=learner,
            **some(
                total_timesteps=st.integers(1024, 2**31 - 1),
                num_envs=count,
                num_steps=count,
                gamma=number,
                obs_clip=number,
                reward_clip=number,
                normalize_obs=st.booleans(),
                normalize_reward=st.booleans(),
                env_params=st.dictionaries(st.sampled_from(["gravity", "max_steps_in_episode"]), number | count),
            ),
        )
    except jaxppo.ConfigError:
        return None


def test_sizes():
    """Of an update and of a gradient step; learners that know no minibatches take all at once."""
    config = jaxppo.Config(num_envs=8, num_steps=32, learner=jaxppo.SGD(num_minibatches=16))
    assert (config.batch_size, config.minibatch_size) == (256, 16)
    assert jaxppo.Config(num_envs=8, num_steps=32, learner=jaxppo.TrustRegion()).minibatch_size == 256


@settings(max_examples=100)
@given(constructed(odd=True))
def test_what_constructs_can_be_traced(config):
    """No Config that constructs makes `init` or `update` fail to trace on CartPole; all others raise ConfigError."""
    if config is not None:
        state = jax.eval_shape(jaxppo.init, config, jax.random.key(0))
        after, metrics = jax.eval_shape(jaxppo.update, config, state)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
        assert {leaf.shape for leaf in jax.tree.leaves(metrics)} == {()}


@settings(max_examples=10)
@given(constructed(odd=False))
@example(jaxppo.Config())
def test_what_constructs_can_be_initialised(config):
    """No Config that constructs makes `init` fail on CartPole, and its parameters are finite."""
    if config is not None:
        state = jaxppo.init(config, jax.random.key(0))
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.policy.params))
