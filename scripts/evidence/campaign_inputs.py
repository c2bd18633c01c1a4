"""The parts of the fault campaign about what goes in: numbers that are not finite, and values that
make no sense.
"""

import contextlib
import functools
import itertools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from campaign_calls import CALLS
from campaign_hostile import COMMANDS, ENVIRONMENTS, SCRIPT_LINES
from campaign_trial import (
    SCRIPTS,
    Finding,
    Trial,
    algorithm_of,
    api,
    command,
    forked,
    judge,
    named,
    run_folder,
    run_of,
)
from jax.custom_batching import custom_vmap

from onejit import envs
from onejit.algos.core.training import advance
from onejit.algos.host import checkpoint

_NUM_ENVS, _ROWS, _PREFILL = 4, 80, 16
_ON_POLICY = "--num_envs=4 --num_steps=8 --num_minibatches=2 --hidden_sizes=8 --total_steps=320"
_OFF_POLICY = (
    "--num_envs=4 --batch_size=8 --buffer_size=512 --learning_starts=64 --actor_hidden_sizes=8 "
    "--critic_hidden_sizes=8 --total_steps=320"
)
# The smallest program of each algorithm.
TINY = {
    **dict.fromkeys(("ppo", "spo", "mdpo"), _ON_POLICY),
    **dict.fromkeys(("td3", "fast_td3", "sac", "fast_sac", "mdpo_off_policy"), _OFF_POLICY),
    "staq": (
        "--num_envs=4 --num_steps=8 --batch_size=8 --buffer_size=512 --learning_starts=64"
        " --memory=3 --hidden_sizes=8 --total_steps=320"
    ),
}
TINY["mdpo"] += " --policy_steps=2"

# Numbers
# ------------------------------------------------------------------------------------------------

_VALUES = (float("nan"), float("inf"), float("-inf"), 1e20)  # of the four copies


@custom_vmap
def _chosen(mark):
    """Which copy has the largest mark of all, and which one this is; none in evaluation, which has
    more of them.
    """
    return jnp.zeros_like(mark, bool), jnp.zeros_like(mark, jnp.int32)


@_chosen.def_vmap
def _(axis_size, in_batched, mark):
    del in_batched
    copies = jnp.arange(axis_size, dtype=jnp.int32)
    return ((mark == jnp.max(mark)) & (axis_size == _NUM_ENVS), copies % _NUM_ENVS), (True, True)


def _value(copy):
    return jnp.asarray(_VALUES, jnp.float32)[copy]


class Plan(NamedTuple):
    """The state of `Injected`: steps in this episode; whether it goes bad, at which step, in what;
    which copy it is.
    """

    time: jax.Array
    bad: jax.Array
    step: jax.Array
    in_reward: jax.Array
    copy: jax.Array


class Injected:
    """One of four copies gives one bad number, in a reward or an observation, or (resets=True)
    after a reset.

    Which copy and which step is drawn in the reset, so that the programs of all trials are the
    same.
    """

    observation_space = envs.Box(-np.inf, np.inf, (2,))

    def __init__(self, resets: bool, discrete: bool):
        self.action_space = envs.Discrete(2) if discrete else envs.Box(-1.0, 1.0, (1,))
        self._resets = resets
        self._length = 5 if resets else 100

    def reset(self, key):
        keys = jax.random.split(key, 4)
        bad, copy = _chosen(jax.random.uniform(keys[0]))
        step = jax.random.randint(keys[1], (), 0, _ROWS - 8)
        plan = Plan(
            jnp.int32(0), bad & (not self._resets), step, jax.random.bernoulli(keys[2]), copy
        )
        at_once = bad & self._resets & jax.random.bernoulli(keys[3], 0.5)
        return plan, jnp.where(at_once, _value(copy), jnp.zeros(2, jnp.float32))

    def step(self, key, plan, action):
        bad = plan.bad & (plan.time == plan.step)
        time = plan.time + 1
        obs = jnp.stack([jnp.sin(time.astype(jnp.float32)), jax.random.uniform(key)])
        reward = jnp.float32(1.0) - jnp.sum(jnp.square(action.astype(jnp.float32)))
        obs = jnp.where(bad & ~plan.in_reward, _value(plan.copy), obs)
        reward = jnp.where(bad & plan.in_reward, _value(plan.copy), reward)
        return plan._replace(time=time), envs.Step(
            obs, reward, jnp.bool_(False), time >= self._length, {}
        )


