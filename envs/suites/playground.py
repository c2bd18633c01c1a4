"""MuJoCo Playground's tasks (playground >= 0.2), without Playground's own episode and auto-reset
wrappers.

These lose the final observation of an episode, and with full resets the truncation too; `VectorEnv`
keeps both.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

# Without warp, mujoco-mjx prints that it is missing.
with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    from mujoco_playground import registry
    from mujoco_playground._src import mjx_env

from ..base import Step, strong
from ..mujoco.fixes import bodies_once
from ..mujoco.menagerie import Menagerie, MissingModelError
from ..mujoco.third_party import own_devices, replaced, third_party
from ..options import checked, unfit
from ..spaces import Box

# (model of MJX, raw keys [n, 2]) -> (the model with n values of some leaves, a model of their
# axes).
Randomizer = Callable[[Any, chex.Array], tuple[Any, Any]]


def names() -> list[str]:
    """The names of the environments of this suite."""
    return list(registry.ALL_ENVS)


def make(
    name: str,
    *,
    impl: str = "jax",
    episode_length: int | None = None,
    randomize: bool | Randomizer = False,
    menagerie: str = "",
    **options: Any,
) -> "Playground":
    """Makes one of MuJoCo Playground's environments.

    Args:
      name: Playground's own name, such as "CheetahRun" or "Go1JoystickFlatTerrain".
      impl: of MJX: "jax", which is also the faster one on a CPU, or "warp", Playground's default,
        for CUDA.
      episode_length: Playground's steps after which an episode is truncated, action_repeat of which
        are one step here; by default Playground's.
      randomize: draw the physics anew for each episode: True for Playground's own randomisation of
        this robot, or a function as Playground has them, (model of MJX, keys `[n, 2]`) -> (model
        with n values of some of its leaves, model whose leaves are 0 there and None elsewhere).
      menagerie: a folder with the models of robots, such as a clone of MuJoCo Menagerie; looked
        through first. By default what the environment variable ONEJIT_MENAGERIE names, if it does.
      **options: entries of Playground's config for the environment, such as ctrl_dt=0.02; those
        further down by a dotted name, `**{"reward_config.scales.torques": 0.0}`.

    Raises:
      ValueError: an option is not one of the config's, a value is not allowed, or there is no
        randomisation.
      MissingModelError: the robot's model is nowhere (the message says how to get it); it is never
        fetched.
    """
    config = registry.get_default_config(name)
    known = dict(sorted(_entries(config)))
    length = int(config.episode_length) if episode_length is None else episode_length
    overrides = checked(
        f"playground/{name}",
        {"impl": impl, "episode_length": length, **options},
        known | {"impl": "jax", "episode_length": 1},
        low={"episode_length": 1, "action_repeat": 1, "ctrl_dt": 1e-6, "sim_dt": 1e-6},
        choices={"impl": ("jax", "warp")},
    )
    control, physics = ((known | overrides)[each] for each in ("ctrl_dt", "sim_dt"))
    if control < physics:
        raise ValueError(
            f"playground/{name}: ctrl_dt={control}: must be at least sim_dt = {physics}"
        )
    if not isinstance(menagerie, str):
        raise ValueError(f"playground/{name}: menagerie={menagerie!r}: must be a folder's name")
    if not (isinstance(randomize, bool) or callable(randomize)):
        raise ValueError(
            f"playground/{name}: randomize={randomize!r}: must be True, False or a function"
        )
    own = registry.get_domain_randomizer(name) if randomize is True else None
    if randomize is True:
        randomize = own
        if randomize is None:
            raise ValueError(f"playground/{name} has no randomisation of its own; give a function")
    models = Menagerie(
        f"playground/{name}", mjx_env.MENAGERIE_PATH, mjx_env.MENAGERIE_COMMIT_SHA, menagerie
    )
    # Playground would clone them, with git, when something is loaded.
    with (
        replaced(vars(mjx_env), "ensure_menagerie_exists", lambda: None),
        replaced(vars(mjx_env), "MENAGERIE_PATH", models),
        own_devices(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            env = registry.load(name, config=config, config_overrides=overrides)
        except MissingModelError:
            raise
        except Exception as error:  # whatever Playground makes of options that do not go together
            raise unfit(f"playground/{name}", overrides, error) from error
    made = Playground(
        env,
        overrides["episode_length"],
        int(env._config.get("action_repeat", 1)),
        randomize or None,
    )
    given = {"randomize": True} if own else {}
    made.options = overrides | given | ({"menagerie": menagerie} if menagerie else {})
    return made


class PlaygroundState(NamedTuple):
    """The state of `Playground`.

    Attributes:
      state: Playground's own.
      time: steps taken in this episode.
      physics: what was randomised of the model for this episode, a list of arrays.
    """

    state: Any
    time: chex.Array
    physics: list[chex.Array]


class Playground:
    """A raw Playground environment behind the contract, with a time limit that is a truncation.

    Actions are in [−1, 1]; Playground maps them to the actuators. An episode whose physics diverges
    is terminated, and its last observation and reward have 0 in place of what is not finite.
    """

    def __init__(
        self,
        env: Any,
        episode_length: int,
        action_repeat: int = 1,
        randomize: Randomizer | None = None,
    ):
        self._env = env
        self._episode_length = episode_length
        self._action_repeat = action_repeat
        self._randomize = randomize
        self.options: dict[str, Any] = {}  # what `make` was called with
        if randomize:
            self._structure, self._randomized = _randomized_leaves(randomize, env.mjx_model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, obs = jax.eval_shape(self.reset, jax.random.key(0))
        self.observation_space = jax.tree.map(lambda x: Box(-np.inf, np.inf, x.shape), obs)
        self.action_space = Box(-1.0, 1.0, (env.action_size,))

    def reset(self, key: chex.PRNGKey):
        """Starts an episode, with physics of its own if they are randomised."""
        key, physics_key = map(jax.random.key_data, jax.random.split(key))
        with third_party(), bodies_once():
            physics = self._draw(physics_key)
            with self._physics(physics):
                state = self._env.reset(key)
        return strong((PlaygroundState(state, jnp.int32(0), physics), _observation(state.obs)))

    def step(self, key: chex.PRNGKey, state: PlaygroundState, action: chex.Array):
        """Advances by one step; the key is not used, Playground's environments carry their own."""
        del key
        # Playground's step writes into the dicts of the state that it is given: hand it a copy.
        following = jax.tree.map(lambda x: x, state.state)
        reward = 0.0
        with third_party(), bodies_once(), self._physics(state.physics):
            for _ in range(self._action_repeat):
                following = self._env.step(following, action)
                reward += following.reward
        time = state.time + 1
        obs = _observation(following.obs)
        finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((obs, reward))]
        step = Step(
            obs=jax.tree.map(_finite, obs),
            reward=_finite(jnp.asarray(reward, jnp.float32)),
            terminated=(following.done > 0) | ~jnp.all(jnp.stack(finite)),
            truncated=time * self._action_repeat >= self._episode_length,
            info=following.metrics,
        )
        return strong((PlaygroundState(following, time, state.physics), step))

    @property
    def step_seconds(self) -> float:
        """Seconds of simulated time in one step."""
        return float(self._env.dt) * self._action_repeat

    @property
    def unwrapped(self) -> Any:
        """Playground's own environment."""
        return self._env

    @property
    def mj_model(self) -> Any:
        """The `mujoco.MjModel` behind the environment; what draws it needs."""
        return self._env.mj_model

    def qpos(self, state: PlaygroundState) -> chex.Array:
        """The generalised positions in a state, `[..., nq]`; what draws it needs."""
        return state.state.data.qpos

    def _draw(self, key):
        """The randomised leaves of the model, for one episode."""
        if not self._randomize:
            return []
        leaves = self._structure.flatten_up_to(self._randomize(self._env.mjx_model, key[None])[0])
        return [leaves[i][0] for i in self._randomized]

    @contextlib.contextmanager
    def _physics(self, drawn):
        """Inside, the environment's model has these leaves; Playground's own wrapper replaces it in
        this way too.
        """
        if not drawn:
            yield
            return
        original = self._env._mjx_model
        leaves = self._structure.flatten_up_to(original)
        for i, leaf in zip(self._randomized, drawn, strict=True):
            leaves[i] = leaf
        self._env._mjx_model = self._structure.unflatten(leaves)
        try:
            yield
        finally:
            self._env._mjx_model = original


def _randomized_leaves(randomize, model):
    """The structure of the model, and the numbers of the leaves that a randomisation changes."""
    found = []

    def trace(keys):
        found.append(jax.tree.flatten(randomize(model, keys)[1], is_leaf=lambda x: x is None))

    with third_party():
        jax.eval_shape(trace, jax.ShapeDtypeStruct((1, 2), jnp.uint32))
    [(axes, structure)] = found
    return structure, [i for i, axis in enumerate(axes) if axis is not None]


def _entries(config, prefix=""):
    """The entries of a config, with dotted names."""
    for name, value in config.items():
        if name in ("vision", "vision_config"):
            continue
        if isinstance(value, type(config)):
            yield from _entries(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _observation(obs):
    return dict(obs) if isinstance(obs, Mapping) else obs


def _finite(x):
    return jnp.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
