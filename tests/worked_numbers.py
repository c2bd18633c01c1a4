"""Adapters of worked examples: from the inputs of an example to its outputs.

`ADAPTERS` maps the name of an example of tests/data/worked_numbers.json to a function that takes
its inputs as keyword arguments, lists and numbers, and returns its outputs by name, computed by the
public functions of the project alone. `tests/test_worked_numbers.py` runs all of them.
"""

import jax
import jax.numpy as jnp

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


ADAPTERS = {
    "hdpo_rollout": hdpo_rollout,
    "hdpo_base_stock": hdpo_base_stock,
}
