"""What Gymnasium's MuJoCo tasks have in common."""

import importlib.util
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import mujoco

from ..options import checked
from .environment import IMPLEMENTATIONS, MujocoEnvironment, mjx

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
        scale = self.reset_noise_scale
        shape = (self.mj_model.nv,)
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


def load(xml_file: str) -> mujoco.MjModel:
    """One of the model files that come with Gymnasium."""
    folder = (
        Path(importlib.util.find_spec("gymnasium").origin).parent / "envs" / "mujoco" / "assets"
    )
    spec = mujoco.MjSpec.from_file(str(folder / xml_file))
    # MuJoCo writes a warning into the working directory when it compiles a model with this
    # attribute.
    mass = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1
    model = spec.compile()
    if mass > 0:
        mujoco.mj_setTotalmass(model, mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model
