"""Action masks: what is not allowed is never done, has no probability and no gradient, and a mask
that allows nothing is named.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs, losses
from onejit.algos import mdpo, npg_igt, ppo, sac, spo, staq
from onejit.algos.core import guard, masks
from onejit.algos.core.config import ConfigError
from onejit.algos.core.heads import categorical_head
from onejit.algos.core.networks import Networks
from onejit.envs.masks import Masks

ENV = envs.make("probe/mask")
ON_POLICY = {"num_envs": 8, "num_steps": 8, "num_minibatches": 2, "hidden_sizes": (4,)}
REPLAY = {"num_envs": 4, "learning_starts": 64, "buffer_size": 256, "batch_size": 16}
SIZES = {"actor_hidden_sizes": (4,), "critic_hidden_sizes": (4,)}
CASES = {
    "ppo": (ppo, ON_POLICY),
    "ppo gru": (ppo, ON_POLICY | {"memory": "gru", "memory_size": 4}),
    "ppo shared": (ppo, ON_POLICY | {"shared_torso": True}),
    "ppo shared gru": (ppo, ON_POLICY | {"shared_torso": True, "memory": "gru", "memory_size": 4}),
    "spo": (spo, ON_POLICY),
    "mdpo": (mdpo, ON_POLICY),
    "sac": (sac, REPLAY | SIZES | {"normalize_obs": True}),
    "sac gru": (sac, REPLAY | SIZES | {"memory": "gru", "memory_size": 4, "sequence_length": 4}),
    "npg_igt": (npg_igt, {"num_envs": 8, "horizon": 8, "hidden_sizes": (4,)}),
    "staq": (staq, REPLAY | {"num_steps": 4, "memory": 2, "hidden_sizes": (4,), "epsilon": 0.5}),
}
SHORT = ("ppo",)


def test_a_masked_action_has_no_probability_no_entropy_and_no_gradient():
    obs = {"state": jnp.ones((2, 1)), "action_mask": jnp.array([[1, 0, 1], [0, 0, 1]], bool)}
    raw = jnp.array([[0.0, 50.0, 1.0], [3.0, 2.0, -1.0]])
    logits = masks.mask_logits(raw, obs)
    # Of two allowed actions with logits 0 and 1, as if there were no other; of one, certain.
    p = np.array([1.0, np.e]) / (1.0 + np.e)
    np.testing.assert_allclose(jax.nn.softmax(logits), [[p[0], 0, p[1]], [0, 0, 1]], rtol=1e-6)
    entropy = losses.categorical_entropy(logits)
    np.testing.assert_allclose(entropy, [-np.sum(p * np.log(p)), 0.0], rtol=1e-6)
    np.testing.assert_array_equal(losses.categorical_kl(logits, logits), [0.0, 0.0])

    def everything(raw):
        logits = masks.mask_logits(raw, obs)
        actions = jnp.array([2, 2])
        total = losses.categorical_log_prob(actions, logits) + losses.categorical_entropy(logits)
        other = masks.mask_logits(2.0 * raw, obs)
        return jnp.sum(total + losses.categorical_kl(logits, other))

    gradient = np.asarray(jax.grad(everything)(raw))
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[~np.asarray(obs["action_mask"])], 0.0)
    assert np.all(gradient[0, [0, 2]] != 0.0)
    keys = jax.random.split(jax.random.key(0), 1000)
    drawn = jax.vmap(categorical_head(envs.Discrete(3)).sample, (0, None))(keys, logits)
    assert set(np.unique(drawn[:, 0])) == {0, 2} and set(np.unique(drawn[:, 1])) == {2}
    keys = jax.random.split(jax.random.key(1), 1000)
    other = jax.vmap(lambda key: masks.random_action(key, obs, (2,), 3))(keys)
    assert set(np.unique(other[:, 0])) == {0, 2} and set(np.unique(other[:, 1])) == {2}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SHORT else pytest.mark.slow) for name in CASES]
)
def test_no_masked_action_is_taken_in_training_prefill_and_evaluation(name):
    module, settings = CASES[name]
    algorithm = module.make(ENV, module.Config(**settings))
    evaluate = algos.evaluator(algorithm, num_episodes=16, deterministic=False)

    @jax.jit
    def run(key):
        state, history = algos.train(algorithm, key, num_iterations=18, log_every=9)
        return state, history, evaluate(state, jax.random.key(1))

    state, history, evaluated = run(jax.random.key(0))
    assert not np.any(history["charts/fault"])
    # An error costs 10,000: no mean of returns of at most 8 is above 0 with one.
    assert np.min(history["charts/episodic_return"]) >= 0.0
    assert evaluated["eval/episodic_return"] >= 0.0
    if hasattr(state, "replay"):
        written = state.replay.rows.reward[: int(state.replay.size)]
        assert written.size and np.min(written) >= 0.0
    # Whatever its logits are: greedily too, for one mask of each single action.
    obs = {"state": jnp.ones((5, 1)), "action_mask": jnp.eye(5, dtype=bool)}
    action = algorithm.act(state, obs, jax.random.key(2), True)
    np.testing.assert_array_equal(action, np.arange(5))
    logits = algorithm.logits(state, obs)
    np.testing.assert_array_equal(jax.nn.softmax(logits), np.eye(5))


class Stuck(Masks):
    """In its third step nothing is allowed any more."""

    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        state = state._replace(mask=state.mask & (state.time != 2))
        return state, step._replace(obs=step.obs | {"action_mask": state.mask})


@pytest.mark.slow
@pytest.mark.parametrize(
    "module, settings", [(ppo, ON_POLICY), (sac, REPLAY | SIZES)], ids=["ppo", "sac"]
)
def test_a_mask_that_allows_nothing_is_named_and_nothing_is_learned_from_it(module, settings):
    algorithm = module.make(Stuck(), module.Config(**settings))
    before = jax.jit(algorithm.init)(jax.random.key(0))
    state, metrics = jax.jit(algorithm.step)(before)
    place = "in iteration 0, step 2 of the rollout, environment 0"
    assert guard.describe(state.learner.fault) == f"an action mask that allows nothing {place}"
    assert guard.describe(metrics["charts/fault"]) == "an action mask that allows nothing"
    for old, new in zip(
        *(jax.tree.leaves(each.learner.params) for each in (before, state)), strict=True
    ):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(envs.ContractError, match="allows nothing before step 2"):
        envs.check(Stuck())


class Goal(Masks):
    """Shows a goal too."""

    def __init__(self):
        super().__init__()
        self.observation_space["goal"] = envs.Box(0.0, 1.0, (2,))

    def _observation(self, state):
        return super()._observation(state) | {"goal": jnp.zeros(2)}


class Entries(nn.Module):
    """Sees these entries, and there are no others."""

    size: int
    names: tuple[str, ...]

    @nn.compact
    def __call__(self, obs):
        assert set(obs) == set(self.names)
        parts = [obs[name].astype(jnp.float32) for name in self.names]
        out = nn.Dense(self.size or 1)(jnp.concatenate(parts, axis=-1))
        return out if self.size else out[..., 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "sac", "staq"])
def test_own_networks_see_every_entry_but_a_policy_not_the_mask(name):
    module, settings = CASES[name]
    seen, all_entries = ("state", "goal"), ("state", "goal", "action_mask")
    policy, critic = Entries(5, seen), Entries(5, all_entries)
    networks = {
        "ppo": (Networks, policy, Entries(0, all_entries), categorical_head(envs.Discrete(5))),
        "sac": (sac.Networks, policy, critic),
        "staq": (lambda network: network, critic),
    }[name]
    algorithm = module.make(Goal(), module.Config(**settings), networks[0](*networks[1:]))
    state, history = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=20))(
        jax.random.key(0)
    )
    assert not np.any(history["charts/fault"])
    assert np.nanmin(history["charts/episodic_return"]) >= 0.0
    obs = {
        "state": jnp.ones((5, 1)),
        "goal": jnp.zeros((5, 2)),
        "action_mask": jnp.eye(5, dtype=bool),
    }
    action = algorithm.act(state, obs, jax.random.key(2), True)
    np.testing.assert_array_equal(action, np.arange(5))


def test_masks_that_fit_no_actions_are_refused():
    class Wrong(Masks):
        def __init__(self, **changes):
            super().__init__()
            self.observation_space |= changes.pop("spaces", {})
            self.action_space = changes.pop("action_space", self.action_space)

    wrong = [
        Wrong(spaces={"action_mask": envs.Box(False, True, (4,), bool)}),
        Wrong(spaces={"action_mask": envs.Box(0.0, 1.0, (5,))}),
        Wrong(action_space=envs.Box(-1.0, 1.0, (5,))),
    ]
    for env in wrong:
        with pytest.raises(ConfigError, match="must be a Box of bool of the shape"):
            ppo.make(env)
        with pytest.raises(envs.ContractError, match="must be a Box of bool of the shape"):
            envs.check(env)
    # What the default networks would ignore is still named.
    more = Wrong(spaces={"goal": envs.Box(0.0, 1.0, (2,))})
    for module in (ppo, sac, staq):
        with pytest.raises(ConfigError, match="a dict with 'goal'"):
            module.make(more)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "sac", "staq"])
def test_the_largest_allowed_action_is_learned(name, jit_to_learn):
    module, settings = CASES[name]
    total = {"ppo": 20_000, "sac": 6_000, "staq": 6_000}[name]
    more = {"learning_rate": 1e-2, "total_steps": total, "gamma": 0.5}
    more |= {"ppo": {}, "sac": {"initial_alpha": 0.1, "target_entropy": 0.1}, "staq": {}}[name]
    algorithm = module.make(ENV, module.Config(**settings | more))
    iterations = algorithm.iterations(total)
    state, _ = jit_to_learn(lambda key: algos.train(algorithm, key, num_iterations=iterations))(
        jax.random.key(0)
    )
    evaluated = jax.jit(algos.evaluator(algorithm))(state, jax.random.key(1))
    assert evaluated["eval/episodic_return"] > 7.5
