"""N-PG-IGT and HARPG: their momenta are exact on quadratics, products with the Hessian are right on
average and the released form is not, the limit that they share, and exact resume.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from onejit import algos, envs
from onejit.algos import harpg, npg_igt, parameter_steps
from onejit.algos.actor_only import trajectories
from onejit.algos.actor_only.loop import Networks
from onejit.algos.core import guard
from onejit.algos.core.config import ConfigError
from onejit.algos.core.heads import categorical_head
from onejit.algos.core.masks import Masked
from onejit.algos.core.recurrent import Recurrent

pytestmark = pytest.mark.slow

SIZES = {"num_envs": 4, "horizon": 3, "hidden_sizes": (4,)}
ENV = envs.make("probe/delay")
ROOT = jax.random.normal(jax.random.key(0), (3, 3))
HESSIAN = -ROOT @ ROOT.T


def gradient_of_quadratic(params):
    return HESSIAN @ params + jnp.arange(3.0)


@pytest.mark.parametrize("name", ["npg_igt", "harpg"])
def test_the_average_of_exact_gradients_of_a_quadratic_is_the_gradient(name):
    params, previous = jnp.array([1.0, 0.5, -1.0]), jnp.array([0.7, 0.9, -1.2])
    direction = gradient_of_quadratic(previous)
    at, product = params, None
    if name == "npg_igt":
        at = parameter_steps.look_ahead(params, previous, momentum=0.3)
    else:
        product = HESSIAN @ (params - previous)
    grads = gradient_of_quadratic(at)
    direction = parameter_steps.recursive_gradient(direction, grads, product, momentum=0.3)
    np.testing.assert_allclose(direction, gradient_of_quadratic(params), rtol=1e-4, atol=1e-4)


class Logits:
    """A policy that sees nothing: its parameters are the logits of three actions."""

    def apply(self, params, obs):
        return jnp.broadcast_to(params, (*obs.shape[:-1], 3))


BANDIT = Networks(Logits(), categorical_head(envs.Discrete(3)))
REWARD = jnp.array([1.0, -0.5, 2.0])
THETA = jnp.array([0.2, -0.4, 0.1])
VECTOR = jnp.array([0.3, 1.0, -0.7])


def pulls(*actions):
    """A batch of trajectories of one pull each, `[1, N]`."""
    action = jnp.array([actions], jnp.int32)
    yes = jnp.ones(action.shape, bool)
    obs = jnp.zeros((*action.shape, 1))
    return trajectories.Transition(obs, action, REWARD[action], yes, ~yes, obs)


def expectation(estimate, num_pulls=1):
    """Of an estimate of a batch, over all batches of so many pulls, each as probable as it is."""
    probs = np.asarray(jax.nn.softmax(THETA))
    total = 0.0
    for actions in np.ndindex(*[3] * num_pulls):
        total = total + np.prod(probs[list(actions)]) * np.asarray(estimate(pulls(*actions)))
    return total


def value(params):
    return jax.nn.softmax(params) @ REWARD


def weights_of(batch):
    return trajectories.score_weights(batch.reward, trajectories.alive(batch), gamma=0.9)


@pytest.mark.parametrize("num_pulls", [1, 2])
def test_gradient_and_product_are_right_on_average(num_pulls):
    """With two pulls the baseline of each is the other's reward."""

    @jax.jit
    def gradient(batch):
        return trajectories.gradient(THETA, batch, weights_of(batch), BANDIT)

    @jax.jit
    def product(batch):
        mask = trajectories.alive(batch)
        return trajectories.hessian_vector_product(
            THETA, batch, weights_of(batch), mask, VECTOR, BANDIT
        )

    slope, curved = jax.grad(value)(THETA), jax.hessian(value)(THETA) @ VECTOR
    np.testing.assert_allclose(expectation(gradient, num_pulls), slope, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(expectation(product, num_pulls), curved, rtol=1e-5, atol=1e-6)


def test_the_product_of_means_over_a_batch_is_another_number():
    """As released: ∇Φ and ∇log p are averaged over the batch and then multiplied."""

    @jax.jit
    def released(batch):
        weights = batch.reward

        def mean_of(weights):
            return lambda p: jnp.mean(weights * trajectories.log_probs(p, batch, BANDIT))

        inner = jax.jvp(jax.grad(mean_of(weights)), (THETA,), (VECTOR,))[1]
        along = jax.grad(mean_of(1.0))(THETA) @ VECTOR
        return jax.grad(mean_of(weights))(THETA) * along + inner

    curved = jax.hessian(value)(THETA) @ VECTOR
    assert np.abs(expectation(released, 2) - curved).max() > 0.05


def test_weights_by_hand():
    """γ = ½. The first ends after two steps, with returns to go 1 + ½·2 = 2 and ½·2 = 1; the second
    goes on, 4 + ½·0 + ¼·8 = 6, 2, 2. Each is taken off the other while both go on.
    """
    reward = jnp.array([[1.0, 4.0], [2.0, 0.0], [100.0, 8.0]])
    mask = jnp.array([[True, True], [True, True], [False, True]])
    weights = trajectories.score_weights(reward, mask, gamma=0.5)
    np.testing.assert_allclose(weights, [[-4.0, 4.0], [-1.0, 1.0], [0.0, 2.0]])


def test_steps_after_the_end_do_not_count():
    batch = pulls(0, 1)
    batch = jax.tree.map(lambda x: jnp.concatenate([x, x]), batch)
    np.testing.assert_array_equal(trajectories.alive(batch), [[True, True], [False, False]])


def test_with_all_weight_on_the_new_gradient_both_are_the_normalised_policy_gradient():
    """In the second step too, after the parameters have moved; of the length γ₀·2/(1 + 2)."""
    all_of_it = SIZES | {"momentum": 1.0, "momentum_power": 0.0}
    configs = npg_igt.Config(**all_of_it), harpg.Config(**all_of_it)
    networks = npg_igt.make_networks(ENV, configs[0])
    algorithm = npg_igt.make(ENV, configs[0])
    state = jax.jit(algorithm.init)(jax.random.key(0))
    learner = jax.jit(algorithm.step)(state)[0].learner
    obs = jax.nn.one_hot(jnp.array([[0, 0, 0], [1, 2, 2]]), 3)
    over = jnp.array([[False] * 3, [True] * 3])
    action = jnp.array([[0, 1, 1], [1, 0, 1]], jnp.int32)
    reward = jnp.array([[0.0] * 3, [0.0, 1.0, 1.0]])
    batch = trajectories.Transition(obs, action, reward, over, jnp.zeros_like(over), obs)
    first, _ = jax.jit(partial(npg_igt.update, networks=networks, config=configs[0]))(
        learner, batch
    )
    second, _ = jax.jit(partial(harpg.update, networks=networks, config=configs[1]))(
        learner, batch, batch, 0.3
    )
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, first.params, second.params)
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, first.params, learner.params))
    np.testing.assert_allclose(moved, 0.1 * 2 / 3, rtol=1e-4)


