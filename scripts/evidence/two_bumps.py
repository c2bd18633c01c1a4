"""Policies that denoise, on a density of two bumps in the plane: what do the objectives of single
steps do to a reward, and to the bump that it does not ask for?

`python scripts/evidence/two_bumps.py` trains five vmapped seeds of each cell (a method and a
reward) and writes results/two_bumps/METHOD_REWARD.json; what exists is not run again. From all
files it draws results/two_bumps.png, samples before and after and the reward on the way, and prints
a table. `--methods=loop,find --rewards=right --seeds=2` runs a part.

In every cell a small network learns the velocity of a flow from noise (time 1) to the bumps (time
0) by flow matching, and samples by eight Gaussian steps of constant noise. "radial" then pays for a
distance of 2.6 from the origin, which is a little beyond both bumps; "right" for being near the
right one. The methods are `onejit.losses.denoising` put together:

  loop        each step's ratio clipped, advantages beside the other samples of the group
  grpo_guard  the ratio regulated and each step weighed by its length, normalised advantages
  find        the flow stays, a Gaussian of the noise that it starts from is learnt
  ac_flow     flow matching on its own samples, weighed by e^advantage, near the flow before
  gpc         nothing is trained: flows of two densities composed, the weights best in rollouts

All settings are the same but the rate and what a method's loss has of its own; none was searched.
"""

import json
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from onejit.algos.core.keys import split_for_scan, unpack_keys
from onejit.algos.host import plotting, runner
from onejit.algos.host.run_folder import write_json
from onejit.losses import denoising, importance_ratio
from onejit.losses.sequences import advantages, surrogates

RESULTS = Path(__file__).parents[2] / "results"
STEPS = 8  # T, of the chain
DT = 1.0 / STEPS
TIMES = 1.0 - DT * np.arange(STEPS, dtype=np.float32)  # of the samples that steps start from
ETA = 0.5  # of the chain's noise
STEP_STD = ETA * DT**0.5
SPREAD = 0.3  # of a bump
BUMPS = {"two": ((-2.0, 0.0), (2.0, 0.0)), "other": ((2.0, -1.0), (2.0, 1.0))}
GROUPS, SIZE = 16, 16  # samples of an update
PASSES = 2
WEIGHTS = np.linspace(0.0, 1.0, 5)  # of the first of two composed flows
EVAL_SAMPLES = 2048
SHOWN = 250


class Velocity(nn.Module):
    """v(x, t) for x `[..., 2]` and t `[...]`."""

    size: int = 64

    @nn.compact
    def __call__(self, x: chex.Array, t: chex.Array) -> chex.Array:
        angle = t[..., None] * jnp.array([1.0, 2.0, 4.0], jnp.float32).reshape((1,) * t.ndim + (3,))
        hidden = jnp.concatenate([x, jnp.sin(angle), jnp.cos(angle)], axis=-1)
        for _ in range(2):
            hidden = nn.silu(nn.Dense(self.size)(hidden))
        return nn.Dense(2)(hidden)


NETWORK = Velocity()


class Policy(NamedTuple):
    """A flow, and the Gaussian of the noise that it starts from, `[2]` each."""

    flow: Any
    mean: chex.Array
    std: chex.Array


class Samples(NamedTuple):
    """Chains of N groups of G: the points `[N, G, T + 1, 2]`, noise first; the means of their steps
    `[N, G, T, 2]`; rewards `[N, G]`; the policy that drew them, and the flow before training.
    """

    points: chex.Array
    means: chex.Array
    rewards: chex.Array
    drawn_by: Policy
    reference: Any


def velocity(flow: Any, x: chex.Array, t: chex.Array) -> chex.Array:
    return NETWORK.apply(flow, x, t)


def step_mean(x: chex.Array, v: chex.Array, t: chex.Array) -> chex.Array:
    """Where a step of constant noise leads on average: x, v `[..., 2]`, t `[...]`."""
    t = t[..., None]
    return x - DT * (v + ETA**2 / (2.0 * t) * (x + (1.0 - t) * v))


