"""Sample calls of the losses of learning from data: five steps of three environments, actions of
four dimensions.
"""

import jax.numpy as jnp
import numpy as np


def per_step(rng, count):
    return [jnp.asarray(rng.normal(size=(5, 3)), jnp.float32) for _ in range(count)]


def actions(rng, count=2):
    return [jnp.asarray(np.tanh(rng.normal(size=(5, 3, 4))), jnp.float32) for _ in range(count)]


CALLS = {
    "bc_loss": lambda rng: (actions(rng), {}, {}),
    "ema_rate": lambda rng: (
        [jnp.asarray(rng.integers(-1, 6, size=(5, 3)), jnp.int32)],
        {"power": 0.67, "floor": 0.1},
        {},
    ),
    "behaviour_weight": lambda rng: (per_step(rng, 1), {"alpha": 2.5}, {}),
    "td3_bc_actor_loss": lambda rng: ([*per_step(rng, 1), *actions(rng)], {"weight": 0.8}, {}),
    "a2pr_value_target": lambda rng: (per_step(rng, 4), {}, {}),
    "a2pr_goal": lambda rng: ([*actions(rng), *per_step(rng, 2)], {}, {}),
    "a2pr_pull": lambda rng: (per_step(rng, 3), {"mask": 0.5}, {}),
    "a2pr_vae_loss": lambda rng: (
        [*actions(rng), *actions(rng), *per_step(rng, 2)],
        {"weight": 1.5},
        {},
    ),
    "a2pr_actor_loss": lambda rng: (
        [*per_step(rng, 1), *actions(rng), *per_step(rng, 1)],
        {"weight": 0.8},
        {},
    ),
    "famo2o_coefficient": lambda rng: (per_step(rng, 1), {"low": 1.0, "high": 5.0}, {}),
    "famo2o_code": lambda rng: (per_step(rng, 1), {"base": 100.0}, {"size": 6}),
    "iql_value_loss": lambda rng: (per_step(rng, 2), {"expectile": 0.9}, {}),
    "iql_actor_loss": lambda rng: (
        per_step(rng, 3),
        {"coefficient": 3.0, "max_weight": 5.0},
        {},
    ),
    "rebrac_target": lambda rng: ([*per_step(rng, 3), *actions(rng)], {"beta": 0.5}, {}),
    "rebrac_actor_loss": lambda rng: (
        [*per_step(rng, 1), *actions(rng)],
        {"weight": 0.8, "beta": 0.5},
        {},
    ),
}
