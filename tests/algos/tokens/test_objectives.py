"""Every objective that has a name, for a few updates, and one of one's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from onejit import algos, envs
from onejit.algos import tokens
from onejit.algos.tokens import objectives
from onejit.algos.tokens.batch import batch_of

ENV = envs.make("tokens/brackets", depth=2)
SMALL = tokens.Config(num_prompts=4, group_size=4, hidden_size=8, total_steps=64 * 8)
NETWORK = tokens.make_network(ENV, SMALL)


@functools.cache
def three_updates():
    """Each named objective on its own policy, three updates of it: losses and norms of gradients,
    `[3]` each, and the parameters in the end, by name.

    All in one program: the network of all policies at once, each objective on its own answers.
    """
    named = objectives.OBJECTIVES | {
        "max_at_k": functools.partial(objectives.OBJECTIVES["max_at_k"], k=2)  # of four
    }
    optimiser = optax.adam(1e-2)

    @jax.jit
    def step(params, opt_state, key):
        answer_key, loss_key = jax.random.split(key)
        answered = jax.vmap(
            lambda params, key: tokens.answer(
                params, key, env=ENV, network=NETWORK, num_prompts=8, group_size=4
            )
        )(params, jnp.broadcast_to(answer_key, len(named)))

        def score(params):
            return jax.vmap(lambda p, a: tokens.score(NETWORK, p, a.prompts, a.tokens))(
                params, answered
            )

        scored, pull = jax.vjp(score, params)
        losses, gradients = [], []
        for i, objective in enumerate(named.values()):
            own, (log_prob, entropy) = jax.tree.map(lambda x, i=i: x[i], (answered, scored))
            # One answer of a group is the best, whatever a fresh policy writes.
            own = own._replace(rewards=own.stages[..., 2] * jnp.linspace(1.0, 0.7, 4)[None])

            def loss(scored, own=own, objective=objective):
                return objective(batch_of(own, *scored, key=jax.random.clone(loss_key)))

            value, gradient = jax.value_and_grad(loss)((log_prob, entropy))
            losses.append(value)
            gradients.append(gradient)
        [gradient] = pull(jax.tree.map(lambda *x: jnp.stack(x), *gradients))
        changes, opt_state = jax.vmap(optimiser.update)(gradient, opt_state)
        norms = jax.vmap(optax.tree.norm)(gradient)
        return optax.apply_updates(params, changes), opt_state, jnp.stack(losses), norms

    fresh = tokens.init_learner(jax.random.key(0), network=NETWORK, config=SMALL).params
    params = jax.tree.map(lambda x: jnp.stack([x] * len(named)), fresh)
    opt_state = jax.vmap(optimiser.init)(params)
    rows = []
    for key in jax.random.split(jax.random.key(2), 3):
        params, opt_state, *row = step(params, opt_state, key)
        rows.append(row)
    losses, norms = (np.stack(x, axis=1) for x in zip(*rows, strict=True))
    return {
        name: (losses[i], norms[i], jax.tree.map(lambda x, i=i: x[i], params))
        for i, name in enumerate(named)
    }


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
@pytest.mark.slow
def test_three_updates_of_every_objective_are_finite_and_have_a_gradient(name):
    losses, norms, params = three_updates()[name]
    assert np.isfinite(losses).all()
    assert np.isfinite(norms).all()
    assert (norms > 1e-7).all(), norms
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


def test_objectives_say_what_paper_they_are_of_and_which_hold_for_one_pass():
    assert {"grpo", "dr_grpo", "dapo", "gspo", "gmpo", "cispo", "rloo"} <= set(
        objectives.OBJECTIVES
    )
    for name, function in objectives.OBJECTIVES.items():
        assert function.__name__ == name
        assert "arXiv" in function.__doc__ or name in ("reinforce_plus_plus", "pass_at_k")
    assert SMALL.replace(objective="grpo").passes == 2
    assert SMALL.replace(objective="rloo").passes == 1
    assert SMALL.replace(objective="rloo", update_passes=3).passes == 3


@pytest.mark.slow
def test_an_objectives_own_numbers_are_swept_in_one_program_and_what_it_says_is_logged():
    def mine(batch, *, bound):
        loss = objectives.OBJECTIVES["grpo"](batch, high=1.0 + bound)
        return loss, {"losses/bound": bound, "losses/mean_reward": jnp.mean(batch.rewards)}

    @jax.jit
    @jax.vmap
    def run(bound):
        objective = functools.partial(mine, bound=bound)
        algorithm = tokens.make(ENV, SMALL, objective)
        return algos.train(algorithm, jax.random.key(0), num_iterations=1)[1]

    history = run(jnp.array([0.2, 0.3]))
    np.testing.assert_allclose(history["losses/bound"][:, 0], [0.2, 0.3])
    np.testing.assert_allclose(
        history["losses/mean_reward"], history["charts/episodic_return"], rtol=1e-6
    )
