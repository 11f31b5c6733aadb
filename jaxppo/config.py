"""The configuration of a training run: a frozen pytree, checked in full when it is made."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo import backend, envs
from jaxppo.envs import wrappers
from jaxppo.envs.checks import check_env
from jaxppo.envs.zeros import always_zero
from jaxppo.fields import check, flag, hyperparameters, is_a, is_pytree, is_real, nested, number, plain, whole
from jaxppo.learners import SGD, Learner, TrustRegion
from jaxppo.networks import CNN, MLP, Custom, Network, NetworkSpec
from jaxppo.networks.kept import keeping

__all__ = ["Config", "EnvParams", "batch_axes", "canonical", "field_name"]


@jax.tree_util.register_pytree_with_keys_class
class EnvParams(Mapping[str, Any]):
    """Overrides of an environment's parameters: arrays are leaves, Python numbers are constants of the program."""

    def __init__(self, values: Mapping[str, Any] | None = None):
        values = dict(sorted((values or {}).items()))
        self._constants = {name: value for name, value in values.items() if isinstance(value, bool | int | float)}
        self._arrays = {name: value for name, value in values.items() if name not in self._constants}

    def __getitem__(self, name: str) -> Any:
        return self._arrays[name] if name in self._arrays else self._constants[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted([*self._constants, *self._arrays]))

    def __len__(self) -> int:
        return len(self._constants) + len(self._arrays)

    def __hash__(self) -> int:
        return hash(tuple(self.items()))  # which arrays have not

    def __repr__(self) -> str:
        return repr(dict(self))

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        children = tuple((jax.tree_util.DictKey(name), value) for name, value in self._arrays.items())
        return children, (tuple(self._arrays), tuple(self._constants.items()))

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> "EnvParams":
        names, constants = aux
        self = cls(dict(constants))
        self._arrays = dict(zip(names, children, strict=True))
        return self


def _is_env_params(value: Any) -> bool:
    def ok(number: Any) -> bool:
        traced = isinstance(number, jax.core.Tracer)
        return traced or isinstance(number, bool) or (is_real(number) and bool(np.all(np.isfinite(number))))

    return isinstance(value, Mapping) and all(isinstance(name, str) and ok(value[name]) for name in value)


