"""CrossQ: batch renormalisation in numbers, one pass over what was done and what comes next, no
target networks, and the limit in which it is SAC. Probes, resume and lowering are in
off_policy/test_loop.py.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import crossq, sac
from onejit.algos.core.config import ConfigError
from onejit.algos.off_policy import soft
from onejit.algos.off_policy.batch_renorm import BatchRenorm, RenormMLP

pytestmark = pytest.mark.slow

ENV = envs.make("probe/delay", continuous=True)
SMALL = {
    "num_envs": 3,
    "batch_size": 16,
    "buffer_size": 600,
    "learning_starts": 33,
    "total_steps": 600,
    "actor_hidden_sizes": (8,),
    "critic_hidden_sizes": (8,),
}
CONFIG = crossq.Config(**SMALL, renorm_warmup=3)
NETWORKS = crossq.make_networks(ENV, CONFIG)
close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def variables(mean, var, count, scale=1.0, bias=0.0):
    """Of one feature."""
    statistics = {"mean": jnp.array([mean]), "var": jnp.array([var]), "count": jnp.int32(count)}
    params = {"scale": jnp.array([scale]), "bias": jnp.array([bias])}
    return {"params": params, "batch_stats": statistics}


def in_training(layer, variables, x):
    output, changed = layer.apply(variables, x, mutable=["batch_stats"])
    return np.asarray(output), changed["batch_stats"]


X = jnp.array([[1.0], [3.0], [5.0]])  # mean 3, variance 8/3


@pytest.mark.parametrize(
    "mean, var, r, b",
    [
        # s = 2, σ = √(8/3) = 1.63299: r = 0.816497; b = (3 − 2)/2
        pytest.param(2.0, 4.0, 0.816497, 0.5, id="within the bounds"),
        # s = ½: σ/s = 3.26599, cut to 3; (3 − 0.4)/0.5 = 5.2, cut to 5
        pytest.param(0.4, 0.25, 3.0, 5.0, id="beyond both"),
        # s = 8: σ/s = 0.204124, cut to 1/3; (3 − 51)/8 = −6, cut to −5
        pytest.param(51.0, 64.0, 1 / 3, -5.0, id="below both"),
    ],
)
def test_batch_renormalisation_in_numbers(mean, var, r, b):
    """x̂ = (x − 3)/1.63299·r + b with (x − 3)/1.63299 = (−1.224745, 0, 1.224745), then 2·x̂ + 1."""
    layer = BatchRenorm(warmup=3, epsilon=0.0)
    normalised = np.array([[-1.224745], [0.0], [1.224745]])
    before = variables(mean, var, 3, scale=2.0, bias=1.0)
    output, after = in_training(layer, before, X)
    np.testing.assert_allclose(output, 2.0 * (normalised * r + b) + 1.0, atol=1e-5)
    if r == 0.816497:  # nothing is cut off: as it is normalised when it acts, (x − 2)/2
        np.testing.assert_allclose(output, layer.apply(before, X), atol=1e-5)
        np.testing.assert_allclose(output[:, 0], [0.0, 2.0, 4.0], atol=1e-5)
    # The averages move by a hundredth, with what is in them before used above.
    np.testing.assert_allclose(after["mean"], [0.99 * mean + 0.01 * 3.0], rtol=1e-6)
    np.testing.assert_allclose(after["var"], [0.99 * var + 0.01 * 8 / 3], rtol=1e-6)
    assert after["count"] == 4
    # Not yet warm: batch normalisation, whatever the averages are.
    output, _ = in_training(layer, variables(mean, var, 2), X)
    np.testing.assert_allclose(output, normalised, rtol=1e-5)


def test_epsilon_stands_under_all_roots():
    """σ = √(8/3 + 1) = 1.914854, s = √(3 + 1) = 2, r = 0.957427, b = (3 − 2)/2:
    (5 − 3)/2 + ½ = 1.5; and when it acts (5 − 2)/2 = 1.5.
    """
    layer = BatchRenorm(warmup=0, epsilon=1.0)
    output, _ = in_training(layer, variables(2.0, 3.0, 0), X)
    np.testing.assert_allclose(output[2], [1.5], rtol=1e-6)
    np.testing.assert_allclose(layer.apply(variables(2.0, 3.0, 0), X)[2], [1.5], rtol=1e-6)


def test_scale_and_shift_have_no_gradient_and_the_batch_has():
    """With r and b as constants, x̂ of a batch does not change when all of it moves or stretches:
    the gradient of x̂₀ by x is (I − 1/n − x̂·x̂ᵀ/n)/σ·r, which with μ = 3, σ = 1.632993, r = 0.816497
    and x̂ = (−1.224745, 0, 1.224745) is ½·(1 − ⅓ − ½, −⅓, −⅓ + ½) = (1/12, −1/6, 1/12).
    """
    layer = BatchRenorm(warmup=0, epsilon=0.0)

    def first(x):
        return layer.apply(variables(2.0, 4.0, 0), x, mutable=["batch_stats"])[0][0, 0]

    np.testing.assert_allclose(jax.grad(first)(X)[:, 0], [1 / 12, -1 / 6, 1 / 12], atol=1e-6)
    # Of an average alone, (x − 2)/2, it is ½ and 0.
    acting = jax.grad(lambda x: layer.apply(variables(2.0, 4.0, 0), x)[0, 0])(X)
    np.testing.assert_allclose(acting[:, 0], [0.5, 0.0, 0.0], atol=1e-6)


def test_inputs_and_what_each_activation_puts_out_are_normalised():
    layers = RenormMLP((5, 4), event_ndim=2)
    x = 10.0 + 3.0 * jax.random.normal(jax.random.key(0), (64, 2, 3))
    start = layers.init(jax.random.key(1), x)
    output, changed = layers.apply(start, x, mutable=["batch_stats"])
    np.testing.assert_allclose(jnp.mean(output, axis=0), jnp.zeros(4), atol=1e-4)
    sizes = {name: each["mean"].shape for name, each in changed["batch_stats"].items()}
    assert sizes == {"BatchRenorm_0": (6,), "BatchRenorm_1": (5,), "BatchRenorm_2": (4,)}
    mean = changed["batch_stats"]["BatchRenorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.01 * jnp.mean(x.reshape(64, 6), axis=0), rtol=1e-5)
    counts = [each["count"] for each in start["batch_stats"].values()]
    assert counts == [0, 0, 0]  # making it is no batch


def fresh(config=CONFIG, networks=NETWORKS, module=crossq):
    init = partial(module.init_learner, env=ENV, networks=networks, config=config)
    return jax.jit(init)(jax.random.key(0))


def some_batch(size=16):
    rng = np.random.default_rng(0)
    features = ENV.observation_space.shape[0]
    obs = rng.normal(size=(size, features))
    next_obs = 2.0 + 3.0 * rng.normal(size=(size, features))
    action = np.tanh(rng.normal(size=(size, 1)))
    discount = np.where(np.arange(size) % 2, 0.9, 0.0)
    parts = (obs, action, rng.normal(size=size), discount, next_obs)
    return crossq.Batch(*(jnp.asarray(x, jnp.float32) for x in parts))


def joint_pass(learner, batch, key):
    """Q of what was done and of what comes next `[2, B]`, log π' and the collections after it, in
    one pass by hand.
    """
    distribution = NETWORKS.actor.apply(learner.params["actor"], batch.next_obs)
    next_action, log_prob = soft.sample_action(distribution, key)
    inputs = (
        jnp.concatenate([batch.obs, batch.next_obs]),
        jnp.concatenate([batch.action, next_action]),
    )
    q, changed = jax.vmap(
        lambda each: NETWORKS.critic.apply(each, *inputs, mutable=["batch_stats"])
    )(learner.params["critic"])
    return q[:, :16], q[:, 16:], log_prob, changed["batch_stats"]


def test_one_pass_sees_what_was_done_and_what_comes_next():
    learner, batch, key = fresh(), some_batch(), jax.random.key(1)
    q, next_q, log_prob, statistics = jax.jit(joint_pass)(learner, batch, jax.random.clone(key))
    target = batch.reward + batch.discount * (jnp.min(next_q, axis=0) - log_prob)  # α = 1
    critic_update = jax.jit(partial(crossq.critic_update, networks=NETWORKS, config=CONFIG))
    after, metrics = critic_update(learner, batch, key)
    expected = 0.5 * jnp.sum(jnp.mean((q - target[None]) ** 2, axis=1))
    np.testing.assert_allclose(metrics["losses/critic_loss"], expected, rtol=1e-5)
    jax.tree.map(close, after.params["critic"]["batch_stats"], statistics)
    # The first layer's averages are a hundredth of the mean of both halves together.
    mean = statistics["torso"]["BatchRenorm_0"]["mean"][:, : batch.obs.shape[1]]
    both = 0.005 * (jnp.mean(batch.obs, axis=0) + jnp.mean(batch.next_obs, axis=0))
    np.testing.assert_allclose(mean, jnp.stack([both, both]), rtol=1e-4, atol=1e-6)
    assert set(jax.tree.leaves(jax.tree.map(int, counts(after)))) == {1}


def counts(learner):
    """Of the first critic's layers."""
    layers = learner.params["critic"]["batch_stats"]["torso"]
    return {name: each["count"][0] for name, each in layers.items()}


