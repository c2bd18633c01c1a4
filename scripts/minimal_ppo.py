"""PPO in one file, on onejit's losses and environments alone: copy it and change it.

`python scripts/minimal_ppo.py --env=gymnax/CartPole-v1` trains and prints returns; `scripts/ppo.py`
has all features.
"""

import argparse
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from onejit import envs, losses


class Config(NamedTuple):
    total_steps: int = 500_000
    num_envs: int = 64
    num_steps: int = 32
    num_minibatches: int = 4
    update_epochs: int = 4
    learning_rate: float = 1e-3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_eps: float = 0.2
    vf_coef: float = 0.5
    ent_coef: float = 0.0
    max_grad_norm: float = 0.5
    reward_scale: float = 0.1


class ActorCritic(nn.Module):
    """Policy output `[..., n]` (logits, or means in [-1, 1]), log_std `[..., n]`, and value
    `[...]`.
    """

    num_outputs: int

    @nn.compact
    def __call__(self, obs):
        def mlp(size, scale):
            x = obs
            for width in (64, 64):
                x = nn.tanh(nn.Dense(width, kernel_init=nn.initializers.lecun_normal())(x))
            return nn.Dense(
                size, kernel_init=nn.initializers.variance_scaling(scale, "fan_in", "normal")
            )(x)

        output = mlp(self.num_outputs, 1e-4)
        log_std = self.param("log_std", nn.initializers.zeros, (self.num_outputs,))
        return output, jnp.broadcast_to(log_std, output.shape), mlp(1, 1.0)[..., 0]


def make_train(env, config: Config):
    """Returns train(key) -> (params, mean return of the episodes that ended in each iteration)."""
    space = env.action_space
    vector_env = envs.VectorEnv(env, config.num_envs)
    discrete = isinstance(space, envs.Discrete)
    network = ActorCritic(space.n if discrete else space.shape[0])
    batch_size = config.num_envs * config.num_steps
    num_iterations = config.total_steps // batch_size
    updates = num_iterations * config.update_epochs * config.num_minibatches
    optimiser = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(optax.linear_schedule(config.learning_rate, 0.0, updates), eps=1e-5),
    )

    def log_prob_and_entropy(output, log_std, action):
        if discrete:
            return losses.categorical_log_prob(action, output), losses.categorical_entropy(output)
        log_prob = losses.gaussian_log_prob(action, output, log_std)
        return jnp.sum(log_prob, -1), jnp.sum(losses.gaussian_entropy(log_std), -1)

    def sample(key, output, log_std):
        if discrete:
            return (jax.random.categorical(key, output),) * 2
        action = output + jnp.exp(log_std) * jax.random.normal(key, output.shape)  # stored as drawn
        return action, space.from_unit(jnp.clip(action, -1.0, 1.0))

    def loss_fn(params, batch):
        output, log_std, value = network.apply(params, batch["obs"])
        log_prob, entropy = log_prob_and_entropy(output, log_std, batch["action"])
        advantage = (batch["advantage"] - jnp.mean(batch["advantage"])) / (
            jnp.std(batch["advantage"]) + 1e-8
        )
        policy_loss = losses.ppo_clip_loss(
            log_prob, batch["log_prob"], advantage, clip_eps=config.clip_eps
        )
        value_loss = 0.5 * jnp.square(value - batch["target"])
        return jnp.mean(policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy)

    def train(key):
        def iteration(carry, _):
            params, opt_state, env_state, obs, key = carry
            key, *keys = jax.random.split(key, 1 + config.update_epochs)

            # COLLECT num_steps of all environments
            def env_step(carry, _):
                env_state, obs, key = carry
                key, action_key, step_key = jax.random.split(key, 3)
                output, log_std, _ = network.apply(params, obs)
                action, env_action = sample(action_key, output, log_std)
                env_state, step = vector_env.step(step_key, env_state, env_action)
                row = {
                    "obs": obs,
                    "action": action,
                    "log_prob": log_prob_and_entropy(output, log_std, action)[0],
                }
                return (env_state, step.obs, key), (row, step)

            carry, (batch, step) = jax.lax.scan(
                env_step, (env_state, obs, key), length=config.num_steps
            )
            env_state, obs, key = carry

            # ESTIMATE advantages; next_obs is the true successor, also where a time limit cut the
            # episode
            values, next_values = (
                network.apply(params, batch["obs"])[2],
                network.apply(params, step.next_obs)[2],
            )
            batch["advantage"], batch["target"] = losses.gae(
                config.reward_scale * step.reward,
                values,
                next_values,
                step.terminated,
                step.truncated,
                gamma=config.gamma,
                gae_lambda=config.gae_lambda,
            )
            batch = jax.tree.map(lambda x: x.reshape(batch_size, *x.shape[2:]), batch)

            # UPDATE for several epochs of shuffled minibatches
            def minibatch_step(carry, indices):
                grads = jax.grad(loss_fn)(carry[0], jax.tree.map(lambda x: x[indices], batch))
                changes, opt_state = optimiser.update(grads, carry[1])
                return (optax.apply_updates(carry[0], changes), opt_state), None

            indices = jnp.stack([jax.random.permutation(each, batch_size) for each in keys])
            indices = indices.reshape(config.update_epochs * config.num_minibatches, -1)
            (params, opt_state), _ = jax.lax.scan(minibatch_step, (params, opt_state), indices)

            done = step.terminated | step.truncated
            episodic_return = jnp.sum(jnp.where(done, step.episode_return, 0.0)) / jnp.sum(done)
            return (params, opt_state, env_state, obs, key), episodic_return

        init_key, env_key, key = jax.random.split(key, 3)
        env_state, obs = vector_env.reset(env_key)
        params = network.init(init_key, obs)
        carry = (params, optimiser.init(params), env_state, obs, key)
        (params, *_), returns = jax.lax.scan(iteration, carry, length=num_iterations)
        return params, returns

    return train


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"env": "gymnax/CartPole-v1", "seed": 0, **Config._field_defaults}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    try:
        key = jax.random.key(jnp.uint32(arguments.pop("seed")))
        train = make_train(envs.make(arguments.pop("env")), Config(**arguments))
    except (ValueError, OverflowError) as error:
        parser.error(str(error))
    returns = jax.jit(train)(key)[1]
    for i in range(0, len(returns), max(1, len(returns) // 20)):
        print(f"iteration {i:5d}  return {returns[i]:8.1f}")
