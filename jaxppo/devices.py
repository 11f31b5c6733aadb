"""Agents over the devices of this machine, and the cores of its CPU as devices.

XLA runs the operations of a training loop one after the other, and small ones leave all cores of a CPU but one idle. So
it is faster to train an agent on each core than to train them all in step, and where there is but one agent, to divide
its environments and minibatches over the cores, or to learn policy and value on a core each (`jaxppo.together`;
docs/performance.md has the measurements).
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxppo import together
from jaxppo.cores import num_cores
from jaxppo.learners import SGD

if TYPE_CHECKING:  # it would import environments, and use_cores comes before those
    from jaxppo.config import Config

__all__ = ["Spread", "devices_for", "fill", "lanes", "partners", "spread", "use_cores"]

# Samples of the agents that are in step, by measurement: on a core of its own, and where all cores work on one device.
CORE_SAMPLES, SHARED_SAMPLES = 2**11, 2**14
# Samples of a minibatch that are worth a core, where several train one agent.
PARTNER_SAMPLES = 2**9

MOST_KNOWN = 64
_known_apart: dict[Any, bool] = {}  # by the structure of a config, which says all that matters; tracing it takes 20 ms


def use_cores() -> None:
    """Have JAX take each core of the CPU for a device, over which `train_agents` spreads agents, or one agent's work.

    They are those that this process may use: as many as it may run on, or as a quota of its container allows for. Call
    it before JAX's first computation. Where the number of CPU devices was chosen already, by `JAX_NUM_CPU_DEVICES`,
    `jax_num_cpu_devices` or in `XLA_FLAGS`, that number stays.

    Raises:
        RuntimeError: it comes too late.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if jax.config.jax_num_cpu_devices < 0 and not chosen:  # type: ignore[attr-defined]
        try:
            jax.config.update("jax_num_cpu_devices", num_cores())  # type: ignore[no-untyped-call]
        except RuntimeError:
            raise RuntimeError("jaxppo.use_cores() must come before JAX's first computation") from None