def test_the_target_has_no_gradient():
    """The gradient is that of the loss with the target of the same pass as a constant."""
    learner, batch, key = fresh(), some_batch(), jax.random.key(1)
    plain = CONFIG.replace(adam_b1=0.0)

    def gradient(learner, key, frozen):
        def loss(params):
            critic = {**learner.params["critic"], "params": params}
            q, next_q, log_prob, _ = joint_pass(
                learner._replace(params=learner.params | {"critic": critic}), batch, key
            )
            target = batch.reward + batch.discount * (jnp.min(next_q, axis=0) - log_prob)
            target = jax.lax.stop_gradient(target) if frozen else target
            return 0.5 * jnp.sum(jnp.mean((q - target[None]) ** 2, axis=1))

        return jax.grad(loss)(learner.params["critic"]["params"])

    def norm(tree):
        return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree)))

    norms = [
        float(norm(jax.jit(partial(gradient, frozen=frozen))(learner, jax.random.clone(key))))
        for frozen in (True, False)
    ]
    critic_update = jax.jit(partial(crossq.critic_update, networks=NETWORKS, config=plain))
    _, metrics = critic_update(learner, batch, key)
    np.testing.assert_allclose(metrics["losses/critic_grad_norm"], norms[0], rtol=1e-4)
    assert abs(norms[0] - norms[1]) > 1e-2 * norms[0]