@pytest.fixture(scope="module", params=[npg_igt, harpg], ids=["npg_igt", "harpg"])
def algorithm(request):
    return request.param.make(ENV, request.param.Config(**SIZES))


def test_resume_is_exact(algorithm, assert_resume_is_exact):
    init, step = jax.jit(algorithm.init), jax.jit(algorithm.step)
    assert_resume_is_exact(algorithm, init, step, 2)


def test_the_whole_training_lowers_for_tpu_and_cuda(algorithm):
    run = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=2))
    lowered = run.trace(jax.random.key(0)).lower(lowering_platforms=("tpu", "cuda"))
    assert "stablehlo.while" in lowered.as_text()


def test_it_learns_what_to_do_first_and_seeds_side_by_side_equal_single_runs(algorithm):
    def run(key, rate):
        config = algorithm.config.replace(learning_rate=rate)
        return algos.train(algorithm, key, config=config, num_iterations=40)[0]

    keys, rates = jax.random.split(jax.random.key(0), 2), jnp.array([0.5, 0.25])
    many = jax.jit(jax.vmap(run))(keys, rates)
    one = jax.jit(run)(jax.random.clone(keys)[1], rates[1])
    second = jax.tree.map(lambda x: x[1], many.learner.params)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), second, one.learner.params
    )
    assert algorithm.act(one, jnp.eye(3)[0], jax.random.key(1), True) == 1