class Spread(NamedTuple):
    """Agents over devices.

    Attributes:
        num_agents: R: one, or as many on each device.
        devices: where they are trained. A single agent has all of them, which train it together.
        lanes: how many of a device's agents train in step, the others in turns.
    """

    num_agents: int
    devices: tuple[jax.Device, ...]
    lanes: int

    @property
    def each(self) -> int:
        """How many agents each device has."""
        return max(1, self.num_agents // len(self.devices))

    @property
    def placement(self) -> NamedSharding:
        """Where what has a first axis of agents lies: split evenly over the devices; one agent on each of them."""
        if self.num_agents == 1:
            return NamedSharding(Mesh(np.array(self.devices), (together.AXIS,)), PartitionSpec())
        return NamedSharding(Mesh(np.array(self.devices), ("agents",)), PartitionSpec("agents"))

    @property
    def everywhere(self) -> NamedSharding:
        """Where what they share lies: on each device."""
        return NamedSharding(self.placement.mesh, PartitionSpec())

    def over(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function(shared, …)` of one agent, for all of them.

        All arguments but the first and all results get a first axis of R.
        """
        share = self._share(function)
        if len(self.devices) == 1:
            return share
        if self.num_agents == 1:
            return together.everyone(share, self.devices)
        agents = self.placement

        def everywhere(shared: Any, *own: Any) -> Any:
            specs = (PartitionSpec(), *(agents.spec for _ in own))
            divided = jax.shard_map(share, mesh=agents.mesh, in_specs=specs, out_specs=agents.spec, check_vma=False)
            return divided(shared, *own)

        return everywhere

    def _share(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`over` on one device, of those agents that it has."""
        lanes, turns = self.lanes, self.each // self.lanes

        def in_step(shared: Any, own: Any) -> Any:
            if lanes > 1:
                return jax.vmap(lambda each: function(shared, *each))(own)
            # A batch axis of one would cost time.
            return jax.tree.map(lambda x: x[None], function(shared, *jax.tree.map(lambda x: x[0], own)))

        def share(shared: Any, *own: Any) -> Any:
            if turns == 1:
                return in_step(shared, own)
            own = jax.tree.map(lambda x: x.reshape((turns, lanes, *x.shape[1:])), own)
            results = jax.lax.map(lambda each: in_step(shared, each), own)
            return jax.tree.map(lambda x: x.reshape((turns * lanes, *x.shape[2:])), results)

        return share


def spread(config: "Config", num_agents: int, devices: tuple[jax.Device, ...] | None = None) -> Spread:
    """How to train so many agents like `config`, or a few more for equal shares, by default where it is fastest."""
    alone = num_agents == 1
    if devices is None:
        devices = partners(config) if alone else devices_for(num_agents)
    each = -(-num_agents // len(devices))
    return Spread(1 if alone else each * len(devices), devices, lanes(each, config.batch_size, devices))


def devices_for(num_agents: int) -> tuple[jax.Device, ...]:
    """The fewest local devices on which the largest share of so many agents is as small as on all."""
    devices = jax.local_devices()
    largest = -(-num_agents // len(devices))
    return tuple(devices[: -(-num_agents // largest)])


def partners(config: "Config") -> tuple[jax.Device, ...]:
    """The local devices that train one agent together: cores of a CPU, as many as its work divides over and is worth.

    Other devices are not known to gain from it, so there one does it all.
    """
    devices = jax.local_devices()
    if len(devices) == 1 or devices[0].platform != "cpu":
        return tuple(devices[:1])
    by_samples = _by_samples(config, len(devices))
    return tuple(devices[: by_samples if by_samples > 1 or not _apart(config) else 2])


def _by_samples(config: "Config", most: int) -> int:
    """How many devices take a share of every minibatch."""
    # With another objective the gradient, the most of the work, stays whole.
    if not getattr(getattr(config.learner, "objective", None), "mean_over_samples", False):
        return 1
    size = config.minibatch_size
    parts = size // config.num_steps if config.make_network().recurrent else size  # a sequence is not divided
    most = max(1, min(most, size // PARTNER_SAMPLES))
    return max(n for n in range(1, most + 1) if config.num_envs % n == 0 and parts % n == 0)


def _apart(config: "Config") -> bool:
    """Whether two devices learn a network each."""
    if not isinstance(config.learner, SGD) or not config.learner.separate:
        return False  # before anything is traced for it
    kind = jax.tree.structure(config)
    if kind not in _known_apart:
        if len(_known_apart) == MOST_KNOWN:
            del _known_apart[next(iter(_known_apart))]  # the oldest, with the environment of a user's that it holds
        network = config.make_network()
        params = jax.eval_shape(network.init, jax.random.key(0))
        halves = config.learner.apart(network, params, config.make_env().observation, config.minibatch_size)
        _known_apart[kind] = halves is not None
    return _known_apart[kind]


def lanes(num_agents: int, batch_size: int, devices: tuple[jax.Device, ...]) -> int:
    """How many of its `num_agents` a device trains in step, the others in turns; all but on a CPU.

    Args:
        num_agents: of each device.
        batch_size: environment steps per update of an agent.
        devices: what agents are spread over.
    """
    if devices[0].platform != "cpu":
        return num_agents
    shared = len(devices) == 1
    most = min(num_agents, max(1, (SHARED_SAMPLES if shared else CORE_SAMPLES) // batch_size))
    best = max(count for count in range(1, most + 1) if num_agents % count == 0)
    # Few in step leave cores idle that work on one device, so where the number divides badly there, all are.
    return num_agents if shared and best <= most // 2 else best


def fill(tree: Any, num_agents: int) -> Any:
    """Leaves [R, …] as [num_agents, …], the last agent repeated."""
    return jax.tree.map(lambda x: x[np.minimum(np.arange(num_agents), len(x) - 1)], tree)
