"""Gymnasium's MuJoCo tasks (v5) on MJX: its model files, frame skips, observations, rewards,
terminations and resets.

Returns are comparable with those on Gymnasium's v5 tasks. The models come from the installed
`gymnasium`. MJX has no PGS solver: Humanoid and HumanoidStandup have Newton's instead, also with
solver="exact". Gymnasium's options xml_file, frame_skip, main_body and those of what is observed
are not offered; HumanoidStandup's uph_cost_weight counts, which Gymnasium takes and does not use.

Source: Gymnasium 1.x, `gymnasium/envs/mujoco/*_v5.py` (Farama Foundation).
"""

import importlib.util
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import mujoco

from ..mujoco.environment import IMPLEMENTATIONS, MujocoEnvironment, mjx
from ..options import checked

# What replaces the settings of the model. A shorter line search is several times faster on a CPU.
SOLVERS = {"exact": {}, "fast": {"ls_iterations": 8}}


class Task(MujocoEnvironment):
    """What the tasks have in common. What a subclass names in `defaults` can be changed when it is
    made.

    An episode begins in the model's own pose with noise in all positions, uniform, and velocities,
    uniform or normal.

    Args:
      solver: "exact", Gymnasium's own settings, or "fast", with fewer iterations of the line
        search.
      episode_length: steps after which an episode is truncated; by default Gymnasium's.
      impl: see `MujocoEnvironment`.
      **options: weights and ranges, by the names that Gymnasium gives them.

    Raises:
      ValueError: an option is not one of the task's, or has a value that is not allowed.
    """

    xml_file: str
    frame_skip: int
    time_limit = 1000
    normal_velocities = False
    contact_forces = False
    defaults: dict[str, Any] = {"reset_noise_scale": 0.01}

    def __init__(
        self,
        *,
        solver: str = "exact",
        episode_length: int | None = None,
        impl: str = "jax",
        **options: Any,
    ):
        length = self.time_limit if episode_length is None else episode_length
        given = {"solver": solver, "episode_length": length, "impl": impl, **options}
        # What it was made with.
        self.options = checked(
            f"mjx/{type(self).__name__}-v5",
            given,
            {"solver": "exact", "episode_length": self.time_limit, "impl": "jax", **self.defaults},
            low={"episode_length": 1, "reset_noise_scale": 0.0},
            choices={"solver": tuple(SOLVERS), "impl": IMPLEMENTATIONS},
        )
        if self.contact_forces and impl != "jax":
            raise ValueError(
                f"impl={impl!r}: mjx/{type(self).__name__}-v5 needs contact forces, which only"
                " jax has"
            )
        for name, default in self.defaults.items():
            setattr(self, name, self.options.get(name, default))
        model = load(self.xml_file)
        if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
            model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        for name, value in SOLVERS[solver].items():
            setattr(model.opt, name, value)
        super().__init__(model, frame_skip=self.frame_skip, episode_length=length, impl=impl)

    def start(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """Generalised positions and velocities at the beginning of an episode."""
        qpos_key, qvel_key = jax.random.split(key)
        scale, shape = self.reset_noise_scale, (self.mj_model.nv,)
        qpos = self._around(qpos_key, scale)
        if self.normal_velocities:
            return qpos, scale * jax.random.normal(qvel_key, shape)
        return qpos, jax.random.uniform(qvel_key, shape, minval=-scale, maxval=scale)

    def derive(self, data: mjx.Data) -> mjx.Data:
        """Contact forces, for the tasks that use them."""
        return mjx.rne_postconstraint(self.model, data) if self.contact_forces else data

    def observe(self, data: mjx.Data) -> chex.Array:
        """Positions and velocities."""
        return jnp.concatenate([data.qpos, data.qvel])

    def _around(self, key, scale):
        """The model's own pose with uniform noise."""
        qpos = jnp.asarray(self.mj_model.qpos0, float)
        return qpos + jax.random.uniform(key, qpos.shape, minval=-scale, maxval=scale)


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
        z, finite = data.qpos[2], jnp.isfinite(jnp.concatenate([data.qpos, data.qvel]))
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
        bodies, joints = (data._impl.cinert, data.cvel), data.qfrc_actuator[6:]
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


def load(xml_file: str) -> mujoco.MjModel:
    """One of the model files that come with Gymnasium."""
    folder = (
        Path(importlib.util.find_spec("gymnasium").origin).parent / "envs" / "mujoco" / "assets"
    )
    spec = mujoco.MjSpec.from_file(str(folder / xml_file))
    # MuJoCo writes a warning into the working directory when it compiles a model with this
    # attribute.
    mass, spec.compiler.settotalmass = spec.compiler.settotalmass, -1
    model = spec.compile()
    if mass > 0:
        mujoco.mj_setTotalmass(model, mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def _between(x, bounds):
    return (bounds[0] < x) & (x < bounds[1])


def _norm(x):
    return jnp.sqrt(jnp.sum(x**2))
