"""Actor-critic networks as bundles of pure functions; feed-forward is recurrence with an empty carry."""

from jaxppo.networks.actor_critic import CNN, MLP, ActorCritic, Custom
from jaxppo.networks.base import Network, NetworkSpec

__all__ = ["CNN", "MLP", "ActorCritic", "Custom", "Network", "NetworkSpec"]
