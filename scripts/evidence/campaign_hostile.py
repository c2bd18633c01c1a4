"""What the part `hostile` of the fault campaign tries, as data: command lines, and environments of
one's own.

Each says whether it may legitimately work; what may not must be refused in a sentence.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from onejit import envs

# Flags for the smallest program of an algorithm on a probe; a line that begins with ~ may work.
_COMMANDS = """
ppo --seed=4294967296
ppo --seed=1e30
ppo --seed=-1
ppo --seed=1.5
ppo --seed=
ppo --seed=nan
~ppo --seed=4294967295
~ppo --seed=1e3
ppo --num_seeds=0
ppo --num_seeds=1e6
ppo --num_seeds=1e30
ppo --num_seeds=nan
ppo --num_logs=0
~ppo --num_logs=1e18
ppo --num_logs=inf
ppo --num_logs=two
ppo --num_evals=-1
~ppo --num_evals=1e18
ppo --num_evals=
ppo --eval_episodes=0
ppo --eval_episodes=1e9
ppo --eval_episodes=1e30
ppo --record=maybe
ppo --norecord=true
ppo --env=
ppo --env=/
ppo --env=gymnax
ppo --env=gymnax/
ppo --env=probe/../all
ppo --env=nonsense/x
ppo --env=playground/nonsense
ppo --env=brax/ant/x
~ppo --env_options=
ppo --env_options==
ppo --env_options==1
ppo --env_options=speed
ppo --env_options=speed=3
ppo --env_options=continuous=yes
ppo --env_options=continuous=None
ppo --env_options=continuous=3
ppo --env_options=continuous=nan
~ppo --env_options=continuous=False,continuous=True
ppo --env_options=continuous=True,
ppo --env=gymnax/CartPole-v1 --env_options=max_steps_in_episode=0
ppo --env=gymnax/CartPole-v1 --env_options=max_steps_in_episode=-5
ppo --env=gymnax/CartPole-v1 --env_options=max_steps_in_episode=long
ppo --env=gymnax/CartPole-v1 --env_options=max_steps_in_episode=None
ppo --env=gymnax/CartPole-v1 --env_options=max_steps_in_episode=nan
ppo --env=gymnax/CartPole-v1 --env_options=max_steps_in_episode=2.5
ppo --env=gymnax/CartPole-v1 --env_options=max_steps_in_episode=1e400
ppo --env=gymnax/CartPole-v1 --env_options=gravity=down
ppo --env=gymnax/CartPole-v1 --env_options=gravity=None
ppo --env=gymnax/CartPole-v1 --env_options=gravity=nan
ppo --env=gymnax/CartPole-v1 --env_options=gravity=[1]
ppo --env=gymnax/CartPole-v1 --env_options=Gravity=9.8
~ppo --env=gymnax/CartPole-v1 --env_options=gravity=10
ppo --env=brax/inverted_pendulum --env_options=backend=warp
ppo --env=brax/inverted_pendulum --env_options=backend=None
ppo --env=brax/inverted_pendulum --env_options=episode_length=0
ppo --env=brax/inverted_pendulum --env_options=episode_length=-5
ppo --env=brax/inverted_pendulum --env_options=episode_length=long
ppo --env=brax/inverted_pendulum --env_options=episode_length=None
ppo --env=brax/inverted_pendulum --env_options=episode_length=nan
ppo --env=brax/inverted_pendulum --env_options=solver_iterations=0
ppo --env=brax/inverted_pendulum --env_options=ls_iterations=many
ppo --env=brax/ant --env_options=reset_noise_scale=nan
ppo --env=brax/ant --env_options=reset_noise_scale=loud
ppo --env=mjx/InvertedPendulum-v5 --env_options=impl=None
ppo --env=mjx/InvertedPendulum-v5 --env_options=solver=magic
ppo --env=mjx/InvertedPendulum-v5 --env_options=episode_length=0
ppo --env=mjx/HalfCheetah-v5 --env_options=reset_noise_scale=None
ppo --env=playground/CartpoleBalance --env_options=episode_length=0
ppo --env=playground/CartpoleBalance --env_options=config=5
ppo --out=
ppo --out=file
ppo --out=file/below
ppo --out=locked
ppo --out=/proc/nothing
ppo --resume=
ppo --resume=file
ppo --resume=empty
ppo --resume=nowhere
ppo --resume=locked
ppo --resume=/
ppo --resume=/dev/null
ppo --resume=sac_run
spo --resume=sac_run
staq --resume=sac_run
td3 --resume=sac_run
sac --resume=sac_run --seed=5
sac --resume=sac_run --env=probe/delay
sac --resume=sac_run --actor_hidden_sizes=16
sac --resume=sac_run --gamma=3
sac --resume=sac_run --total_steps=10
sac --resume=sac_run --total_steps=200
sac --resume=sac_run --num_seeds=2
sac --resume=sac_run --num_logs=0
sac --resume=sac_run --out=elsewhere
sac --resume=sac_run --num_envs=
~sac --resume=sac_run --gamma=0.5
~sac --resume=sac_run
ppo --resume=sac_run --resume=
ppo CartPole
ppo -- CartPole
~ppo --
ppo --no_such_flag
ppo --learning_rat=1
ppo --learning_rate=
ppo --learning_rate=-1
ppo --learning_rate=0
ppo --learning_rate=nan
ppo --learning_rate=inf
ppo --learning_rate=1e-400
ppo --learning_rate=1e400
ppo --learning_rate=1e39
ppo --learning_rate=1e-46
ppo --learning_rate=fast
ppo --gamma=3
ppo --gamma=nan
ppo --gae_lambda=-0.1
ppo --vf_coef=inf
ppo --clip_eps=nan
ppo --clip_eps=0
~ppo --vf_clip_eps=inf
ppo --vf_clip_eps=nan
ppo --max_grad_norm=0
ppo --adam_eps=0
ppo --reward_scale=0
ppo --ent_coef=-1
ppo --total_steps=0
ppo --total_steps=1e30
ppo --total_steps=2147483648
ppo --total_steps=31
ppo --num_envs=0
ppo --num_envs=2.5
ppo --num_envs=1e12
ppo --num_envs=1e30
ppo --num_steps=1e12
ppo --num_minibatches=0
ppo --num_minibatches=7
ppo --num_minibatches=32
ppo --update_epochs=0
ppo --update_epochs=1e9
ppo --update_epochs=1e30
ppo --hidden_sizes=
ppo --hidden_sizes=,
ppo --hidden_sizes=0
ppo --hidden_sizes=-8
ppo --hidden_sizes=8.5
ppo --hidden_sizes=1e9
ppo --hidden_sizes=100000000
ppo --hidden_sizes=[8]
ppo --hidden_sizes=a,b
~ppo --hidden_sizes=8,8
ppo --activation=gelu
ppo --activation=
ppo --initialiser=zero
ppo --policy=beta
ppo --reset=never
ppo --normalize_obs=perhaps
mdpo --policy_steps=1e9
mdpo --policy_steps=0
mdpo --step_size=0
mdpo --min_step_size=1e30
spo --eps=nan
spo --eps=-1
td3 --batch_size=0
td3 --batch_size=1e10
td3 --batch_size=1e30
td3 --buffer_size=1
td3 --buffer_size=1e12
td3 --buffer_size=2147483648
td3 --learning_starts=0
td3 --learning_starts=1e12
td3 --num_updates=1e9
td3 --num_updates=3 --policy_delay=2
td3 --policy_delay=1e9
td3 --policy_delay=0
td3 --n_step=0
td3 --n_step=1000
td3 --n_step=1e9
td3 --tau=0
td3 --tau=2
td3 --replay_dtype=float16
td3 --dtype=int8
td3 --policy_noise=-1
td3 --noise_clip=nan
td3 --exploration_noise=inf
fast_td3 --min_noise=2 --max_noise=1
fast_td3 --v_min=5 --v_max=-5
fast_td3 --v_min=1 --v_max=1
fast_td3 --num_atoms=1
fast_td3 --num_atoms=1e9
fast_td3 --weight_decay=-1
sac --initial_alpha=0
sac --initial_alpha=inf
~sac --target_entropy=-3
fast_sac --v_max=nan
fast_sac --critic_hidden_sizes=1000000,1000000
mdpo_off_policy --tsallis_q=2
mdpo_off_policy --tsallis=sometimes
mdpo_off_policy --old_actor_interval=0
mdpo_off_policy --kappa=-1
staq --memory=0
staq --memory=1e9
staq --num_critics=0
staq --num_critics=1e9
staq --updates_per_step=1e9
staq --bins=1
staq --env_options=continuous=True --bins=1e9
staq --target_interval=0
staq --kl_weight=1e30
staq --entropy_start=0
staq --epsilon=1.1
staq --anneal_fraction=nan
td3 --env_options=continuous=False
fast_sac --env_options=continuous=False
"""

# Command lines of the other scripts.
_SCRIPT_LINES = """
~ppo.py --help
~staq.py --help
~PYTHONIOENCODING=ascii LC_ALL=C ppo.py --help
~JAX_ENABLE_X64=1 td3.py --env=gymnax/Pendulum-v1 --total_steps=60 --learning_starts=40 --batch_size=4 --norecord
~JAX_ENABLE_X64=1 staq.py --num_envs=4 --num_steps=8 --memory=3 --learning_starts=64 --total_steps=128 --batch_size=8
~JAX_ENABLE_X64=1 ppo.py --num_envs=4 --num_steps=8 --total_steps=64 --eval_episodes=2 --norecord
render.py
render.py nowhere
render.py file
render.py empty
render.py sac_run empty
render.py sac_run --member=1
render.py sac_run --member=-1
render.py sac_run --max_steps=0
render.py sac_run --seed=1e30
render.py sac_run --seed=-1
render.py sac_run --register=/nonexistent.py
render.py sac_run --register=bad.py
render.py sac_run --register=empty
render.py sac_run --register=
render.py sac_run --no_such_flag
smoothing.py --experiment=nonsense
smoothing.py --env=nonsense/x
smoothing.py --env=gymnax/CartPole-v1 --sigmas=-1
smoothing.py --env=gymnax/CartPole-v1 --sigmas=a
smoothing.py --env=gymnax/CartPole-v1 --num_frames=0
smoothing.py --env=gymnax/CartPole-v1 --algorithm=nonsense
smoothing.py --env=gymnax/CartPole-v1 --episodes=0
minimal_ppo.py --env=nonsense/x
minimal_ppo.py --num_envs=0
minimal_td3.py --batch_size=two
"""

COMMANDS = [
    (line.startswith("~"), *line.removeprefix("~").partition(" ")[::2])
    for line in _COMMANDS.strip().splitlines()
]
SCRIPT_LINES = [
    (line.startswith("~"), line.removeprefix("~")) for line in _SCRIPT_LINES.strip().splitlines()
]


class Own:
    """An environment of one's own that is right; the variants below each do something wrong."""

    def __init__(self, **wrong):
        self.observation_space = wrong.get("space", envs.Box(-1.0, 1.0, (3,)))
        self.action_space = wrong.get("actions", envs.Discrete(3))
        self._wrong = wrong

    def _obs(self, when: str):
        if when in self._wrong:
            return self._wrong[when]()
        space = self.observation_space
        zeros = (
            {name: jnp.zeros(box.shape, box.dtype) for name, box in space.items()}
            if isinstance(space, dict)
            else 0
        )
        return zeros or jnp.zeros(
            getattr(space, "shape", (3,)), getattr(space, "dtype", jnp.float32)
        )

    def reset(self, key):
        del key
        return self._wrong.get("state", lambda: jnp.int32(0))(), self._obs("first")

    def step(self, key, state, action):
        del key, action
        flag = {
            name: self._wrong.get(name, lambda: jnp.bool_(False))()
            for name in ("terminated", "truncated")
        }
        flag["truncated"] = (
            flag["truncated"] | (state >= 8)
            if "truncated" not in self._wrong
            else flag["truncated"]
        )
        reward = self._wrong.get("reward", lambda: jnp.float32(1))()
        return self._wrong.get("next", lambda s: s + 1)(state), envs.Step(
            self._obs("obs"), reward, info={}, **flag
        )