def test_averages_are_what_acts_and_only_an_own_update_moves_them():
    learner, batch = fresh(), some_batch()
    actor_update = jax.jit(partial(crossq.actor_update, networks=NETWORKS, config=CONFIG))
    after, _ = actor_update(learner, batch, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, after.params["critic"], learner.params["critic"])
    mean = after.params["actor"]["batch_stats"]["torso"]["BatchRenorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.01 * jnp.mean(batch.obs, axis=0), rtol=1e-4, atol=1e-7)
    # An action depends on its own observation alone, and on the averages.
    algorithm = crossq.make(ENV, CONFIG)
    state = jax.jit(algorithm.init)(jax.random.key(2))
    assert state.learner.targets == {}
    act = jax.jit(lambda state, obs: algorithm.act(state, obs, jax.random.key(0), True))
    together = act(state, batch.obs)
    alone = jnp.concatenate([act(state, batch.obs[i : i + 1]) for i in range(16)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    moved = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 1.0 if path[-1].key == "mean" else x, state.learner.params["actor"]
    )
    params = state.learner.params | {"actor": moved}
    other = act(state._replace(learner=state.learner._replace(params=params)), batch.obs)
    assert jnp.abs(other - together).max() > 1e-3


def test_with_networks_that_are_not_normalised_it_is_sac_whose_targets_are_copies():
    changes = {"adam_b1": 0.9, "learning_rate": 1e-2}
    config = CONFIG.replace(**changes)
    theirs = sac.Config(**SMALL, tau=1.0, policy_delay=3, learning_rate=1e-2, initialiser="lecun")
    own = sac.make_networks(ENV, theirs)

    def trained(module, config, networks):
        algorithm = module.make(ENV, config, networks)
        run = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=10))
        return run(jax.random.key(0))[0].learner

    expected = trained(sac, theirs, own)
    actual = trained(crossq, config, own)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), actual.params, expected.params
    )
    jax.tree.map(
        np.testing.assert_array_equal, expected.targets["critic"], expected.params["critic"]
    )
    slower = trained(crossq, config.replace(adam_b1=0.5), own)
    gap = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), slower.params, expected.params)
    assert gap["critic"]["params"]["torso"]["Dense_0"]["kernel"] > 1e-2


