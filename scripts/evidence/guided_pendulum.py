"""Policy-guided diffusion on Pendulum, whose dynamics are known: what does guidance do to the
likelihood of generated actions under a policy, and to the error of generated steps?

`python scripts/evidence/guided_pendulum.py` trains a denoiser on segments of 16 steps of a random
policy, samples 512 with each strength of the guidance, all of that with five vmapped seeds on the
same segments, writes results/guided_pendulum.json and prints the table, with 95 % intervals.

A segment is flat: at each step the observation, the action before a tanh, and the reward, all of
mean 0 and standard deviation 1. The policy that guides is a Gaussian around a hand-written
controller, −(2·sin θ·cos θ + θ'/4) of the unit action with a standard deviation of 0.3; the data's
actions are uniform. "likelihood" is the mean log-density of generated actions under it; "error" the
mean distance of the next generated observation from what Pendulum's equations make of observation
and action, in units of their standard deviations, and "copies" that of the data's own segments.
"""

import json
import shlex
import sys
import time
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from compare_objectives import summary

from onejit import envs, losses
from onejit.algos import dataset
from onejit.algos.core import edm
from onejit.algos.core.generative import Field
from onejit.algos.core.keys import split_for_scan, unpack_keys
from onejit.algos.core.networks import MLP
from onejit.algos.host import runner
from onejit.algos.host.run_folder import write_json

OUT = Path(__file__).parents[2] / "results" / "guided_pendulum.json"
LENGTH = 16
STRENGTHS = (0.0, 0.1, 0.3, 1.0, 3.0)
STEPS = 32
SAMPLES = 512
FIELD = Field(MLP((256, 256, 256), "silu", "lecun"), LENGTH * 5, "lecun")


def segments(num_steps: int) -> np.ndarray:
    """Segments of a random policy's episodes, `[M, LENGTH, 5]`."""
    data = dataset.record_random(
        envs.make("gymnax/Pendulum-v1"), jax.random.key(0), num_steps=num_steps, num_envs=20
    )
    rows = data.transitions
    action = np.arctanh(np.clip(rows.action, -0.999, 0.999))
    tokens = np.concatenate([rows.obs, action, rows.reward[:, None]], axis=-1)
    ends = np.flatnonzero(rows.terminated | rows.truncated) + 1
    episodes = np.split(tokens, ends[:-1] if ends[-1] == len(tokens) else ends)
    cut = [each[: len(each) // LENGTH * LENGTH].reshape(-1, LENGTH, 5) for each in episodes]
    return np.concatenate(cut).astype(np.float32)


def denoise(params, x: chex.Array, sigma: chex.Array) -> chex.Array:
    """The clean segments of noised ones, `[B, LENGTH·5]`."""
    _, _, into, time_code = losses.generative.edm_scales(sigma, sigma_data=1.0)
    nothing = jnp.zeros((*x.shape[:-1], 0))
    output = FIELD.apply(params, nothing, into[..., None] * x, time_code)
    return losses.generative.edm_denoised(x, output, sigma, sigma_data=1.0)


def train(x: chex.Array, key: chex.PRNGKey, *, updates: int):
    """The denoiser's parameters after so many updates on segments `[M, LENGTH·5]`."""
    init_key, key = jax.random.split(key)
    params = FIELD.init(init_key, jnp.zeros((1, 0)), x[:1], jnp.zeros(1))
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-3, updates))

    def update(carry, key_data):
        params, opt_state = carry
        place_key, level_key, noise_key = unpack_keys(key_data, key)
        clean = x[jax.random.randint(place_key, (256,), 0, len(x))]
        sigma = jnp.exp(1.2 * jax.random.normal(level_key, (256,)) - 1.2)
        noised = losses.generative.noised(clean, jax.random.normal(noise_key, clean.shape), sigma)

        def loss(params):
            found = denoise(params, noised, sigma)
            return jnp.mean(losses.generative.edm_loss(found, clean, sigma, sigma_data=1.0))

        changes, opt_state = optimiser.update(jax.grad(loss)(params), opt_state)
        return (optax.apply_updates(params, changes), opt_state), None

    start = params, optimiser.init(params)
    return jax.lax.scan(update, start, split_for_scan(key, updates, 3))[0][0]


def likelihood(tokens: chex.Array) -> chex.Array:
    """The mean log-density of the actions of segments `[..., LENGTH, 5]` under the policy."""
    cos, sin, speed = jnp.moveaxis(tokens[..., :3], -1, 0)
    mean = jnp.clip(-(2.0 * sin * cos + speed / 4.0), -1.0, 1.0)
    log_std = jnp.full_like(mean, jnp.log(0.3))
    return jnp.mean(losses.gaussian_log_prob(jnp.tanh(tokens[..., 3]), mean, log_std), axis=-1)


