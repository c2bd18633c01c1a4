"""What the on-policy algorithms share: they solve the probes, resume exactly, compile as a whole,
and fit a laptop.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs, losses
from onejit.algos import fixpo, mdpo, ppo, ppo_ewma, props, r2vpo, spo, trpo
from onejit.algos.on_policy import policy_gradient

ALGORITHMS = {
    "ppo": ppo,
    "spo": spo,
    "mdpo": mdpo,
    "ppo_ewma": ppo_ewma,
    "fixpo": fixpo,
    "r2vpo": r2vpo,
    "props": props,
    "trpo": trpo,
}
# What the loss of a paper gets beside, where nothing has moved yet.
COMPANIONS = {
    ppo_ewma: lambda data: data.log_prob,
    fixpo: lambda data: 1.0,
    r2vpo: lambda data: 1.0,
}
# The states of each probe, counted from its first, in which the two actions differ and which are
# visited.
DECISIONS = {
    "action": [0],
    "delay": [0],
    "observation": [0, 1],
    "truncation": [0],
    "termination": [0],
}
SIZES = {
    "num_envs": 8,
    "num_steps": 8,
    "num_minibatches": 2,
    "update_epochs": 2,
    "hidden_sizes": (8,),
}
PROBE_CONFIG = {
    "learning_rate": 3e-3,
    "gamma": 0.9,
    "num_envs": 32,
    "num_steps": 16,
    "hidden_sizes": (16,),
    "total_steps": 150 * 512,
    "max_grad_norm": 10.0,
}


def learned(module, continuous):
    """Trains on all probes; returns them, the best actions and the values that were learned."""
    env = envs.make("probe/all", continuous=continuous)
    config = module.Config(**PROBE_CONFIG)
    algorithm = module.make(env, config)
    run = jax.jit(lambda k: algos.train(algorithm, k, num_iterations=150, log_every=150))
    state, _ = run(jax.random.key(0))
    observations = jnp.eye(env.observation_space.shape[0])
    action = algorithm.act(state, observations, jax.random.key(1), True)
    values = module.make_networks(env, config).value.apply(
        state.learner.params["value"], observations
    )
    return env, np.asarray(action[:, 0] > 0 if continuous else action), np.asarray(values)


def slow_beside(*names):
    """All algorithms, of which `make test` runs these."""
    return [
        name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in ALGORITHMS
    ]


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("name", slow_beside("ppo"))
def test_solves_the_probes(name, continuous):
    env, action, values = learned(ALGORITHMS[name], continuous)
    best_values, best_action = env.solve(gamma=0.9)
    for probe, states in DECISIONS.items():
        places = env.first_state[probe] + np.array(states)
        np.testing.assert_array_equal(
            action[places], best_action[places], err_msg=f"fails probe/{probe}"
        )
    # The policy still explores a little, so that its value is a little below the best one. Not
    # visited are the worse state of "delay" and the one of "termination" that is only seen as a
    # final observation.
    visited = np.ones(len(values), bool)
    visited[[env.first_state["delay"] + 1, env.first_state["termination"] + 2]] = False
    np.testing.assert_allclose(values[visited], best_values[visited], rtol=0.08, atol=0.3)


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param("truncation is termination", marks=pytest.mark.slow),
        "bootstraps from the reset observation",
    ],
)
def test_truncation_probe_fails_when_truncation_is_wrong(mistake, monkeypatch):
    gae = losses.gae

    def wrong(rewards, values, next_values, terminated, truncated, **kwargs):
        if mistake == "truncation is termination":
            return gae(rewards, values, next_values, terminated | truncated, truncated, **kwargs)
        after_reset = jnp.concatenate([values[1:], next_values[-1:]])
        return gae(rewards, values, after_reset, terminated, truncated, **kwargs)

    monkeypatch.setattr(policy_gradient.losses, "gae", wrong)
    env, action, _ = learned(ppo, continuous=False)
    place = env.first_state["truncation"]
    assert action[place] != env.solve(gamma=0.9)[1][place]


@pytest.mark.parametrize("name", slow_beside("mdpo"))
def test_resume_is_exact(name, assert_resume_is_exact):
    """MDPO's step has two passes, PPO-EWMA's a companion and old policies, PROPS's a behaviour
    policy; PPO's resumes in another process too, in test_checkpoint.
    """
    module = ALGORITHMS[name]
    stale = {"staleness": 2} if module is ppo_ewma else {}
    config = module.Config(**SIZES, **stale, normalize_obs=True, normalize_reward=True)
    algorithm = module.make(envs.make("probe/delay"), config)
    init = jax.jit(algorithm.init)
    step = jax.jit(algorithm.step).lower(jax.eval_shape(init, jax.random.key(0))).compile()
    assert_resume_is_exact(algorithm, init, step, 2)


# A hyperparameter of each paper's own, with three values; PPO's seeds are in test_ppo, as a sweep.
OWN = {
    "spo": ("eps", [0.05, 0.2, 0.4]),
    "mdpo": ("vf_coef", [0.1, 0.5, 1.0]),
    "ppo_ewma": ("proximal_decay", [0.0, 0.5, 1.0]),
    "fixpo": ("kl_bound", [0.001, 0.01, 0.2]),
    "r2vpo": ("initial_dual", [0.0, 1.0, 10.0]),
    "props": ("behaviour_learning_rate", [0.0, 1e-3, 1e-1]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_vmapped_seeds_and_hyperparameters_equal_single_runs_and_differ_from_each_other(name):
    module, (field, values) = ALGORITHMS[name], OWN[name]
    algorithm = module.make(envs.make("probe/delay", continuous=True), module.Config(**SIZES))

    def run(key, value):
        config = algorithm.config.replace(**{field: value})
        return algos.train(algorithm, key, config=config, num_iterations=3)[0].learner

    keys, values = jax.random.split(jax.random.key(0), 3), jnp.array(values)
    many = jax.jit(jax.vmap(run))(keys, values)
    single = jax.jit(run)
    close = partial(np.testing.assert_allclose, rtol=2e-4, atol=5e-6)
    for i in range(3):
        one = single(jax.random.clone(keys)[i], values[i])
        for part in ("params", "companion"):
            members = jax.tree.map(lambda x, i=i: x[i], getattr(many, part))
            jax.tree.map(close, members, getattr(one, part))
    kernel = many.params["value"]["params"]["torso"]["Dense_0"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1
    assert np.abs(kernel[1] - kernel[2]).max() > 0.1


@pytest.mark.parametrize(
    "name, env_id",
    [
        ("ppo", "gymnax/Breakout-MinAtar"),
        *(
            pytest.param(name, "gymnax/Breakout-MinAtar", marks=pytest.mark.slow)
            for name in ALGORITHMS
            if name != "ppo"
        ),
        pytest.param("ppo", "brax/inverted_pendulum", marks=pytest.mark.slow),
    ],
)
def test_the_whole_training_lowers_for_tpu_and_cuda(name, env_id):
    module = ALGORITHMS[name]
    algorithm = module.make(envs.make(env_id), module.Config(**SIZES))
    run = jax.jit(
        lambda key: algos.train(
            algorithm, key, num_iterations=2, evaluate=algos.evaluator(algorithm)
        )
    )
    lowered = run.trace(jax.random.key(0)).lower(lowering_platforms=("tpu", "cuda"))
    assert "stablehlo.while" in lowered.as_text()


@pytest.mark.parametrize("name", slow_beside("ppo"))
def test_default_config_fits_a_laptop(name):
    algorithm = ALGORITHMS[name].make(envs.make("gymnax/CartPole-v1"))
    step = (
        jax.jit(algorithm.step).lower(jax.eval_shape(algorithm.init, jax.random.key(0))).compile()
    )
    memory = step.memory_analysis()
    assert memory.temp_size_in_bytes + memory.argument_size_in_bytes < 1e9


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("name", slow_beside("ppo"))
def test_the_first_gradient_of_the_policy_is_the_policy_gradient(name, continuous):
    module = ALGORITHMS[name]
    config = module.Config(**SIZES, normalize_advantage=False)
    env = envs.make("probe/observation", continuous=continuous)
    networks = module.make_networks(env, config)
    init = partial(module.init_learner, env=env, networks=networks, config=config)
    learner = jax.jit(init)(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (64, *env.observation_space.shape))
    old = networks.policy.apply(learner.params["policy"], obs)
    action = networks.head.sample(jax.random.key(2), old)
    advantage, target = jax.random.normal(jax.random.key(3), (2, 64))
    value = networks.value.apply(learner.params["value"], obs)
    data = module.Minibatch(
        obs, action, networks.head.log_prob(action, old), old, value, advantage, target
    )
    loss = module.policy_loss if module in (mdpo, fixpo, trpo) else module.loss
    if module in COMPANIONS:
        loss = partial(loss, companion=COMPANIONS[module](data))

    def policy_gradient_loss(params):
        log_prob = networks.head.log_prob(
            data.action, networks.policy.apply(params["policy"], data.obs)
        )
        return -jnp.mean(log_prob * data.advantage)

    expected = jax.jit(jax.grad(policy_gradient_loss))(learner.params)["policy"]
    gradient = jax.grad(partial(loss, networks=networks, config=config), has_aux=True)
    actual = jax.jit(gradient)(learner.params, data, jax.random.key(4))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        actual[0]["policy"],
        expected,
    )
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected)) > 1e-3