@hyperparameters
class Config:
    """Everything that `jaxppo.train` needs but the key.

    Fields that shape the program are static; numbers such as `gamma` or the learner's `learning_rate` are leaves, which
    can be traced, stacked and vmapped. A bad value raises `jaxppo.ConfigError` at once.
    """

    env: Any = plain(
        default="CartPole-v1", ok=lambda v: v is not None, allowed="the name of an environment or an environment object"
    )
    """The environment: a name, or (from Python) an object."""
    frame_stack: int = whole(default=1, minimum=1)
    """Observations that the network sees at once."""
    observe_last: bool = flag(default=False)
    """Show the network the last action and reward too."""
    truncation_is_terminal: bool = flag(default=False)
    """Take time limits for real ends, after which nothing has a value."""
    total_timesteps: int = whole(default=500_000, minimum=1)
    """Environment steps to train for, over all environments."""
    num_envs: int = whole(default=4, minimum=1)
    """Environments stepped side by side."""
    num_steps: int = whole(default=128, minimum=1)
    """Steps of each environment between two updates."""
    gamma: float = number(default=0.99, low=0, high=1)
    """Discount factor."""
    gae_lambda: float = number(default=0.95, low=0, high=1)
    """Lambda of generalised advantage estimation."""
    normalize_obs: bool = flag(default=False)
    """Normalise observations with their running mean and standard deviation."""
    obs_clip: float = number(default=10.0, above=0, infinite=True)
    """Limit of normalised observations, in standard deviations."""
    normalize_reward: bool = flag(default=False)
    """Divide rewards by the running standard deviation of the discounted return."""
    reward_clip: float = number(default=10.0, above=0, infinite=True)
    """Limit of normalised rewards."""
    env_params: Mapping[str, float] = nested(
        default_factory=EnvParams,
        ok=_is_env_params,
        allowed="a mapping from parameter names to finite numbers or arrays of them",
    )
    """Overrides of the environment's parameters: plain numbers are compiled in, arrays are leaves; an array [num_envs]
    gives each environment its own."""
    network: MLP | CNN | Custom | NetworkSpec = plain(
        default=MLP(), ok=lambda v: is_a(v, "build"), allowed="a network such as jaxppo.MLP()"
    )
    """The actor-critic network."""
    learner: SGD | TrustRegion | Learner = nested(
        default_factory=SGD,
        ok=lambda v: is_a(v, "init", "update", "check") and is_pytree(v),
        allowed="a learner such as jaxppo.SGD(), registered as a pytree",
    )
    """How the parameters move."""

    def __post_init__(self) -> None:
        if not isinstance(self.env_params, EnvParams):
            object.__setattr__(self, "env_params", EnvParams(self.env_params))
        if not isinstance(self.env, str):
            check_env(envs.make(self.env))
        envs.override(self.make_env(), self.env_params)
        batch = f"at least num_envs*num_steps={self.batch_size}, one update"
        check(self.total_timesteps >= self.batch_size, "total_timesteps", self.total_timesteps, batch)
        self.learner.check(self.num_envs, self.num_steps, self.make_network())

    @property
    def batch_size(self) -> int:
        """Environment steps per update."""
        return self.num_envs * self.num_steps

    @property
    def minibatch_size(self) -> int:
        """Environment steps per gradient step of `SGD`, and per update of other learners."""
        return self.batch_size // (self.learner.num_minibatches if isinstance(self.learner, SGD) else 1)

    @property
    def num_updates(self) -> int:
        """Updates in `total_timesteps`, rounded down."""
        return self.total_timesteps // self.batch_size

    def make_env(self) -> envs.Env:
        """The environment as the network meets it, the same object each time."""
        env = envs.make(self.env)
        if self.truncation_is_terminal:
            env = wrappers.truncation_is_terminal(env)
        if self.frame_stack > 1:
            env = wrappers.stack_frames(env, self.frame_stack)
        return wrappers.observe_last(env) if self.observe_last else env

    def make_network(self) -> Network:
        """The network bound to the environment's spaces."""
        env = self.make_env()
        network = self.network.build(env.observation, env.action_space(envs.override(env, self.env_params)))
        if not env.truths:
            return network
        # Not with learners of one's own, which may look at observations, nor where operations are launches.
        known = type(self.learner) in (SGD, TrustRegion) and not backend.launches_count()
        if known and type(self.network) is MLP and self.network.hidden:
            return keeping(network, env.observation, self.network.narrow, always_zero(env))
        return keeping(network, env.observation)


def batch_axes(config: Config) -> Config:
    """The `in_axes` for `jax.vmap` over a config with stacked leaves: 0 for each array with an axis, None for the rest.

    An environment parameter with a setting for each environment must be stacked too, to [agents, num_envs].

    Example:
        >>> rates = jnp.array([1e-4, 3e-4, 1e-3])
        >>> config = Config(learner=SGD(learning_rate=rates))
        >>> result = jax.vmap(jaxppo.train, in_axes=(batch_axes(config), None))(config, key)
    """
    return jax.tree.map(lambda leaf: 0 if np.ndim(leaf) else None, config)


def field_name(path: Any) -> str:
    """What the leaf of a config at this path is called, as in `learning_rate`."""
    return jax.tree_util.keystr(path, simple=True, separator=".").rsplit(".", 1)[-1]


def canonical(config: Config) -> Config:
    """The same config with every numeric leaf a strongly typed scalar, so that equal shapes never compile twice.

    Raises:
        ConfigError: no config, or a leaf with an axis that no `jax.vmap` has taken away.
    """
    check(isinstance(config, Config), "config", type(config).__name__, "a jaxppo.Config")

    def as_default(path: Any, leaf: Any) -> jax.Array:
        default = getattr(config.make_env().params, path[0].key)
        return jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(jnp.result_type(default)))

    def scalar(path: Any, leaf: Any) -> Any:
        if path[0] == jax.tree_util.GetAttrKey("env_params"):
            return leaf
        name = field_name(path)
        one = "one number here; to train an agent for each, jax.vmap over jaxppo.batch_axes(config)"
        check(np.ndim(leaf) == 0, name, f"array of shape {np.shape(leaf)}", one)
        # JAX takes its time with each array that it makes of a number, ten for every call.
        return np.float32(leaf) if isinstance(leaf, int | float) else jnp.asarray(leaf, jnp.float32)

    hyper = jax.tree_util.tree_map_with_path(scalar, config)
    env_params = jax.tree_util.tree_map_with_path(as_default, config.env_params)
    object.__setattr__(hyper, "env_params", env_params)
    return hyper
