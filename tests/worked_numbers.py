"""Adapters of worked examples: from the inputs of an example to its outputs.

`ADAPTERS` maps the name of an example of tests/data/worked_numbers.json to a function that takes
its inputs as keyword arguments, lists and numbers, and returns its outputs by name, computed by the
public functions of the project alone. `tests/test_worked_numbers.py` runs all of them.
"""

import jax
import jax.numpy as jnp
import optax

from onejit import losses
from onejit.algos import parameter_steps
from onejit.algos.on_policy import trust_region
from onejit.envs import inventory


def _array(values):
    return jnp.asarray(values, jnp.float32)


def hdpo_rollout(stock, orders, demands, lead, h, p, lost):
    def step(stock, inputs):
        return inventory.period(
            stock, *inputs, holding_cost=h, shortage_cost=p, lost_sales=bool(lost)
        )

    start = jnp.zeros(int(lead)).at[0].set(stock)
    final, cost = jax.lax.scan(step, start, (_array(orders), _array(demands)))
    return {"cost": cost, "final": final}


def hdpo_base_stock(mu, sd, lead, h, p):
    level, cost = inventory.base_stock(mu, sd, lead, holding_cost=h, shortage_cost=p)
    return {"level": level, "cost_per_period": cost}


def hnpg_step(fisher, grad, damping, max_kl, iters):
    matrix = _array(fisher)
    direction, step, expected = trust_region.natural_step(
        lambda vector: matrix @ vector,
        _array(grad),
        damping=damping,
        max_kl=max_kl,
        num_iterations=int(iters),
    )
    return {"direction": direction, "step": step, "expected": expected}


def hnpg_losses(q_on, ret, q_off, off_target, ratio_on, adv_on, ratio_off, adv_off):
    online = losses.squared_td_loss(_array(q_on), _array(ret))
    offline = losses.squared_td_loss(_array(q_off), _array(off_target))
    log_prob = jnp.log(_array(ratio_on + ratio_off))
    actor = losses.trpo_loss(log_prob, jnp.zeros_like(log_prob), _array(adv_on + adv_off))
    return {
        "critic_loss": jnp.mean(online) + jnp.mean(offline),
        "actor_loss": jnp.mean(actor),
    }


def npg_igt(theta, previous, direction, grad, t, gamma0, eta0):
    theta = _array(theta)
    eta = parameter_steps.power_decay(eta0, t, power=0.8)
    gamma = parameter_steps.power_decay(gamma0, t, power=1.0)
    direction = optax.incremental_update(_array(grad), _array(direction), eta)
    return {
        "eta": eta,
        "gamma": gamma,
        "lookahead": parameter_steps.look_ahead(theta, _array(previous), momentum=eta),
        "direction": direction,
        "theta": parameter_steps.normalized_step(theta, direction, size=gamma),
    }


def harpg(theta, direction, hvp, grad, t, gamma0, eta0, normalised):
    theta, carried = _array(theta), _array(direction) + _array(hvp)
    eta = parameter_steps.power_decay(eta0, t, power=1.0)
    direction = optax.incremental_update(_array(grad), carried, eta)
    gamma = parameter_steps.power_decay(gamma0, t, power=1.0 if normalised else 0.5)
    step = parameter_steps.normalized_step(theta, direction, size=gamma)
    return {"direction": direction, "theta": step if normalised else theta + gamma * direction}


ADAPTERS = {
    "hdpo_rollout": hdpo_rollout,
    "hdpo_base_stock": hdpo_base_stock,
    "npg_igt": npg_igt,
    "harpg": harpg,
    "hnpg_step": hnpg_step,
    "hnpg_losses": hnpg_losses,
}