def test_adam_forgets_sooner_but_for_the_temperature():
    """After gradients 1 and 0 the first moments, corrected, are β₁·(1 − β₁)/(1 − β₁²): ⅓ with ½,
    and 0.473684 with 0.9.
    """
    for name, moment in (("critic", 1 / 3), ("actor", 1 / 3), ("log_alpha", 0.473684)):
        optimiser = crossq.Config(learning_rate=1.0).optimiser(name)
        state = optimiser.init(jnp.float32(0.0))
        for gradient in (1.0, 0.0):
            step, state = optimiser.update(jnp.float32(gradient), state)
        # The second moment: 0.999·0.001/(1 − 0.999²) = 0.49975.
        np.testing.assert_allclose(step, -moment / np.sqrt(0.49975), rtol=1e-3)


def test_vmapped_seeds_and_hyperparameters_equal_single_runs_and_differ_from_each_other():
    algorithm = crossq.make(ENV, CONFIG)

    def run(key, b1):
        config = algorithm.config.replace(adam_b1=b1)
        return algos.train(algorithm, key, config=config, num_iterations=5)[0].learner.params

    keys, b1 = jax.random.split(jax.random.key(0), 2), jnp.array([0.5, 0.8])
    many = jax.jit(jax.vmap(run))(keys, b1)
    single = jax.jit(run)
    for i in range(2):
        one = single(jax.random.clone(keys)[i], b1[i])
        jax.tree.map(
            lambda many, one, i=i: np.testing.assert_allclose(many[i], one, rtol=5e-4, atol=2e-5),
            many,
            one,
        )
    kernel = many["critic"]["params"]["torso"]["MLP_0"]["Dense_0"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-2
    layers = many["critic"]["batch_stats"]["torso"]
    np.testing.assert_array_equal(layers["BatchRenorm_1"]["count"], np.full((2, 2), 15))


@pytest.mark.parametrize(
    "field, value, allowed",
    [
        ("tau", 0.005, "at least 1"),
        ("memory", "gru", "must be one of 'none'"),
        ("adam_b1", 1.0, "at most 0.999"),
        ("renorm_warmup", -1, "at least 0"),
        ("policy_delay", 3, "must divide num_updates = 2"),
    ],
)
def test_what_is_not_allowed_is_refused(field, value, allowed):
    with pytest.raises(ConfigError, match=allowed) as caught:
        crossq.make(ENV, CONFIG.replace(num_updates=2, policy_delay=2).replace(**{field: value}))
    assert caught.value.field == field


def test_discrete_actions_and_networks_that_remember_are_refused():
    with pytest.raises(ConfigError, match="must be a Box: the policy is for continuous actions"):
        crossq.make(envs.make("gymnax/CartPole-v1"))
    own = sac.make_networks(ENV, sac.Config(memory="gru"))
    with pytest.raises(ConfigError, match='memory=none: must not be "none"'):
        crossq.make(ENV, CONFIG, own)


class Shifted(nn.Module):
    """An own critic, whose statistics are of flax and told of training by an argument."""

    @nn.compact
    def __call__(self, obs, action, train=False):
        x = nn.BatchNorm(use_running_average=not train)(jnp.concatenate([obs, action], axis=-1))
        return nn.Dense(1)(x)[..., 0]


def test_own_networks_may_be_normalised_their_own_way():
    algorithm = crossq.make(ENV, CONFIG, NETWORKS._replace(critic=Shifted()))
    state, metrics = jax.jit(algorithm.step)(jax.jit(algorithm.init)(jax.random.key(0)))
    assert algos.describe_fault(state.learner.fault) is None
    assert np.isfinite(metrics["losses/critic_loss"])
    assert set(state.learner.params["critic"]) == {"params", "batch_stats"}