def _pictures(*shape: int) -> Callable[[], Own]:
    return lambda: Own(space=envs.Box(0.0, 1.0, shape))


def _own(**wrong) -> Callable[[], Own]:
    return lambda: Own(**wrong)


class _Unfinished(Own):
    """Has one method or attribute less, or one that fails."""

    def __init__(self, what: str):
        super().__init__()
        self.what = what
        if what in ("action_space", "observation_space"):
            delattr(self, what)

    def reset(self, key):
        if self.what == "reset fails":
            raise KeyError("a fault of the environment's own")
        state, obs = super().reset(key)
        return obs if self.what == "reset returns the observation alone" else (state, obs)

    def step(self, key, state, action):
        if self.what == "step fails":
            raise KeyError("a fault of the environment's own")
        if self.what == "step looks at a number":
            state = state + (1 if float(state) > 0 else 2)
        state, step = super().step(key, state, action)
        if self.what == "step returns Gymnasium's five":
            return step.obs, step.reward, step.terminated, step.truncated, {}
        return (state, tuple(step)) if self.what == "step returns a tuple" else (state, step)


def box(*shape: int, low=-1.0, high=1.0, dtype="float32") -> envs.Box:
    return envs.Box(low, high, shape, np.dtype(dtype))


# label: (may it work, factory)
ENVIRONMENTS: dict[str, tuple[bool, Callable[[], Any]]] = {
    "nothing wrong": (True, _own()),
    "a reward of shape (1,)": (False, _own(reward=lambda: jnp.ones(1))),
    "a reward of shape (3,)": (False, _own(reward=lambda: jnp.ones(3))),
    "an integer reward": (False, _own(reward=lambda: jnp.int32(1))),
    "a numpy float64 reward": (True, _own(reward=lambda: np.float64(1))),
    "a Python number as reward": (True, _own(reward=lambda: 1.0)),
    "a Python integer as reward": (False, _own(reward=lambda: 1)),
    "a boolean reward": (False, _own(reward=lambda: jnp.bool_(True))),
    "a complex reward": (False, _own(reward=lambda: jnp.complex64(1))),
    "a bfloat16 reward": (True, _own(reward=lambda: jnp.bfloat16(1))),
    "no reward": (False, _own(reward=lambda: None)),
    "an integer terminated": (False, _own(terminated=lambda: jnp.int32(0))),
    "a float truncated": (False, _own(truncated=lambda: jnp.float32(0))),
    "a Python boolean terminated": (True, _own(terminated=lambda: False)),
    "terminated of shape (1,)": (False, _own(terminated=lambda: jnp.zeros(1, bool))),
    "no terminated": (False, _own(terminated=lambda: None)),
    "a longer observation in step": (False, _own(obs=lambda: jnp.zeros(4))),
    "a longer observation in both": (
        False,
        _own(obs=lambda: jnp.zeros(4), first=lambda: jnp.zeros(4)),
    ),
    "an observation with one axis more": (
        False,
        _own(obs=lambda: jnp.zeros((1, 3)), first=lambda: jnp.zeros((1, 3))),
    ),
    "an integer observation": (
        False,
        _own(obs=lambda: jnp.zeros(3, int), first=lambda: jnp.zeros(3, int)),
    ),
    "an integer observation in step": (False, _own(obs=lambda: jnp.zeros(3, int))),
    "a tuple of observations": (
        False,
        _own(obs=lambda: (jnp.zeros(3),) * 2, first=lambda: (jnp.zeros(3),) * 2),
    ),
    "a dict for a Box": (
        False,
        _own(obs=lambda: {"state": jnp.zeros(3)}, first=lambda: {"state": jnp.zeros(3)}),
    ),
    "no observation": (False, _own(obs=lambda: None, first=lambda: None)),
    "a dict space without state": (False, _own(space={"camera": box(3)})),
    "a dict space with a third entry": (False, _own(space={"state": box(3), "mask": box(2)})),
    "privileged observations": (True, _own(space={"state": box(3), "privileged_state": box(2)})),
    "a Discrete observation": (False, _own(space=envs.Discrete(3))),
    "no observation space": (False, _own(space=None)),
    "a tuple of observation spaces": (False, _own(space=(box(3), box(3)))),
    "observations without numbers": (False, _own(space=box(0))),
    "pictures (1, 16, 16)": (False, _pictures(1, 16, 16)),
    "pictures (2, 16, 16)": (False, _pictures(2, 16, 16)),
    "pictures (3, 16, 16)": (False, _pictures(3, 16, 16)),
    "pictures (16, 2, 3)": (True, _pictures(16, 2, 3)),
    "pictures (2, 2, 3)": (True, _pictures(2, 2, 3)),
    "pictures (1, 1, 1)": (True, _pictures(1, 1, 1)),
    "pictures (16, 16, 0)": (False, _pictures(16, 16, 0)),
    "pictures (16, 16, 3)": (True, _pictures(16, 16, 3)),
    "observations of four axes": (True, _pictures(2, 4, 4, 3)),
    "observations of two axes": (True, _pictures(4, 4)),
    "observations of no axis": (True, _pictures()),
    "a Box of integers as actions": (False, _own(actions=box(1, low=0, high=3, dtype="int32"))),
    "unbounded actions": (False, _own(actions=box(1, low=-np.inf, high=np.inf))),
    "half bounded actions": (False, _own(actions=box(1, high=np.inf))),
    "actions with two axes": (False, _own(actions=box(2, 2))),
    "actions without an axis": (False, _own(actions=box())),
    "actions without numbers": (False, _own(actions=box(0))),
    "actions whose bounds are equal": (True, _own(actions=box(1, low=0.5, high=0.5))),
    "a tuple of action spaces": (False, _own(actions=(envs.Discrete(2), envs.Discrete(2)))),
    "a dict of action spaces": (False, _own(actions={"a": envs.Discrete(2)})),
    "an integer for an action space": (False, _own(actions=3)),
    "no actions": (False, _own(actions=None)),
    "a state that changes its dtype": (False, _own(next=lambda s: s + 1.5)),
    "a state that changes its shape": (False, _own(next=lambda s: jnp.stack([s, s]))),
    "a state that changes its structure": (False, _own(next=lambda s: (s, s))),
    "a state that is a Python number": (True, _own(state=lambda: 0)),
    "no state": (False, _own(next=lambda s: None)),
    **{
        what: (False, lambda what=what: _Unfinished(what))
        for what in (
            "observation_space",
            "action_space",
            "reset fails",
            "step fails",
            "step looks at a number",
            "reset returns the observation alone",
            "step returns Gymnasium's five",
            "step returns a tuple",
        )
    },
}
