"""Gymnasium's MuJoCo tasks (v5) in which a robot moves, or gets up."""

from typing import Any

import chex
import jax.numpy as jnp

from .environment import mjx
from .task import Task


class Locomotion(Task):
    """Move along x; where the robot stands in the world is not observed. Alone it is never over."""

    defaults = Task.defaults | {"forward_reward_weight": 1.0, "ctrl_cost_weight": 0.1}
    num_hidden = 1  # positions, of the world's axes

    def remember(self, data: mjx.Data) -> chex.Array:
        """The coordinate that should grow."""
        return data.qpos[0]

    def observe(self, data: mjx.Data) -> chex.Array:
        """Positions but the hidden ones, and velocities."""
        return jnp.concatenate([data.qpos[self.num_hidden :], data.qvel])

    def reward(self, data: mjx.Data, remembered: chex.Array, action: chex.Array) -> chex.Array:
        """Speed minus effort."""
        speed = (self.remember(data) - remembered) / self.step_seconds
        return self.forward_reward_weight * speed - self.ctrl_cost_weight * jnp.sum(action**2)


class Legged(Locomotion):
    """A runner that gets a reward for being healthy, and whose episode is over when it is not."""

    defaults = Locomotion.defaults | {"healthy_reward": 1.0, "terminate_when_unhealthy": True}

    def healthy(self, data: mjx.Data) -> chex.Array:
        """Whether it may go on."""
        raise NotImplementedError(f"{type(self).__name__}.healthy")

    def reward(self, data: mjx.Data, remembered: chex.Array, action: chex.Array) -> chex.Array:
        """Speed and health minus effort."""
        return super().reward(data, remembered, action) + self.healthy_reward * self.healthy(data)

    def terminated(self, data: mjx.Data) -> chex.Array:
        """Whether it is not healthy, if that counts."""
        return ~self.healthy(data) & self.terminate_when_unhealthy


class HalfCheetah(Locomotion):
    """A planar cheetah of seven bodies."""

    xml_file, frame_skip, normal_velocities = "half_cheetah.xml", 5, True
    defaults = Locomotion.defaults | {"reset_noise_scale": 0.1}


class Swimmer(Locomotion):
    """Three links in a viscous fluid."""

    xml_file, frame_skip, num_hidden = "swimmer.xml", 4, 2
    defaults = Locomotion.defaults | {"ctrl_cost_weight": 1e-4, "reset_noise_scale": 0.1}


class Hopper(Legged):
    """A planar leg."""

    xml_file, frame_skip = "hopper.xml", 4
    defaults = Legged.defaults | {
        "ctrl_cost_weight": 1e-3,
        "reset_noise_scale": 5e-3,
        "healthy_state_range": (-100.0, 100.0),
        "healthy_z_range": (0.7, float("inf")),
        "healthy_angle_range": (-0.2, 0.2),
    }

    def upright(self, data: mjx.Data) -> chex.Array:
        """Whether it stands."""
        return _between(data.qpos[1], self.healthy_z_range) & _between(
            data.qpos[2], self.healthy_angle_range
        )

    def healthy(self, data: mjx.Data) -> chex.Array:
        """Whether it stands and nothing is out of bounds."""
        state = jnp.concatenate([data.qpos, data.qvel])[2:]
        return self.upright(data) & jnp.all(_between(state, self.healthy_state_range))

    def observe(self, data: mjx.Data) -> chex.Array:
        """Positions without x, and velocities, clipped."""
        return jnp.concatenate([data.qpos[1:], jnp.clip(data.qvel, -10.0, 10.0)])


class Walker2d(Hopper):
    """Two planar legs."""

    xml_file = "walker2d_v5.xml"
    defaults = Legged.defaults | {
        "ctrl_cost_weight": 1e-3,
        "reset_noise_scale": 5e-3,
        "healthy_z_range": (0.8, 2.0),
        "healthy_angle_range": (-1.0, 1.0),
    }
    healthy = Hopper.upright