def test_a_reward_that_is_not_finite_writes_nothing():
    config = npg_igt.Config(**SIZES)
    algorithm = npg_igt.make(ENV, config)
    learner = jax.jit(algorithm.init)(jax.random.key(0)).learner
    obs = jnp.zeros((1, 2, 3))
    no = jnp.zeros((1, 2), bool)
    reward = jnp.array([[1.0, jnp.nan]])
    batch = trajectories.Transition(obs, jnp.zeros((1, 2), jnp.int32), reward, no, no, obs)
    networks = npg_igt.make_networks(ENV, config)
    after, _ = jax.jit(partial(npg_igt.update, networks=networks, config=config))(learner, batch)
    assert algos.describe_fault(after.fault).startswith("non-finite reward in iteration 0")
    jax.tree.map(np.testing.assert_array_equal, after.params, learner.params)


def test_harpg_carries_its_direction_from_the_last_parameters_to_these():
    """η = 0.5·(2/(1 + 2)) = 1/3: d = 2/3·(d + ∇²J·(θ − θ_previous)) + 1/3·∇J."""
    previous, direction = THETA - 0.1 * VECTOR, jnp.array([0.3, -0.1, 0.2])
    learner = trajectories.Learner(THETA, previous, direction, jnp.int32(1), guard.init())
    batch, between, share = pulls(0, 1, 2, 2), pulls(2, 0, 1, 1), jnp.float32(0.25)
    config = harpg.Config(momentum=0.5, learning_rate=0.1)
    after, _ = harpg.update(learner, batch, between, share, networks=BANDIT, config=config)
    weigh = partial(trajectories.score_weights, mask=jnp.ones((1, 4), bool), gamma=1.0)
    grads = trajectories.gradient(THETA, batch, weigh(batch.reward), BANDIT)
    product = trajectories.hessian_vector_product(
        THETA - 0.75 * 0.1 * VECTOR,
        between,
        weigh(between.reward),
        jnp.ones((1, 4), bool),
        0.1 * VECTOR,
        BANDIT,
    )
    expected = 2 / 3 * (direction + product) + 1 / 3 * grads
    np.testing.assert_allclose(after.direction, expected, rtol=1e-5, atol=1e-6)
    # γ = 0.1·2/3
    step = expected / np.linalg.norm(expected) * 0.1 * 2 / 3
    np.testing.assert_allclose(after.params, THETA + step, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after.previous, THETA)


def test_own_networks_are_masked_and_checked():
    env = envs.make("probe/mask")
    config = npg_igt.Config(**SIZES)
    default = npg_igt.make_networks(env, config)
    own = default._replace(policy=default.policy.inner)
    assert isinstance(default.policy, Masked)
    algorithm = npg_igt.make(env, config, own)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    _, obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 64))
    action = algorithm.act(state, obs, jax.random.key(2), False)
    assert np.all(np.take_along_axis(np.asarray(obs["action_mask"]), action[:, None], 1))
    wrong = default._replace(head=categorical_head(envs.Discrete(9)))
    with pytest.raises(ConfigError, match="networks.head"):
        npg_igt.make(env, config, wrong)
    cell = Recurrent("policy", nn.GRUCell(4), nn.Dense(4), nn.Dense(3))
    with pytest.raises(ConfigError, match="must not remember"):
        npg_igt.make(env, config, default._replace(policy=cell))