def numbers(work: Path) -> Iterator[Trial]:
    """NaN, infinities and 1e20 in rewards and observations, at random steps and copies, in all
    algorithms.
    """
    del work
    for name in TINY:
        for number in range(8):
            resets = number >= 6
            normalized = name != "staq" and number % 2 == 0
            shown = ("a reset" if resets else "a step") + (", normalised" if normalized else "")
            yield Trial(
                f"{name} {number}: {shown}", functools.partial(_injected, name, resets, normalized)
            )


def _injected(name: str, resets: bool, normalized: bool, folder: Path, seed: int) -> Finding:
    seed %= 1000
    env = Injected(resets, discrete=name == "staq")
    flags = [
        *shlex.split(TINY[name]),
        "--env=campaign/injected",
        f"--seed={seed}",
        "--eval_episodes=5",
        "--norecord",
    ]
    flags += ["--num_logs=10", "--num_evals=10"] + ["--normalize_obs=true"] * normalized
    flags += ["--normalize_reward"] if normalized and name in ("ppo", "spo", "mdpo") else []

    def run():
        """The script; then its checkpoints, and a State that was trained by hand, are looked at."""
        envs.register("campaign/injected", lambda: env)
        try:
            run_of(name, flags)()
        except SystemExit as ended:
            code = ended.code
        found, state, algorithm = [], *_by_hand(env, run_folder(folder), seed)
        for path in checkpoint.checkpoints(run_folder(folder) / "checkpoints"):
            found += [
                f"checkpoint {path.name}: {x}" for x in _not_finite(checkpoint.restore(path, state))
            ]
        # As the script's run.
        start = jax.jit(algorithm.init)(jax.random.split(jax.random.key(seed), 2)[1])
        plan = next(x for x in jax.tree.leaves(start, is_leaf=_is_plan) if _is_plan(x))
        found += [
            f"State: {each}"
            for each in _not_finite(state)
            if re.search("learner|replay|cache", each)
        ]
        copy = int(np.argmax(plan.bad))
        truth = {
            "copy": copy,
            "step": int(plan.step[copy]),
            "in": "reward" if plan.in_reward[copy] else "observation",
        }
        truth |= {
            "rows": getattr(algorithm.config, "rows_per_step", 8),
            "first": algorithm.initial_steps // _NUM_ENVS,
        }
        (folder / "found.json").write_text(json.dumps([found, truth]))
        sys.exit(code)

    finding = judge(forked(run, folder, seconds=120), refusals=(3,))
    if finding.outcome == "else":
        return finding
    found, truth = json.loads((folder / "found.json").read_text())
    if resets:
        truth = {"in": "observation", "copy": None}
    value = "nan, inf, -inf or 1e20" if resets else str(_VALUES[truth["copy"]])
    finding = finding._replace(more={"value": value, **truth})
    if found:
        return finding._replace(
            outcome="else", sentence=f"not finite: {', '.join(found[:4])}; {finding.sentence}"
        )
    if finding.outcome == "survived":
        return (
            finding
            if value == "1e+20"
            else finding._replace(outcome="else", sentence="was not noticed")
        )
    wrong = _wrong(finding.sentence, truth, value)
    return (
        finding._replace(outcome="else", sentence=f"{wrong}: {finding.sentence}")
        if wrong
        else finding
    )


def _is_plan(x) -> bool:
    return isinstance(x, Plan)


def _by_hand(env, folder, seed):
    """A State after all iterations, and the algorithm of a run."""
    algorithm = algorithm_of(folder, env)

    def chunk(state, num_iterations):
        return advance(algorithm, state, num_iterations)

    state = jax.jit(algorithm.init)(jax.random.key(seed))
    count = algorithm.iterations(algorithm.config.total_steps)
    return jax.jit(chunk, donate_argnums=0)(state, jnp.int32(count))[0], algorithm


def _not_finite(state) -> list[str]:
    """Names of the arrays of a State that are not finite; the config may hold infinities."""
    return [
        name
        for name, x in named(state).items()
        if not name.startswith(".config")
        and jnp.issubdtype(x.dtype, jnp.inexact)
        and not np.all(np.isfinite(x.astype(np.float32)))
    ]


def _wrong(sentence: str, truth: dict, value: str) -> str:
    """What a sentence about a fault says that is not so, or does not say; or ""."""
    other = "observation" if truth["in"] == "reward" else "reward"
    if re.search(f"(non-finite|of the) {other}", sentence):
        return f"it was no {other}"
    if "1e" in value:  # is finite: what becomes infinite of it is named
        return ""
    if truth["in"] not in sentence:
        return f"it was a {truth['in']}"
    if truth["copy"] is None:
        return "" if re.search("environment [012]\\b", sentence) else "names no environment"
    after = truth["step"] - truth["first"]
    iteration, step = divmod(after, truth["rows"]) if after >= 0 else (0, truth["step"])
    wanted = f"iteration {iteration}", f"step {step}", f"environment {truth['copy']}"
    missing = [each for each in wanted if not re.search(rf"{each}\b", sentence)]
    return f"does not say {', '.join(missing)}" if missing else ""


