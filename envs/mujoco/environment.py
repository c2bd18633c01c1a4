"""From a MuJoCo model to an environment: `MujocoEnvironment`, which runs it on the accelerator with
MJX.

A subclass says how an episode begins, what is observed, what is rewarded and when it is over. The
tasks of `suites/mjx.py` are examples, and this is a whole one:

    class Upright(MujocoEnvironment):
        def start(self, key):
            qpos = jax.random.uniform(key, (self.mj_model.nq,), minval=-0.1, maxval=0.1)
            return qpos, jnp.zeros(self.mj_model.nv)

        def observe(self, data):
            return jnp.concatenate([data.qpos, data.qvel])

        def reward(self, data, remembered, action):
            return jnp.cos(data.qpos[1])

        def terminated(self, data):
            return jnp.abs(data.qpos[1]) > 1.0

    env = Upright(mujoco.MjModel.from_xml_path("pendulum.xml"), frame_skip=2)
"""

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import mujoco
import numpy as np

# mujoco-mjx prints that an optional package is missing.
with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    from mujoco import mjx

from ..base import Step, strong
from ..options import require_count
from ..spaces import Box
from .fixes import bodies_once, contacts_as_in_mujoco
from .third_party import own_devices, third_party

IMPLEMENTATIONS = ("jax", "warp")
_FREE, _BALL = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)


class MujocoState(NamedTuple):
    """The state of the physics, without what follows from it.

    Attributes:
      qpos: generalised positions, `[nq]`.
      qvel: generalised velocities, `[nv]`.
      act: activations of actuators, `[na]`.
      qacc_warmstart: where the constraint solver begins, `[nv]`.
      time: steps taken in this episode, int32.
      remembered: of the present moment, for the reward of the next step.
    """

    qpos: chex.Array
    qvel: chex.Array
    act: chex.Array
    qacc_warmstart: chex.Array
    time: chex.Array
    remembered: Any


