"""Worked numbers of the references, by the public functions of the project.

`ADAPTERS` has a function for each example: it takes the example's inputs as keyword arguments, by
the reference's names, lists and numbers, and returns a dict of its outputs. A list is one entry per
sample; a scalar of a batch is its mean. tests/data/worked_numbers.json holds the examples.
"""

import jax
import jax.numpy as jnp

from onejit import losses
from onejit.algos import bc
from onejit.algos.off_policy.neighbours import keys_of, nearest


def array(x):
    """A list or a number as float32."""
    return jnp.asarray(x, jnp.float32)


def prdc(state, pi, data_state, data_action, q, alpha, beta):
    """Neighbours of (β·s, π(s)), and the actor's loss towards their actions."""
    pi, data_action, q = map(array, (pi, data_action, q))
    keys = keys_of(array(data_state), data_action, beta)
    index, distance2 = nearest(keys_of(array(state), pi, beta), keys)
    weight = losses.behaviour_weight(q, alpha=alpha)
    loss = losses.td3_bc_actor_loss(q, pi, data_action[index], weight=weight)
    return {"index": index, "distance2": distance2, "lambda": weight, "loss": jnp.mean(loss)}


def a2pr(
    action,
    vae_action,
    pi,
    value,
    q_data,
    q_vae,
    q_pi,
    recon,
    alpha,
    mask,
    vae_weight,
    mean,
    std,
):
    """Goal and pull, the autoencoder's loss and the actor's."""
    action, vae_action, pi, recon, mean = map(array, (action, vae_action, pi, recon, mean))
    value, q_data, q_vae, q_pi = map(array, (value, q_data, q_vae, q_pi))
    goal = losses.a2pr_goal(action, vae_action, q_data, q_vae)
    pull = losses.a2pr_pull(value, q_data, q_vae, mask=mask)
    vae_loss = losses.a2pr_vae_loss(
        recon, action, mean, jnp.log(array(std)), q_data, value, weight=vae_weight
    )
    weight = losses.behaviour_weight(q_pi, alpha=alpha)
    loss = losses.a2pr_actor_loss(q_pi, pi, goal, pull, weight=weight)
    return {
        "target": goal,
        "weight": pull,
        "vae_loss": jnp.mean(vae_loss),
        "lambda": weight,
        "loss": jnp.mean(loss),
    }


def a2pr_value_target(reward, discount, target_min, online_min):
    """The critics' target, and the value's."""
    reward, discount, target_min = map(array, (reward, discount, target_min))
    return {
        "q_target": losses.bootstrapped_target(reward, discount, target_min),
        "v_target": losses.a2pr_value_target(reward, discount, target_min, array(online_min)),
    }


def famo2o(q_data, v, next_v, reward, discount, log_prob, raw, low, high, expectile_):
    """The losses of value and actor, and the critics' target; exp_adv is the loss of log π = −1."""
    q, v, log_prob = map(array, (q_data, v, log_prob))
    coefficient = losses.famo2o_coefficient(array(raw), low=low, high=high)
    options = {"coefficient": coefficient, "max_weight": 100.0}
    return {
        "value_loss": jnp.mean(losses.iql_value_loss(v, q, expectile=expectile_)),
        "coefficient": coefficient,
        "exp_adv": losses.iql_actor_loss(-jnp.ones_like(q), q, v, **options),
        "actor_loss": jnp.mean(losses.iql_actor_loss(log_prob, q, v, **options)),
        "q_target": losses.bootstrapped_target(array(reward), array(discount), array(next_v)),
    }


def famo2o_encoding(coef, n, d):
    """The code of a coefficient."""
    return {"encoding": losses.famo2o_code(array(coef), base=n, size=int(d))}


def famo2o_balance(log_prob, temperature, q1, q2, target_entropy):
    """The losses of the balance and of its temperature."""
    log_prob = array(log_prob)
    q = jnp.minimum(array(q1), array(q2))
    log_alpha = jnp.log(array(temperature))
    temperature_loss = losses.sac_temperature_loss(
        log_alpha, log_prob, target_entropy=target_entropy
    )
    return {
        "balance_loss": jnp.mean(losses.sac_actor_loss(log_prob, q, alpha=temperature)),
        "temperature_loss": jnp.mean(temperature_loss),
    }


def ema_bc(params, power, floor):
    """The average after each update; the first one is the parameters themselves."""
    config = bc.Config(ema_power=power, ema_floor=floor)

    def step(average, x):
        average = bc.averaged(average, x, config)
        return average, average["actor"]

    start = {"actor": array(0.0), "count": jnp.int32(0)}
    return {"average": jax.lax.scan(step, start, array(params))[1]}


ADAPTERS = {
    each.__name__: each
    for each in (
        prdc,
        a2pr,
        a2pr_value_target,
        famo2o,
        famo2o_encoding,
        famo2o_balance,
        ema_bc,
    )
}
