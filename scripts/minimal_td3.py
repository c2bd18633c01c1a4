"""TD3 in one file, on onejit's losses and environments alone: copy it and change it.

`python scripts/minimal_td3.py --env=gymnax/Pendulum-v1` trains and prints the return. Continuous
actions; the whole run, replay included, is one compiled program. `scripts/td3.py` is the
full-featured one.
"""

import argparse
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from onejit import envs, losses


class Config(NamedTuple):
    total_steps: int = 20_000
    num_envs: int = 1
    learning_starts: int = 1_000
    buffer_size: int = 100_000
    batch_size: int = 256
    policy_delay: int = 2
    learning_rate: float = 1e-3
    gamma: float = 0.98
    tau: float = 0.005
    exploration_noise: float = 0.1
    policy_noise: float = 0.2
    noise_clip: float = 0.5


class MLP(nn.Module):
    """Two layers of 256 and one of `size`."""

    size: int

    @nn.compact
    def __call__(self, x):
        for width in (256, 256):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.size)(x)


def make_train(env, config: Config):
    """Returns train(key) -> (params, return of the episode of each block, NaN where none ended)."""
    space = env.action_space
    vector_env = envs.VectorEnv(env, config.num_envs)
    capacity = config.buffer_size // config.num_envs
    num_blocks = (config.total_steps - config.learning_starts) // (
        config.num_envs * config.policy_delay
    )
    actor_network, critic_network = MLP(space.shape[0]), MLP(1)
    optimiser = optax.adam(config.learning_rate)

    def actor(params, obs):
        return jnp.tanh(actor_network.apply(params["actor"], obs))

    def critics(params, obs, action):
        inputs = jnp.concatenate([obs, action], axis=-1)
        return [
            critic_network.apply(params[name], inputs)[..., 0] for name in ("critic1", "critic2")
        ]

    def critic_loss(params, targets, batch, key):
        noise = config.policy_noise * jax.random.normal(key, batch["action"].shape)
        next_action = actor(targets, batch["next_obs"])
        next_action += losses.target_policy_noise(noise, noise_clip=config.noise_clip)
        next_q = critics(targets, batch["next_obs"], jnp.clip(next_action, -1.0, 1.0))
        # A time limit does not end the task: only termination stops the bootstrap.
        target = losses.td3_target(
            batch["reward"], config.gamma * (1.0 - batch["terminated"]), *next_q
        )
        return sum(
            jnp.mean(losses.td3_critic_loss(q, target))
            for q in critics(params, batch["obs"], batch["action"])
        )

    def actor_loss(params, batch):
        frozen = jax.lax.stop_gradient(params)
        action = actor({"actor": params["actor"]}, batch["obs"])
        return jnp.mean(losses.td3_actor_loss(critics(frozen, batch["obs"], action)[0]))

    def train(key):
        def env_step(carry, key, params=None):
            """One step of all environments, written to row `cursor` of the replay."""
            env_state, obs, replay, cursor = carry
            action_key, step_key = jax.random.split(key)
            if params is None:
                action = jax.random.uniform(
                    action_key, (config.num_envs, *space.shape), minval=-1.0, maxval=1.0
                )
            else:
                action = actor(params, obs)
                action += config.exploration_noise * jax.random.normal(action_key, action.shape)
                action = jnp.clip(action, -1.0, 1.0)
            env_state, step = vector_env.step(step_key, env_state, space.from_unit(action))
            row = {"obs": obs, "action": action, "reward": step.reward, "next_obs": step.next_obs}
            row["terminated"] = step.terminated.astype(jnp.float32)
            replay = jax.tree.map(lambda rows, x: rows.at[cursor % capacity].set(x), replay, row)
            return (env_state, step.obs, replay, cursor + 1), step

        def block(carry, _):
            """policy_delay environment steps, as many critic updates, and one update of actor and
            targets.
            """
            params, targets, opt_state, env_carry, key = carry
            key, collect_key, update_key = jax.random.split(key, 3)

            # COLLECT
            steps = []
            for step_key in jax.random.split(collect_key, config.policy_delay):
                env_carry, step = env_step(env_carry, step_key, params)
                steps.append(step)
            _, _, replay, cursor = env_carry

            # UPDATE the critics
            for each in jax.random.split(update_key, config.policy_delay):
                row_key, env_key, noise_key = jax.random.split(each, 3)
                rows = jax.random.randint(
                    row_key, (config.batch_size,), 0, jnp.minimum(cursor, capacity)
                )
                copies = jax.random.randint(env_key, (config.batch_size,), 0, config.num_envs)
                batch = jax.tree.map(lambda x, rows=rows, copies=copies: x[rows, copies], replay)
                grads = jax.grad(critic_loss)(params, targets, batch, noise_key)
                changes, opt_state["critic"] = optimiser.update(grads, opt_state["critic"])
                params = optax.apply_updates(params, changes)

            # UPDATE the actor, and move the targets
            grads = jax.grad(actor_loss)(params, batch)
            changes, opt_state["actor"] = optimiser.update(grads["actor"], opt_state["actor"])
            params = {**params, "actor": optax.apply_updates(params["actor"], changes)}
            targets = optax.incremental_update(params, targets, config.tau)

            done = jnp.stack([step.terminated | step.truncated for step in steps])
            returns = jnp.stack([step.episode_return for step in steps])
            episodic_return = jnp.sum(jnp.where(done, returns, 0.0)) / jnp.sum(done)
            return (params, targets, opt_state, env_carry, key), episodic_return

        *init_keys, env_key, prefill_key, key = jax.random.split(key, 6)
        env_state, obs = vector_env.reset(env_key)
        action = jnp.zeros((config.num_envs, *space.shape))
        inputs = {"actor": (actor_network, obs)}
        inputs |= dict.fromkeys(
            ("critic1", "critic2"), (critic_network, jnp.concatenate([obs, action], axis=-1))
        )
        params = {
            name: net.init(k, x)
            for k, (name, (net, x)) in zip(init_keys, inputs.items(), strict=True)
        }
        # Adam never moves what has no gradient: the critics' optimiser sees zeros for the actor.
        opt_state = {"critic": optimiser.init(params), "actor": optimiser.init(params["actor"])}

        flags = jnp.zeros(config.num_envs)
        row = {"obs": obs, "action": action, "reward": flags, "next_obs": obs, "terminated": flags}
        replay = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape)), row)
        env_carry = (env_state, obs, replay, jnp.int32(0))
        prefill_keys = jax.random.split(prefill_key, config.learning_starts // config.num_envs)
        env_carry, _ = jax.lax.scan(env_step, env_carry, prefill_keys)
        carry = (params, jax.tree.map(jnp.copy, params), opt_state, env_carry, key)
        (params, *_), returns = jax.lax.scan(block, carry, length=num_blocks)
        return params, returns

    return train


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"env": "gymnax/Pendulum-v1", "seed": 0, **Config._field_defaults}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    try:
        key = jax.random.key(jnp.uint32(arguments.pop("seed")))
        train = make_train(envs.make(arguments.pop("env")), Config(**arguments))
    except (ValueError, OverflowError) as error:
        parser.error(str(error))
    returns = jax.jit(train)(key)[1]
    size = max(1, len(returns) // 20)
    for i in range(0, len(returns) - size + 1, size):
        print(f"block {i:6d}  return {jnp.nanmean(returns[i : i + size]):8.1f}")