class MujocoEnvironment:
    """A MuJoCo model behind the contract, with a time limit that is a truncation. A subclass makes
    a task of it.

    Actions are the controls, within the actuators' ranges, and are kept for `frame_skip` steps of
    the physics. `data`, an `mjx.Data`, holds what MuJoCo's would after as many `mj_step`: qpos and
    qvel of the present moment, and all else (xpos, sensors, forces) of the last evaluation of the
    dynamics, a step of the physics or, with the Runge-Kutta integrator, less before it.

    Args:
      model: the model. What MJX does not know is refused by it, with NotImplementedError.
      frame_skip: steps of the physics in a step of the environment.
      episode_length: steps after which an episode is truncated.
      impl: of MJX: "jax", or "warp" (CUDA and CPU, needs the package warp-lang).
      naconmax: with "warp", the contacts that all copies together can have; it prints a warning and
        drops what is more.
      njmax: with "warp", the rows of constraints that one copy can have, likewise.

    Raises:
      ValueError: frame_skip, episode_length, naconmax or njmax is below 1, impl is unknown, an
        actuator has no limits, or the model has mocap bodies.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        frame_skip: int = 1,
        episode_length: int = 1000,
        impl: str = "jax",
        naconmax: int = 100_000,
        njmax: int = 256,
    ):
        self._capacity = {"naconmax": naconmax, "njmax": njmax}
        counts = {"frame_skip": frame_skip, "episode_length": episode_length, **self._capacity}
        for name, value in counts.items():
            require_count(name, value)
        if impl not in IMPLEMENTATIONS:
            raise ValueError(f"impl={impl!r}: must be one of {', '.join(IMPLEMENTATIONS)}")
        if model.nmocap:
            raise ValueError(
                f"the model has {model.nmocap} mocap bodies, whose poses are not part of the state"
            )
        self.mj_model = model
        self.impl = impl
        self.frame_skip = frame_skip
        self.episode_length = episode_length
        self.step_seconds = frame_skip * float(model.opt.timestep)
        with own_devices():
            self.model = mjx.put_model(model, impl=impl)
        for i in np.flatnonzero(~model.actuator_ctrllimited.astype(bool)):
            raise ValueError(
                f"actuator {model.actuator(i).name or i}: must have limits, ctrlrange in the model"
            )
        self.action_space = Box(*model.actuator_ctrlrange.T)
        _, obs = jax.eval_shape(self.reset, jax.random.key(0))
        self.observation_space = jax.tree.map(lambda x: Box(-np.inf, np.inf, x.shape), obs)

    def start(self, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
        """Generalised positions `[nq]` and velocities `[nv]` at the beginning of an episode."""
        raise NotImplementedError(f"{type(self).__name__}.start")

    def observe(self, data: mjx.Data) -> Any:
        """What the agent sees: an array, or a dict with "state" and "privileged_state"."""
        raise NotImplementedError(f"{type(self).__name__}.observe")

    def reward(self, data: mjx.Data, remembered: Any, action: chex.Array) -> chex.Array:
        """The reward of a step that ended in `data`; `remembered` is of the moment before it."""
        raise NotImplementedError(f"{type(self).__name__}.reward")

    def remember(self, data: mjx.Data) -> Any:
        """What `reward` wants to know of the moment before the step; by default nothing."""
        del data
        return ()

    def terminated(self, data: mjx.Data) -> chex.Array:
        """Whether the task is over; by default never."""
        del data
        return jnp.bool_(False)

    def derive(self, data: mjx.Data) -> mjx.Data:
        """What is computed once after the physics of a step, such as `mjx.rne_postconstraint`; by
        default nothing.
        """
        return data

    def reset(self, key: chex.PRNGKey):
        """Starts an episode."""
        with third_party(), bodies_once(), contacts_as_in_mujoco():
            qpos, qvel = self.start(key)
            state = self.state(qpos, qvel)
            # MJX writes normalised quaternions back, MuJoCo does not.
            data = mjx.forward(self.model, self._data(state)).replace(qpos=state.qpos)
            state = state._replace(remembered=self.remember(data))
            return strong((state, self.observe(data)))

    def step(self, key: chex.PRNGKey, state: MujocoState, action: chex.Array):
        """Advances by one step; the key is not used, the dynamics are deterministic."""
        del key
        with third_party(), bodies_once(), contacts_as_in_mujoco():
            data = self._data(state).replace(ctrl=action)
            advance = self._advance()
            data = self.derive(
                jax.lax.fori_loop(0, self.frame_skip, lambda _, data: advance(data), data)
            )
            time = state.time + 1
            step = Step(
                obs=self.observe(data),
                reward=jnp.asarray(self.reward(data, state.remembered, action), jnp.float32),
                terminated=jnp.asarray(self.terminated(data), bool),
                truncated=time >= self.episode_length,
                info={},
            )
            following = MujocoState(
                data.qpos, data.qvel, data.act, data.qacc_warmstart, time, self.remember(data)
            )
            return strong((following, step))

    def state(self, qpos: chex.Array, qvel: chex.Array) -> MujocoState:
        """A state at the beginning of an episode, in which nothing is remembered yet."""
        model = self.mj_model
        qpos, qvel = jnp.asarray(qpos, float), jnp.asarray(qvel, float)
        for name, value, size in (("positions", qpos, model.nq), ("velocities", qvel, model.nv)):
            if value.shape != (size,):
                raise ValueError(f"start: {name} must have the shape ({size},), got {value.shape}")
        zeros = jnp.zeros(model.nv, qvel.dtype)
        return MujocoState(qpos, qvel, jnp.zeros(model.na, qvel.dtype), zeros, jnp.int32(0), ())

    def qpos(self, state: MujocoState) -> chex.Array:
        """The generalised positions in a state, `[..., nq]`; what draws it needs."""
        return state.qpos

    def _body(self, name):
        """The index of a body in `data.xpos`."""
        return self.mj_model.body(name).id

    def _data(self, state):
        model = self.model if self.impl == "jax" else self.mj_model
        data = mjx.make_data(model, impl=self.impl, **self._capacity)
        return data.replace(
            qpos=state.qpos,
            qvel=state.qvel,
            act=state.act,
            qacc_warmstart=state.qacc_warmstart,
            time=jnp.asarray(state.time * self.step_seconds, data.time.dtype),
        )

    def _advance(self) -> Callable[[mjx.Data], mjx.Data]:
        """A step of the physics."""
        runge_kutta = self.mj_model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
        if runge_kutta and not self.mj_model.na and self.impl == "jax":
            return lambda data: _runge_kutta(self.model, self.mj_model, data)
        return lambda data: _typed(mjx.step(self.model, data), data)


def _runge_kutta(model: mjx.Model, mj_model: mujoco.MjModel, data: mjx.Data) -> mjx.Data:
    """`mjx.step` with the classical Runge-Kutta integrator, which unrolls its four stages: here
    they are a loop.

    The dynamics are compiled once instead of four times, which takes half the time.
    """
    timestep = model.opt.timestep

    def stage(carry, weights):
        data, mean_qvel, mean_qacc = carry
        reach, share = weights
        qpos = _integrate(mj_model, start.qpos, reach * data.qvel, timestep)
        qvel = start.qvel + reach * timestep * data.qacc
        data = _typed(mjx.forward(model, data.replace(qpos=qpos, qvel=qvel)), data)
        return (data, mean_qvel + share * data.qvel, mean_qacc + share * data.qacc), None

    start = data
    zeros = jnp.zeros_like(data.qvel)
    weights = jnp.array([[0.0, 1 / 6], [0.5, 1 / 3], [0.5, 1 / 3], [1.0, 1 / 6]], zeros.dtype)
    (data, qvel, qacc), _ = jax.lax.scan(
        stage, (data, zeros, zeros), (weights[:, 0], weights[:, 1])
    )
    return data.replace(
        qpos=_integrate(mj_model, start.qpos, qvel, timestep),
        qvel=start.qvel + timestep * qacc,
        qacc_warmstart=data.qacc,
        time=start.time + timestep,
    )


def _typed(tree, like):
    """In double precision MJX returns some integers wider than it got them."""
    return jax.tree.map(lambda x, y: x.astype(y.dtype), tree, like)


def _integrate(mj_model, qpos, qvel, timestep):
    """Positions `[nq]` after moving with velocities `[nv]` for a timestep; quaternions are
    turned.
    """
    parts = []
    for kind, q, v in zip(
        mj_model.jnt_type, mj_model.jnt_qposadr, mj_model.jnt_dofadr, strict=True
    ):
        if kind == _FREE:
            parts += [qpos[q : q + 3] + timestep * qvel[v : v + 3]]
            q, v = q + 3, v + 3
        if kind in (_FREE, _BALL):
            parts += [_turned(qpos[q : q + 4], timestep * qvel[v : v + 3])]
        else:
            parts += [qpos[q : q + 1] + timestep * qvel[v : v + 1]]
    return jnp.concatenate(parts)


def _turned(quaternion, rotation):
    """A quaternion (w, x, y, z), turned by a rotation vector in its own frame."""
    angle = jnp.sqrt(jnp.maximum(jnp.sum(rotation**2), jnp.finfo(rotation.dtype).tiny))
    x = jnp.sin(angle / 2) * rotation / angle
    w = jnp.cos(angle / 2)
    a, b = quaternion[0], quaternion[1:]
    turned = jnp.concatenate([(a * w - b @ x)[None], a * x + w * b + jnp.cross(b, x)])
    return turned / jnp.sqrt(jnp.sum(turned**2))