def chain(field: Callable, start: chex.Array, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
    """Denoises noise `[..., 2]` with the velocity field(x, t): points and means of the steps."""

    def step(x, given):
        noise, t = given
        t = jnp.broadcast_to(t, x.shape[:-1])
        mean = step_mean(x, field(x, t), t)
        x = mean + STEP_STD * noise
        return x, (x, mean)

    noise = jax.random.normal(key, (STEPS, *start.shape))
    _, (points, means) = jax.lax.scan(step, start, (noise, jnp.asarray(TIMES)))
    points = jnp.concatenate([start[None], points])
    return jnp.moveaxis(points, 0, -2), jnp.moveaxis(means, 0, -2)


def sample(policy: Policy, key: chex.PRNGKey, *lead: int) -> tuple[chex.Array, chex.Array]:
    start_key, key = jax.random.split(key)
    noise = jax.random.normal(start_key, (*lead, 2))
    spread = jnp.broadcast_to(jnp.maximum(policy.std, 1e-4), noise.shape)
    start = jnp.broadcast_to(policy.mean, noise.shape) + spread * noise
    return chain(partial(velocity, policy.flow), start, key)


def radial(x: chex.Array) -> chex.Array:
    return jnp.exp(-jnp.square((jnp.linalg.norm(x, axis=-1) - 2.6) / 0.4) / 2.0)


def right(x: chex.Array) -> chex.Array:
    along, across = x[..., 0] - 2.0, x[..., 1]
    return jnp.exp(-(jnp.square(along) + jnp.square(across)) / (2.0 * 0.5**2))


REWARDS = {"radial": radial, "right": right}


def path_error(flow: Any, reference: Any, x: chex.Array, key: chex.PRNGKey):
    """Flow matching at a random time towards x `[..., 2]`: ‖v − u‖², ‖v − v_ref‖², `[...]`."""
    time_key, noise_key = jax.random.split(key)
    t = jax.random.uniform(time_key, x.shape[:-1])
    noise = jax.random.normal(noise_key, x.shape)
    point = x + t[..., None] * (noise - x)
    v = velocity(flow, point, t)
    far = jnp.square(v - jax.lax.stop_gradient(velocity(reference, point, t)))
    return jnp.sum(jnp.square(v - (noise - x)), axis=-1), jnp.sum(far, axis=-1)


def pretrain(key: chex.PRNGKey, bumps: str, updates: int) -> Any:
    """The flow to a density of two bumps, by flow matching."""
    init_key, key = jax.random.split(key)
    flow = NETWORK.init(init_key, jnp.zeros((1, 2)), jnp.zeros(1))
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, updates))
    centres = jnp.array(BUMPS[bumps])

    def update(carry, key_data):
        flow, opt_state = carry
        which_key, data_key, loss_key = unpack_keys(key_data, key)
        which = jax.random.randint(which_key, (256,), 0, 2)
        x = centres[which] + SPREAD * jax.random.normal(data_key, (256, 2))

        def loss(flow):
            return jnp.mean(path_error(flow, flow, x, loss_key)[0])

        changes, opt_state = optimiser.update(jax.grad(loss)(flow), opt_state)
        return (optax.apply_updates(flow, changes), opt_state), None

    key_data = split_for_scan(key, updates, 3)
    return jax.lax.scan(update, (flow, optimiser.init(flow)), key_data)[0][0]


def means_now(policy: Policy, samples: Samples) -> chex.Array:
    """The means of the steps that were taken, under this policy, `[N, G, T, 2]`."""
    x = samples.points[..., :-1, :]
    t = jnp.broadcast_to(jnp.asarray(TIMES), x.shape[:-1])
    return step_mean(x, velocity(policy.flow, x, t), t)


