"""Made-up tables of sweeps, with learning curves that look like real ones."""

import itertools
import json

import numpy as np
import pandas as pd

from jaxppo.settings import from_settings, to_settings
from jaxppo.tables import Results

# A random policy's return, the return at the end of training at best, its spread over seeds.
LEVELS = {
    "CartPole-v1": (20.0, 500.0, 30.0),
    "Pendulum-v1": (-1400.0, -180.0, 60.0),
    "Acrobot-v1": (-500.0, -85.0, 10.0),
    "MountainCar-v0": (-200.0, -110.0, 8.0),
    "Catch-bsuite": (-0.6, 1.0, 0.03),
    "Breakout-MinAtar": (0.5, 27.0, 4.0),
    "Freeway-MinAtar": (0.1, 56.0, 3.0),
    "SpaceInvaders-MinAtar": (2.5, 87.0, 8.0),
    "Asterix-MinAtar": (0.4, 2.0, 0.2),
    "FourRooms-misc": (0.0, 1.0, 0.02),
    "Reacher-misc": (3.0, 58.0, 2.0),
    "DeepSea-bsuite": (0.0, 0.99, 0.01),
}
MANIFEST = {
    "command": "jaxppo sweep --env <all> & more",
    "versions": {"python": "3.11.9", "jaxppo": "0.1.0", "jax": "0.9.2"},
    "device": {"platform": "cpu", "kind": "cpu", "count": 1},
    "git_revision": "0123456789abcdef0123456789abcdef01234567",
    "status": "finished",
}


def cell(value):
    """A setting as it stands in the agents' table."""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict) else value


def make(envs=("CartPole-v1",), grid=None, seeds=3, updates=60, key=0):
    """Results of all combinations of `grid` in each environment; settings further on learn slower and less."""
    rng = np.random.default_rng(key)
    combinations = [dict(zip(grid or {}, values, strict=True)) for values in itertools.product(*(grid or {}).values())]
    agents, metrics = [], []
    for setting, (env, given) in enumerate(itertools.product(envs, combinations)):
        config = from_settings({"env": env, "num_envs": 8, "num_steps": 128, **given})
        settings = {name: cell(value) for name, value in to_settings(config).items()}
        handicap = combinations.index(given) / max(1, len(combinations))
        for seed in range(seeds):
            agent = len(agents)
            agents.append({"agent": agent, "setting": setting, "seed": seed, "status": "finished", **settings})
            metrics.append(curve(rng, agent, LEVELS[env], handicap, updates, config.batch_size))
    return Results(dict(MANIFEST), pd.DataFrame(agents), pd.concat(metrics, ignore_index=True))


def curve(rng, agent, level, handicap, updates, batch_size):
    """The metrics of one agent: a sigmoid with noise, and now and then an update in which no episode ended."""
    low, high, spread = level
    update = np.arange(1, updates + 1)
    end = high - 0.6 * handicap * (high - low) + spread * rng.normal() * (0.2 + handicap)
    progress = 1 / (1 + np.exp(-(update / updates - 0.3 - 0.3 * handicap + 0.03 * rng.normal()) * 14))
    progress = (progress - progress[0]) / (1 - progress[0])
    value = low + (end - low) * progress + 0.3 * spread * rng.normal(size=updates)
    return pd.DataFrame(
        {
            "agent": agent,
            "update": update,
            "env_steps": update * batch_size,
            "wall_time": np.linspace(0, 3.0 + 40 * handicap, updates + 1)[1:],
            "episodes": 5,
            "episode_return": np.where(rng.uniform(size=updates) < 0.05, np.nan, value),
            "grad_norm": 0.5,
        }
    )


def diverge(results, agents):
    """The results had these agents diverged at half time, with an action ever after that happens to be good."""
    late = results.metrics["agent"].isin(agents) & (results.metrics["update"] > results.metrics["update"].max() / 2)
    metrics = results.metrics.copy()
    metrics.loc[late, ["episode_return", "grad_norm"]] = 1e6, np.nan
    status = results.agents["status"].where(~results.agents["agent"].isin(agents), "diverged")
    return results._replace(agents=results.agents.assign(status=status), metrics=metrics)


def population(results):
    """The results had the agents been a population, the last learning rates of which are 1, 2 and so on."""
    manifest = {**results.manifest, "population": {"perturb": ["learning_rate"]}}
    return results._replace(
        manifest=manifest, metrics=results.metrics.assign(learning_rate=results.metrics["agent"] + 1.0)
    )


def write(results, path):
    """The directory of a sweep, as the tables' own module reads it."""
    (path / "metrics").mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps(results.manifest))
    results.agents.to_parquet(path / "agents.parquet", index=False)
    results.metrics.to_parquet(path / "metrics" / "00000.parquet", index=False)
