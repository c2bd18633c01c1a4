"""The published hyperparameters are what their source says."""

import pytest
from mujoco_playground import locomotion
from mujoco_playground.config import locomotion_params

from onejit.algos.host import presets
from onejit.algos.host.published import PUBLISHED


@pytest.mark.parametrize("name", locomotion.ALL_ENVS)
def test_ppo_has_what_playground_has_for_its_robots(name):
    ours = presets.get("ppo", f"playground/{name}")
    theirs = locomotion_params.brax_ppo_config(name)
    same = {
        "gamma": "discounting",
        "ent_coef": "entropy_cost",
        "max_grad_norm": "max_grad_norm",
        "num_envs": "num_envs",
        "num_steps": "unroll_length",
        "num_minibatches": "num_minibatches",
        "normalize_obs": "normalize_observations",
        "total_steps": "num_timesteps",
    }
    assert {each: ours[each] for each in same} == {a: theirs[b] for a, b in same.items()}
    assert ours["clip_eps"] == theirs.get("clipping_epsilon", 0.3)  # Brax's default
    assert ours["hidden_sizes"] == tuple(theirs.network_factory.policy_hidden_layer_sizes)
    # What is left to PPO's own default here.
    assert (theirs.learning_rate, theirs.num_updates_per_batch) == (3e-4, 4)
    assert (theirs.reward_scaling, theirs.action_repeat) == (1.0, 1)
    # As many trajectories as there are environments in an iteration there too.
    assert theirs.batch_size * theirs.num_minibatches == theirs.num_envs


def test_what_is_published_and_what_is_tuned_do_not_overlap():
    for algorithm, known in PUBLISHED.items():
        assert not set(known) & set(presets.PRESETS.get(algorithm, {}))
        for env_id in known:
            assert presets.get(algorithm, env_id) == known[env_id]