def step_log_ratio(means: chex.Array, samples: Samples) -> chex.Array:
    """Log-ratio of each step, summed over the dimensions, `[N, G, T]`."""
    reached = samples.points[..., 1:, :]
    now, before = (
        denoising.step_log_prob(reached, each, std=STEP_STD) for each in (means, samples.means)
    )
    return now - before


def loop(policy: Policy, samples: Samples, key: chex.PRNGKey) -> chex.Array:
    """After LOOP (arXiv 2503.00897)."""
    del key
    log_ratio = step_log_ratio(means_now(policy, samples), samples)
    advantage = advantages.leave_one_out(samples.rewards)[..., None]
    return jnp.mean(surrogates.clip_surrogate(log_ratio, advantage, low=0.8, high=1.2))


def grpo_guard(policy: Policy, samples: Samples, key: chex.PRNGKey) -> chex.Array:
    """After GRPO-Guard (arXiv 2510.22319), with the noise of DanceGRPO."""
    del key
    means = means_now(policy, samples)
    log_ratio = denoising.regulated_log_ratio(
        step_log_ratio(means, samples) / 2,
        jnp.mean(jnp.square(means - samples.means), axis=-1),
        step_std=STEP_STD,
    )
    advantage = advantages.group_normalize(samples.rewards)[..., None]
    loss = surrogates.clip_surrogate(log_ratio, advantage, low=0.98, high=1.02)
    weight = denoising.step_weight(jnp.full(STEPS, DT), jnp.asarray(TIMES), eta=ETA)
    return jnp.mean(jnp.mean(loss, axis=(0, 1)) * weight)


def find(policy: Policy, samples: Samples, key: chex.PRNGKey) -> chex.Array:
    """After FIND (arXiv 2407.19453)."""
    del key
    noise = samples.points[..., 0, :]

    def log_prob(policy):
        spread = (jnp.broadcast_to(x, noise.shape) for x in (policy.mean, policy.std))
        return denoising.initial_noise_log_prob(noise, *spread)

    ratio = importance_ratio(log_prob(policy), log_prob(samples.drawn_by))
    advantage = advantages.group_normalize(samples.rewards)
    penalty = denoising.noise_prior_penalty(policy.mean, policy.std)
    return -10.0 * jnp.mean(advantage * jnp.clip(ratio, 0.8, 1.2)) + 0.01 * penalty


def ac_flow(policy: Policy, samples: Samples, key: chex.PRNGKey) -> chex.Array:
    """After AC-Flow (arXiv 2510.18072), without its critic."""
    errors = path_error(policy.flow, samples.reference, samples.points[..., -1, :], key)
    advantage = advantages.group_normalize(samples.rewards)
    loss = denoising.advantage_weighted_flow_loss(
        *errors, advantage, temperature=1.0, clip=2.0, reference_coef=0.1
    )
    return jnp.mean(loss)


# The loss, and its learning rate.
METHODS = {
    "loop": (loop, 3e-4),
    "grpo_guard": (grpo_guard, 3e-4),
    "find": (find, 1e-2),
    "ac_flow": (ac_flow, 3e-4),
    "gpc": None,
}


def finetune(key: chex.PRNGKey, flow: Any, method: str, reward: Callable, updates: int):
    """The policy after so many updates, and the mean reward of the samples of each, `[updates]`."""
    loss, rate = METHODS[method]
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    policy = Policy(flow, jnp.zeros(2), jnp.ones(2))

    def update(carry, key_data):
        sample_key, *pass_keys = unpack_keys(key_data, key)
        drawn_by = carry[0]
        points, means = sample(drawn_by, sample_key, GROUPS, SIZE)
        samples = Samples(points, means, reward(points[..., -1, :]), drawn_by, flow)
        for pass_key in pass_keys:
            policy, opt_state = carry
            gradient = jax.grad(loss)(policy, samples, pass_key)
            changes, opt_state = optimiser.update(gradient, opt_state)
            carry = optax.apply_updates(policy, changes), opt_state
        return carry, jnp.mean(samples.rewards)

    key_data = split_for_scan(key, updates, 1 + PASSES)
    (policy, _), curve = jax.lax.scan(update, (policy, optimiser.init(policy)), key_data)
    return policy, curve