# Hostile values
# ------------------------------------------------------------------------------------------------


def _limits(may_work: bool) -> dict[str, float]:
    """Of a trial; what works is compiled, too."""
    return {"seconds": 60 if may_work else 20, "mib": 4096}


def hostile(work: Path) -> Iterator[Trial]:
    """Flags, fields, environments, networks and arguments that make no sense."""

    @functools.cache
    def other_run():
        """A run folder of SAC."""
        folder = work / "hostile"
        folder.mkdir()
        ended = forked(
            run_of("sac", [*shlex.split(TINY["sac"]), "--env=probe/action"]), folder, seconds=120
        )
        if ended.code != 0:
            raise RuntimeError(f"the run of SAC failed:\n{ended.err}")
        return run_folder(folder)

    for may_work, name, given in COMMANDS:
        shown = f"{name}.py {given}" if len(given) < 100 else f"{name}.py {given[:60]}…"
        yield Trial(shown, functools.partial(_flags, may_work, name, given, other_run))
    for may_work, given in SCRIPT_LINES:
        yield Trial(given, functools.partial(_script, may_work, given, other_run))
    for label, (may_work, make) in ENVIRONMENTS.items():
        continuous = not isinstance(getattr(make(), "action_space", None), envs.Discrete)
        for name in ("ppo", "td3" if continuous else "staq"):
            yield Trial(
                f"{name}.py, own environment: {label}",
                functools.partial(_environment, may_work, name, make),
            )
    for label, (may_work, call) in CALLS.items():
        yield Trial(f"call: {label}", functools.partial(_call, may_work, call))


def _prepare(folder: Path, other_run) -> None:
    (folder / "file").write_text("mine")
    (folder / "empty").mkdir()
    (folder / "locked").mkdir(mode=0o555)
    (folder / "bad.py").write_text("import nothing_of_that_name\n")
    shutil.copytree(other_run(), folder / "sac_run")


def _flags(may_work, name, given, other_run, folder: Path, seed: int) -> Finding:
    del seed
    _prepare(folder, other_run)
    here = (
        ""
        if "--resume" in given
        else f"{TINY[name]} --env=probe/all --num_logs=2 --num_evals=1 --eval_episodes=2"
    )
    if name not in ("ppo", "spo", "mdpo", "staq"):
        here += " --env_options=continuous=True" if here else ""
    arguments = [*shlex.split(here), *shlex.split(given)]
    folder.chmod(0o777)
    limits = _limits(may_work)
    ended = forked(run_of(name, arguments), folder, nobody="locked" in given, **limits)
    return _judged(ended, may_work, folder)


def _script(may_work, given, other_run, folder: Path, seed: int) -> Finding:
    """A true command line; NAME=value in front of it is put into its environment."""
    del seed
    _prepare(folder, other_run)
    words = shlex.split(given)
    environ = dict(
        word.split("=", 1) for word in itertools.takewhile(lambda word: "=" in word, words)
    )
    name, *arguments = words[len(environ) :]
    ended = command([SCRIPTS / name, *arguments], folder, **_limits(may_work), **environ)
    return _judged(ended, may_work, folder)


def _environment(may_work, name, make, folder: Path, seed: int) -> Finding:
    del seed

    def run():
        envs.register("campaign/own", make)
        run_of(
            name, ["--env=campaign/own", *shlex.split(TINY[name]), "--num_logs=2", "--num_evals=1"]
        )()

    return _judged(forked(run, folder, **_limits(may_work)), may_work, folder)


def _call(may_work, call, folder: Path, seed: int) -> Finding:
    del seed
    return _judged(forked(api(call), folder, **_limits(may_work)), may_work, folder)


def _judged(ended, may_work, folder: Path) -> Finding:
    """Refused with nothing left behind; or it worked, where it may."""
    finding = judge(ended)
    if finding.outcome == "survived" and not may_work:
        return finding._replace(outcome="else", sentence=f"was accepted {finding.sentence}".strip())
    if finding.outcome == "refused":
        left = {path.name for path in folder.iterdir()} - {
            "file",
            "empty",
            "locked",
            "bad.py",
            "sac_run",
        }
        with contextlib.suppress(OSError):
            left |= {
                f"{name}/{path.name}"
                for name in ("empty", "locked")
                for path in (folder / name).iterdir()
            }
        if left:
            return finding._replace(
                outcome="else", sentence=f"left {sorted(left)} behind: {finding.sentence}"
            )
    return finding
