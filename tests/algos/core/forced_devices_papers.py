"""Papers on a real mesh: `test_distribution.py` runs this file in a process of eight devices."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import dataset

spec = importlib.util.spec_from_file_location(
    "forced_devices", Path(__file__).with_name("forced_devices.py")
)
forced_devices = importlib.util.module_from_spec(spec)
spec.loader.exec_module(forced_devices)

ROLLOUTS = {"num_envs": 8, "num_steps": 8, "num_minibatches": 2, "hidden_sizes": (8,)}
UPDATES = {
    "batch_size": 16,
    "actor_hidden_sizes": (8,),
    "critic_hidden_sizes": (8,),
}
REPLAY = UPDATES | {"num_envs": 8, "buffer_size": 8 * 51, "learning_starts": 32}
FLOW = {"flow_steps": 2}
ONLINE = {
    "fixpo": ROLLOUTS,
    "ppo_ewma": ROLLOUTS | {"staleness": 1},
    "props": ROLLOUTS | {"refresh_every": 4, "behaviour_epochs": 2, "behaviour_minibatches": 2},
    "trpo": ROLLOUTS,
    "td3": REPLAY,
    "fast_td3": REPLAY | {"num_atoms": 5},
    "aq_fast_sac": REPLAY,
    "crossq": REPLAY | {"policy_delay": 1},
    "mdpo_off_policy": REPLAY,
    "expo": REPLAY | FLOW | {"num_samples": 2, "num_edits": 2},
}
OFFLINE = {
    "bc": UPDATES,
    "flow_bc": UPDATES | FLOW,
    "cdsa_lite": UPDATES,
    "td3_bc": UPDATES,
    "iql": UPDATES,
    "rebrac": UPDATES,
    "prdc": UPDATES,
    "a2pr": UPDATES | {"vae_hidden_sizes": (8,)},
    "famo2o": UPDATES,
}


@pytest.mark.parametrize("name", [*ONLINE, *OFFLINE])
def test_two_devices_learn_and_stay_alike(name):
    env = envs.make("gymnax/Pendulum-v1")
    module = getattr(algos, name)
    config = module.Config(**(ONLINE | OFFLINE)[name])
    data = {}
    if name in OFFLINE:
        data = {"data": dataset.record_random(env, jax.random.key(1), num_steps=128)}
    algorithm = algos.distribute(module.make(env, config, **data), algos.make_mesh(2))
    begun = jax.jit(algorithm.init)(jax.random.key(0))
    step = jax.jit(algorithm.step)
    state, _ = step(begun)
    state, metrics = step(state)
    forced_devices.assert_replicas_are_alike(state)
    assert metrics["charts/fault"] == 0
    moved = jax.tree.map(
        lambda new, old: np.any(np.asarray(new) != old),
        state.learner.params,
        begun.learner.params,
    )
    assert any(jax.tree.leaves(moved))