def compose(key: chex.PRNGKey, flows: tuple, reward: Callable):
    """Two flows composed by the weights that were best in rollouts: the field, and the mean reward
    of each weight's rollouts, `[W]`.
    """

    def composed(weight, x, t):
        each = jnp.stack([velocity(flow, x, t) for flow in flows])
        return denoising.compose_scores(each, jnp.stack([weight, 1.0 - weight]))

    def rollout(weight, start, key):
        return jnp.mean(reward(chain(partial(composed, weight), start, key)[0][..., -1, :]))

    start_key, chain_key = jax.random.split(key)
    start = jax.random.normal(start_key, (GROUPS * SIZE, 2))
    weights = jnp.asarray(WEIGHTS, jnp.float32)
    curve = jnp.stack([rollout(w, start, jax.random.clone(chain_key)) for w in weights])
    return partial(composed, weights[jnp.argmax(curve)]), curve


def measure(points: chex.Array, reward: Callable) -> dict:
    """Of samples `[S, 2]`: the mean reward, and the share of the smaller side of two, doubled."""
    share = jnp.mean(points[:, 0] > 0.0, dtype=jnp.float32)
    return {
        "reward": jnp.mean(reward(points)),
        "right": share,
        "kept": 2.0 * jnp.minimum(share, 1.0 - share),
    }


def train(key: chex.PRNGKey, *, method: str, reward: str, pretraining: int, updates: int) -> dict:
    """A seed of a cell: numbers and samples before and after, and the reward on the way."""
    judge = REWARDS[reward]
    flow_key, other_key, tune_key, *keys = jax.random.split(key, 6)
    flow = pretrain(flow_key, "two", pretraining)
    before = sample(Policy(flow, jnp.zeros(2), jnp.ones(2)), keys[0], EVAL_SAMPLES)[0][:, -1]
    if method == "gpc":
        flows = flow, pretrain(other_key, "other", pretraining)
        field, curve = compose(tune_key, flows, judge)
        after = chain(field, jax.random.normal(keys[1], (EVAL_SAMPLES, 2)), keys[2])[0][:, -1]
    else:
        policy, curve = finetune(tune_key, flow, method, judge, updates)
        after = sample(policy, keys[1], EVAL_SAMPLES)[0][:, -1]
    return {
        "before": measure(before, judge),
        "after": measure(after, judge),
        "samples": jnp.stack([before[:SHOWN], after[:SHOWN]]),
        "curve": curve,
    }


def run_cell(method: str, reward: str, seeds: int, pretraining: int, updates: int) -> dict:
    """Trains all seeds of a cell in one program, and returns what the result file holds."""
    cell = {"method": method, "reward": reward, "pretraining": pretraining, "updates": updates}
    keys = jax.vmap(jax.random.key)(np.arange(seeds))
    start = time.perf_counter()
    compiled = jax.jit(jax.vmap(partial(train, **cell))).lower(keys).compile()
    middle = time.perf_counter()
    found = jax.device_get(compiled(keys))
    end = time.perf_counter()
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(found)):
        raise RuntimeError(f"{method}, {reward}: not finite")
    rate = {} if METHODS[method] is None else {"learning_rate": METHODS[method][1]}
    return {
        **cell,
        **rate,
        "seeds": list(range(seeds)),
        "command": shlex.join(
            ["python", "scripts/evidence/" + Path(sys.argv[0]).name, *sys.argv[1:]]
        ),
        "versions": runner.versions(),
        "compile_s": round(middle - start, 2),
        "run_s": round(end - middle, 2),
        **{
            when: {name: summary(x) for name, x in found[when].items()}
            for when in ("before", "after")
        },
        "curve": np.round(found["curve"].astype(float), 4).tolist(),
        "samples": np.round(found["samples"][0].astype(float), 2).tolist(),
    }