class Ant(Legged):
    """A torso with four legs. The torso's position is of the last evaluation of the dynamics, as in
    Gymnasium.
    """

    xml_file, frame_skip, normal_velocities, num_hidden = "ant.xml", 5, True, 2
    contact_forces = True
    defaults = Legged.defaults | {
        "ctrl_cost_weight": 0.5,
        "contact_cost_weight": 5e-4,
        "contact_force_range": (-1.0, 1.0),
        "healthy_z_range": (0.2, 1.0),
        "reset_noise_scale": 0.1,
    }

    def remember(self, data: mjx.Data) -> chex.Array:
        """The torso's x."""
        return data.xpos[1, 0]

    def healthy(self, data: mjx.Data) -> chex.Array:
        """Whether the torso is neither on the ground nor in the air."""
        low, high = self.healthy_z_range
        z = data.qpos[2]
        finite = jnp.isfinite(jnp.concatenate([data.qpos, data.qvel]))
        return jnp.all(finite) & (low <= z) & (z <= high)

    def observe(self, data: mjx.Data) -> chex.Array:
        """Positions without x and y, velocities, and clipped contact forces."""
        return jnp.concatenate([super().observe(data), self._contact_forces(data)[1:].ravel()])

    def reward(self, data: mjx.Data, remembered: chex.Array, action: chex.Array) -> chex.Array:
        """Speed and health minus effort and impacts."""
        cost = self.contact_cost_weight * jnp.sum(self._contact_forces(data) ** 2)
        return super().reward(data, remembered, action) - cost

    def _contact_forces(self, data):
        return jnp.clip(data._impl.cfrc_ext, *self.contact_force_range)


class HumanBody(Task):
    """What the two humanoids observe, and what impacts cost them."""

    contact_forces = True

    def observe(self, data: mjx.Data) -> chex.Array:
        """Positions without x and y, velocities, and of the bodies and joints inertias, velocities
        and forces.
        """
        bodies = (data._impl.cinert, data.cvel)
        joints = data.qfrc_actuator[6:]
        parts = [
            data.qpos[2:],
            data.qvel,
            *(x[1:].ravel() for x in bodies),
            joints,
            data._impl.cfrc_ext[1:].ravel(),
        ]
        return jnp.concatenate(parts)

    def impact(self, data: mjx.Data, weight: float, bounds: tuple[float, float]) -> chex.Array:
        """The cost of contact forces."""
        return jnp.clip(weight * jnp.sum(data._impl.cfrc_ext**2), *bounds)


class Humanoid(HumanBody, Legged):
    """A person, who should run. Its speed is that of the centre of mass."""

    xml_file, frame_skip = "humanoid.xml", 5
    defaults = Legged.defaults | {
        "forward_reward_weight": 1.25,
        "contact_cost_weight": 5e-7,
        "contact_cost_range": (-float("inf"), 10.0),
        "healthy_reward": 5.0,
        "healthy_z_range": (1.0, 2.0),
    }

    def remember(self, data: mjx.Data) -> chex.Array:
        """x of the centre of mass."""
        mass = self.mj_model.body_mass
        return jnp.asarray(mass / mass.sum(), float) @ jnp.asarray(data.xipos[:, 0], float)

    def healthy(self, data: mjx.Data) -> chex.Array:
        """Whether it stands."""
        return _between(data.qpos[2], self.healthy_z_range)

    def reward(self, data: mjx.Data, remembered: chex.Array, action: chex.Array) -> chex.Array:
        """Speed and health minus effort and impacts."""
        impact = self.impact(data, self.contact_cost_weight, self.contact_cost_range)
        return super().reward(data, remembered, action) - impact


class HumanoidStandup(HumanBody):
    """A person on the ground, who should get up."""

    xml_file, frame_skip = "humanoidstandup.xml", 5
    defaults = Task.defaults | {
        "uph_cost_weight": 1.0,
        "ctrl_cost_weight": 0.1,
        "impact_cost_weight": 5e-7,
        "impact_cost_range": (-float("inf"), 10.0),
    }

    def reward(self, data: mjx.Data, remembered: Any, action: chex.Array) -> chex.Array:
        """Height, over a step of the physics, minus effort and impacts."""
        del remembered
        height = self.uph_cost_weight * data.qpos[2] / float(self.mj_model.opt.timestep)
        impact = self.impact(data, self.impact_cost_weight, self.impact_cost_range)
        return height - self.ctrl_cost_weight * jnp.sum(action**2) - impact + 1.0


def _between(x, bounds):
    return (bounds[0] < x) & (x < bounds[1])
