"""How much does what PROPS samples look like its policy? `python
scripts/evidence/sampling_error.py`.

A bandit with five arms and a softmax policy of random logits, 60 seeds: the KL of the shares of the
arms after so many pulls from the policy's probabilities, with on-policy sampling and with PROPS at
three step sizes; a fit every 8 pulls, 16 passes. The result is results/sampling_error.json, a table
with 95 % intervals over seeds is printed.
"""

import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from onejit import envs
from onejit.algos import props
from onejit.algos.core import collect
from onejit.algos.core.heads import make_head
from onejit.algos.host import plotting, runner
from onejit.algos.host.run_folder import write_json
from onejit.algos.on_policy import loop

OUT = Path(__file__).parents[2] / "results" / "sampling_error.json"
ARMS, SEEDS = 5, 60
RATES = (0.0, 1e-3, 1e-2, 1e-1)
PULLS = (64, 256)


class Bandit:
    """Five arms; what they pay does not matter here."""

    observation_space = envs.Box(0.0, 1.0, (1,))
    action_space = envs.Discrete(ARMS)

    def reset(self, key):
        """Starts an episode of one pull."""
        del key
        return (), jnp.ones(1, jnp.float32)

    def step(self, key, state, action):
        """Pulls an arm."""
        del key, action
        over, obs = jnp.bool_(True), jnp.ones(1, jnp.float32)
        return state, envs.Step(obs, jnp.float32(0.0), over, jnp.bool_(False), {})


class Logits(nn.Module):
    """A logit for each arm, whatever is seen."""

    @nn.compact
    def __call__(self, obs):
        logits = self.param("logits", nn.initializers.normal(1.0), (ARMS,))
        return jnp.broadcast_to(logits, (*obs.shape[:-1], ARMS))


def error(key, rate, num_pulls):
    """KL(shares‖π) after so many pulls."""
    env = Bandit()
    config = props.Config(num_steps=num_pulls, behaviour_minibatches=1)
    config = config.replace(behaviour_learning_rate=rate)
    value = nn.Sequential([nn.Dense(1), lambda x: x[..., 0]])
    networks = props.Networks(Logits(), value, make_head(env.action_space, config.policy))
    policy = loop.make_policy(env, networks)
    collector = collect.make_collector(env, policy.memory, lambda action: action)
    learner_key, reset_key, key = jax.random.split(key, 3)
    learner = props.init_learner(learner_key, env=env, networks=networks, config=config)
    opt_state = props.init_behaviour(learner, env, config)
    carry = collector.reset(reset_key, config)
    _, rollout, *_ = props.collect(
        collector, policy, networks, learner, opt_state, config, carry, key
    )
    share = jnp.mean(jax.nn.one_hot(rollout.action, ARMS), axis=(0, 1))
    probs = jax.nn.softmax(learner.params["policy"]["params"]["logits"])
    return jnp.sum(jax.scipy.special.rel_entr(share, probs))


def main() -> None:
    """Measures all, writes the file and prints the table."""
    cells = []
    keys = jax.random.split(jax.random.key(0), SEEDS)
    print("| pulls | step size | KL(shares‖π) |\n|---|---|---|")
    for num_pulls in PULLS:

        def run(rate, key, num_pulls=num_pulls):
            return error(key, rate, num_pulls)

        errors = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(jnp.array(RATES), keys)
        errors = np.asarray(errors, float)
        low, high = plotting.interval_of_mean(errors)
        for each in zip(RATES, errors, low, high, strict=True):
            rate, values, a, b = each
            cells.append({"pulls": num_pulls, "step_size": rate, "kl": values.round(6).tolist()})
            what = f"{rate:g}" if rate else "on-policy"
            print(f"| {num_pulls} | {what} | {values.mean():.4f} ({a:.4f} to {b:.4f}) |")
    result = {
        "arms": ARMS,
        "seeds": SEEDS,
        "cells": cells,
        "command": "python " + " ".join(["scripts/evidence/sampling_error.py", *sys.argv[1:]]),
        "versions": runner.versions(),
    }
    write_json(OUT, result)


if __name__ == "__main__":
    main()
