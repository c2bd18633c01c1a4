"""Gymnasium's MuJoCo tasks (v5) on MJX: its model files, frame skips, observations, rewards,
terminations and resets.

Returns are comparable with those on Gymnasium's v5 tasks. The models come from the installed
`gymnasium`. MJX has no PGS solver: Humanoid and HumanoidStandup have Newton's instead, also with
solver="exact". Gymnasium's options xml_file, frame_skip, main_body and those of what is observed
are not offered; HumanoidStandup's uph_cost_weight counts, which Gymnasium takes and does not use.

Source: Gymnasium 1.x, `gymnasium/envs/mujoco/*_v5.py` (Farama Foundation).
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from ..mujoco.environment import mjx
from ..mujoco.locomotion import (
    Ant,
    HalfCheetah,
    Hopper,
    Humanoid,
    HumanoidStandup,
    Swimmer,
    Walker2d,
)
from ..mujoco.task import Task


class InvertedPendulum(Task):
    """A pole on a cart."""

    xml_file, frame_skip = "inverted_pendulum.xml", 2

    def reward(self, data: mjx.Data, remembered: Any, action: chex.Array) -> chex.Array:
        """1 while the pole stands."""
        del remembered, action
        return 1.0 - self.terminated(data)

    def terminated(self, data: mjx.Data) -> chex.Array:
        """Whether the pole leans."""
        return ~(jnp.all(jnp.isfinite(self.observe(data))) & (jnp.abs(data.qpos[1]) <= 0.2))


class InvertedDoublePendulum(Task):
    """Two poles on a cart. The tip's position is of the last evaluation of the dynamics, as in
    Gymnasium.
    """

    xml_file, frame_skip, normal_velocities = "inverted_double_pendulum.xml", 5, True
    defaults = Task.defaults | {"healthy_reward": 10.0, "reset_noise_scale": 0.1}

    def observe(self, data: mjx.Data) -> chex.Array:
        """The cart's position, sines and cosines of the angles, velocities and the rail's force,
        clipped.
        """
        angles, force = data.qpos[1:], jnp.clip(data.qfrc_constraint[:1], -10.0, 10.0)
        parts = [
            data.qpos[:1],
            jnp.sin(angles),
            jnp.cos(angles),
            jnp.clip(data.qvel, -10.0, 10.0),
            force,
        ]
        return jnp.concatenate(parts)

    def reward(self, data: mjx.Data, remembered: Any, action: chex.Array) -> chex.Array:
        """For standing, minus the tip's distance from the top and the poles' velocities."""
        del remembered, action
        x, _, z = data.site_xpos[0]
        alive = self.healthy_reward * ~self.terminated(data)
        distance = 0.01 * x**2 + (z - 2.0) ** 2
        return alive - distance - 1e-3 * data.qvel[1] ** 2 - 5e-3 * data.qvel[2] ** 2

    def terminated(self, data: mjx.Data) -> chex.Array:
        """Whether the tip is low."""
        return data.site_xpos[0, 2] <= 1.0


class Reacher(Task):
    """An arm in a plane, whose fingertip should touch a target."""

    xml_file, frame_skip, time_limit = "reacher.xml", 2, 50
    defaults = {"reward_dist_weight": 1.0, "reward_control_weight": 1.0}

    def start(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """A target anywhere within 0.2 of the centre."""
        qpos_key, qvel_key, radius_key, angle_key = jax.random.split(key, 4)
        radius = 0.2 * jnp.sqrt(jax.random.uniform(radius_key))
        angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
        target = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        qvel = jax.random.uniform(qvel_key, (2,), minval=-5e-3, maxval=5e-3)
        return self._around(qpos_key, 0.1).at[2:].set(target), jnp.concatenate([qvel, jnp.zeros(2)])

    def observe(self, data: mjx.Data) -> chex.Array:
        """Cosines and sines of the angles, the target, velocities, and from the target to the
        fingertip.
        """
        angles = data.qpos[:2]
        parts = [
            jnp.cos(angles),
            jnp.sin(angles),
            data.qpos[2:],
            data.qvel[:2],
            self._miss(data)[:2],
        ]
        return jnp.concatenate(parts)

    def reward(self, data: mjx.Data, remembered: Any, action: chex.Array) -> chex.Array:
        """Minus distance and effort."""
        del remembered
        distance = _norm(self._miss(data))
        return -self.reward_dist_weight * distance - self.reward_control_weight * jnp.sum(action**2)

    def _miss(self, data):
        return data.xpos[self._body("fingertip")] - data.xpos[self._body("target")]


class Pusher(Task):
    """An arm that should push a cylinder to a goal."""

    xml_file, frame_skip, time_limit = "pusher_v5.xml", 5, 100
    defaults = {"reward_near_weight": 0.5, "reward_dist_weight": 1.0, "reward_control_weight": 0.1}

    def start(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """The cylinder anywhere in a rectangle, but not within 0.17 of the goal."""
        place_key, qvel_key = jax.random.split(key)
        low, high = jnp.array([-0.3, -0.2]), jnp.array([0.0, 0.2])

        def again(carry):
            key, next_key = jax.random.split(carry[0])
            return next_key, jax.random.uniform(key, (2,), minval=low, maxval=high)

        _, place = jax.lax.while_loop(
            lambda carry: _norm(carry[1]) <= 0.17, again, (place_key, jnp.zeros(2))
        )
        qpos = (
            jnp.asarray(self.mj_model.qpos0, float)
            .at[-4:]
            .set(jnp.concatenate([place, jnp.zeros(2)]))
        )
        qvel = jax.random.uniform(qvel_key, (self.mj_model.nv,), minval=-5e-3, maxval=5e-3)
        return qpos, qvel.at[-4:].set(0.0)

    def observe(self, data: mjx.Data) -> chex.Array:
        """The arm's angles and velocities, and where its tip, the cylinder and the goal are."""
        places = [data.xpos[self._body(name)] for name in ("tips_arm", "object", "goal")]
        return jnp.concatenate([data.qpos[:7], data.qvel[:7], *places])

    def reward(self, data: mjx.Data, remembered: Any, action: chex.Array) -> chex.Array:
        """Minus the distances from tip to cylinder and from cylinder to goal, and effort."""
        del remembered
        tip, cylinder, goal = (
            data.xpos[self._body(name)] for name in ("tips_arm", "object", "goal")
        )
        near, far = _norm(cylinder - tip), _norm(cylinder - goal)
        effort = jnp.sum(action**2)
        return (
            -self.reward_near_weight * near
            - self.reward_dist_weight * far
            - self.reward_control_weight * effort
        )


_TASKS = {
    f"{task.__name__}-v5": task
    for task in (
        *(
            Ant,
            HalfCheetah,
            Hopper,
            Humanoid,
            HumanoidStandup,
            InvertedDoublePendulum,
            InvertedPendulum,
            Pusher,
        ),
        *(Reacher, Swimmer, Walker2d),
    )
}


def names() -> list[str]:
    """The names of the environments of this suite."""
    return list(_TASKS)


def make(name: str, **options: Any) -> Task:
    """Makes one of Gymnasium's MuJoCo tasks.

    Args:
      name: Gymnasium's own name, such as "HalfCheetah-v5".
      **options: solver="exact" or "fast", episode_length, impl, and the task's own, by Gymnasium's
        names, such as ctrl_cost_weight=0.1; see `Task`.

    Raises:
      ValueError: an option is not valid for the task.
    """
    return _TASKS[name](**options)


def _norm(x):
    return jnp.sqrt(jnp.sum(x**2))