def following(tokens: chex.Array) -> chex.Array:
    """What Pendulum's equations make of observations and actions, `[..., 3]`."""
    cos, sin, speed = jnp.moveaxis(tokens[..., :3], -1, 0)
    torque = 2.0 * jnp.tanh(tokens[..., 3])
    speed = jnp.clip(speed + (15.0 * sin + 3.0 * torque) * 0.05, -8.0, 8.0)
    angle = jnp.arctan2(sin, cos) + 0.05 * speed
    return jnp.stack([jnp.cos(angle), jnp.sin(angle), speed], axis=-1)


def measure(flat: chex.Array, mean: chex.Array, std: chex.Array) -> dict:
    """Likelihood and error of segments `[B, LENGTH·5]` of mean 0 and standard deviation 1."""
    tokens = flat.reshape(-1, LENGTH, 5) * std[None, None] + mean[None, None]
    missed = (tokens[:, 1:, :3] - following(tokens[:, :-1])) / std[None, None, :3]
    error = jnp.mean(jnp.linalg.norm(missed, axis=-1))
    return {"likelihood": jnp.mean(likelihood(tokens)), "error": error}


def generate(params, key, strength, mean, std) -> chex.Array:
    """Segments, guided by so much, `[SAMPLES, LENGTH·5]`."""

    def total(flat):
        tokens = flat.reshape(-1, LENGTH, 5) * std[None, None] + mean[None, None]
        return LENGTH * jnp.sum(likelihood(tokens))

    def slope(flat):
        grads = jax.grad(total)(flat).reshape(-1, LENGTH, 5)
        return jnp.zeros_like(grads).at[..., 3].set(grads[..., 3]).reshape(flat.shape)

    noise_key, key = jax.random.split(key)
    sigma = edm.noise_levels(STEPS, low=0.002, high=80.0, rho=7.0)
    gamma = edm.churn(sigma, STEPS, amount=80.0, low=0.05, high=50.0)
    noise = jax.random.normal(noise_key, (SAMPLES, LENGTH * 5))
    guide = edm.policy_guide(slope, STEPS, strength=strength)
    return edm.sample(partial(denoise, params), noise, key, sigma, gamma, guide=guide)


def main(argv: list[str]) -> None:
    """Trains, samples, writes and prints."""
    del argv
    values = flags.FLAGS
    data = segments(values.data_steps)
    mean, std = (jnp.asarray(f(data, axis=(0, 1))) for f in (np.mean, np.std))
    flat = (jnp.asarray(data) - mean[None, None]) / std[None, None]
    flat = flat.reshape(len(data), -1)
    keys = jax.vmap(jax.random.key)(np.arange(values.seeds))
    train_keys, sample_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    start = time.perf_counter()
    trained = jax.jit(jax.vmap(partial(train, flat, updates=values.updates)))(train_keys)
    jax.block_until_ready(trained)
    middle = time.perf_counter()

    @jax.jit
    def run(strength):
        def one(params, key):
            return measure(generate(params, key, strength, mean, std), mean, std)

        return jax.vmap(one)(trained, jax.random.clone(sample_keys))

    cells = {str(strength): run(strength) for strength in STRENGTHS}
    cells["copies"] = jax.tree.map(lambda x: x[None], jax.jit(measure)(flat, mean, std))
    cells = {
        name: {each: summary(np.asarray(x)) for each, x in found.items()}
        for name, found in cells.items()
    }
    script = "scripts/evidence/" + Path(sys.argv[0]).name
    result = {
        "segments": len(data),
        "updates": values.updates,
        "seeds": list(range(values.seeds)),
        "command": shlex.join(["python", script, *sys.argv[1:]]),
        "versions": runner.versions(),
        "train_s": round(middle - start, 2),
        "sample_s": round(time.perf_counter() - middle, 2),
        "cells": cells,
    }
    write_json(Path(values.out), result)
    print("| strength | likelihood | error |\n|---|---|---|")
    for name, found in json.loads(Path(values.out).read_text())["cells"].items():
        numbers = (found[each] for each in ("likelihood", "error"))
        ranges = (f"{x['mean']:.3f} ({x['low']:.3f} to {x['high']:.3f})" for x in numbers)
        print(f"| {name} | {' | '.join(ranges)} |")


if __name__ == "__main__":
    flags.DEFINE_integer("data_steps", 40_000, "Steps of the random policy.")
    flags.DEFINE_integer("seeds", 5, "How many denoisers, each with samples of its own.")
    flags.DEFINE_integer("updates", 4_000, "Updates of the denoiser.")
    flags.DEFINE_string("out", str(OUT), "The result file.")
    app.run(main)