def summary(values: np.ndarray) -> dict:
    """The mean over seeds with a 95 % interval, and each seed."""
    low, high = plotting.interval_of_mean(np.asarray(values, float)[None])
    numbers = {"mean": np.mean(values), "low": low[0], "high": high[0]}
    rounded = {name: round(float(x), 4) for name, x in numbers.items()}
    return rounded | {"each": np.round(np.asarray(values, float), 4).tolist()}


def draw(results: list[dict], path: Path) -> None:
    """A row for each reward: samples of the first seed before and after, a panel for each method,
    and the reward on the way.
    """
    from matplotlib.figure import Figure

    rewards = list(dict.fromkeys(result["reward"] for result in results))
    methods = list(dict.fromkeys(result["method"] for result in results))
    size = (2.1 * (len(methods) + 1) + 0.6, 2.4 * len(rewards))
    figure = Figure(figsize=size, layout="constrained")
    rows = figure.subplots(len(rewards), len(methods) + 1, squeeze=False)
    for row, reward in zip(rows, rewards, strict=True):
        for result in (result for result in results if result["reward"] == reward):
            i = methods.index(result["method"])
            for points, colour in zip(result["samples"], ("0.75", f"C{i}"), strict=True):
                row[i].scatter(*np.array(points).T, s=3, color=colour, linewidths=0)
            after = result["after"]
            row[i].set_title(
                f"{result['method']}, {reward}\nreward {after['reward']['mean']:.2f},"
                f" kept {after['kept']['mean']:.2f}",
                fontsize=8,
            )
            row[i].set(xlim=(-4, 4), ylim=(-3.5, 3.5))
            if METHODS[result["method"]] is not None:
                curve = np.mean(result["curve"], axis=0)
                row[-1].plot(1 + np.arange(len(curve)), curve, color=f"C{i}", linewidth=1.0)
        row[-1].set(ylim=(0, 1), xlabel="updates")
        row[-1].set_title("reward", fontsize=8)
        for axes in row:
            axes.tick_params(labelsize=6)
            axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def table(results: list[dict]) -> str:
    """Means over seeds before and after, with 95 % intervals."""
    lines = ["| reward | method | before | after | kept before | kept after |", "|" + "---|" * 6]
    for result in results:
        numbers = [
            result[when][name] for name in ("reward", "kept") for when in ("before", "after")
        ]
        ranges = [f"{x['mean']:.3f} ({x['low']:.3f} to {x['high']:.3f})" for x in numbers]
        lines.append(f"| {result['reward']} | {result['method']} | {' | '.join(ranges)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs what is missing, redraws the figure and prints the table."""
    del argv
    for name, known in {"methods": METHODS, "rewards": REWARDS}.items():
        unknown = set(flags.FLAGS[name].value) - set(known)
        if unknown:
            sys.exit(f"unknown {name} {sorted(unknown)}; known: {', '.join(known)}")
    folder = Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for reward in flags.FLAGS.rewards:
        for method in flags.FLAGS.methods:
            path = folder / f"{method}_{reward}.json"
            if not path.exists():
                sizes = flags.FLAGS.seeds, flags.FLAGS.pretraining, flags.FLAGS.updates
                write_json(path, run_cell(method, reward, *sizes))
                print(f"{path.stem}: written", flush=True)
            results.append(json.loads(path.read_text()))
    draw(results, folder.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    flags.DEFINE_list("methods", list(METHODS), "Which methods to run.")
    flags.DEFINE_list("rewards", list(REWARDS), "Which rewards.")
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("pretraining", 2000, "Updates of flow matching.")
    flags.DEFINE_integer("updates", 200, "Updates of a method.")
    flags.DEFINE_string(
        "out", str(RESULTS / "two_bumps"), "Folder of the result files; the figure is beside it."
    )
    app.run(main)
