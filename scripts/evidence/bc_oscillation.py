"""Does the return of behavioural cloning oscillate while its loss does not, and does an average of
the weights cure it (EMA of BC; Block et al. 2023)? `python scripts/evidence/bc_oscillation.py`.

PPO learns a task, and its policy without exploring acts for 10,000 steps. Five vmapped seeds clone
it with minibatches of 32; over the last 5,000 updates, every 100, both the actor and the average of
its weights play the same episodes. Result: results/bc_oscillation/TASK.json, which is not made
again, with the standard deviation over these checkpoints of each seed's mean return and of its loss
on all data, and a table with 95 % intervals over seeds.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from onejit import algos, envs
from onejit.algos import bc, dataset, ppo
from onejit.algos.core import normalize, training
from onejit.algos.host import plotting, runner
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results" / "bc_oscillation"
TEACHER = {"num_envs": 64, "num_steps": 64, "normalize_obs": True, "normalize_reward": True}
TASKS = {  # environment, and what its teacher has beside
    "pendulum": ("gymnax/Pendulum-v1", {"gamma": 0.9, "learning_rate": 1e-3}),
    "hopper": ("brax/hopper", {"num_minibatches": 8, "update_epochs": 8}),
}
EPISODES = 8
EVERY = 100


def teach(env: envs.Environment, changes: dict, steps: int, rows: int) -> dataset.Dataset:
    """What PPO does after so many steps, without exploring."""
    teacher = ppo.make(env, ppo.Config(**TEACHER | changes | {"total_steps": steps}))
    iterations = teacher.iterations(steps)
    learn = jax.jit(lambda key: algos.train(teacher, key, num_iterations=iterations)[0])
    state = learn(jax.random.key(0))
    return dataset.record(
        teacher, state, jax.random.key(1), num_steps=rows, deterministic=True, source="PPO"
    )


def measure(env: envs.Environment, data: dataset.Dataset, seeds: int, updates: int) -> dict:
    """Returns `[seeds, checkpoints]` and losses of the actor and of its average."""
    changes = {"learning_rate": 1e-3, "batch_size": 32, "num_updates": EVERY, "ema_floor": 1e-4}
    algorithm = bc.make(env, bc.Config(**changes, total_steps=updates), data=data)
    networks = bc.make_networks(env, algorithm.config)
    evaluator = algos.evaluator(algorithm, num_episodes=EPISODES)
    rows = data.transitions

    def look(state, key):
        """The return and the loss of what acts."""
        learner = state.learner
        action = networks.actor.apply(learner.targets["actor"], normalize.obs(learner, rows.obs))
        loss = jnp.mean(jnp.sum((action - rows.action) ** 2, axis=-1))
        return evaluator(state, key)["eval/episodic_return"], loss

    def without_average(state):
        learner = state.learner
        targets = learner.targets | {"actor": learner.params["actor"]}
        return state._replace(learner=learner._replace(targets=targets))

    def last_rows(state, key):
        def one(state, _):
            state, _ = training.advance(algorithm, state, 1)
            return state, (look(without_average(state), key), look(state, key))

        return jax.lax.scan(one, state, None, length=50)[1]

    def run(seed):
        key, eval_key = jax.random.split(jax.random.key(seed))
        state = algorithm.init(key)
        state, _ = training.advance(algorithm, state, algorithm.iterations(updates) - 50)
        return last_rows(state, eval_key)

    actor, average = jax.device_get(jax.jit(jax.vmap(run))(jnp.arange(seeds)))
    named = {"actor": actor, "average": average}
    return {
        name: {
            "returns": np.asarray(returns, float).round(2).tolist(),
            "losses": np.asarray(losses, float).round(8).tolist(),
        }
        for name, (returns, losses) in named.items()
    }


def main(argv: list[str]) -> None:
    """Measures what is missing, and prints the table."""
    del argv
    values = flags.FLAGS
    folder = Path(values.out)
    folder.mkdir(parents=True, exist_ok=True)
    print("| task | what acts | mean return | its deviation | deviation of the loss / its mean |")
    print("|---|---|---|---|---|")
    for task in values.tasks:
        path = folder / f"{task}.json"
        if not path.exists():
            env_id, changes = TASKS[task]
            env = envs.make(env_id)
            data = teach(env, changes, values.teacher_steps, values.rows)
            cell = {
                "env": env_id,
                "teacher": TEACHER | changes | {"total_steps": values.teacher_steps},
                "transitions": len(data),
                "checksum": data.checksum,
                "seeds": values.seeds,
                "updates": values.updates,
                **measure(env, data, values.seeds, values.updates),
                "command": " ".join(["python scripts/evidence/bc_oscillation.py", *sys.argv[1:]]),
                "versions": runner.versions(),
            }
            write_json(path, cell)
        cell = json.loads(path.read_text())
        for name in ("actor", "average"):
            returns, losses = (np.array(cell[name][each]) for each in ("returns", "losses"))
            each = np.stack([returns.mean(1), returns.std(1), losses.std(1) / losses.mean(1)])
            low, high = plotting.interval_of_mean(each)
            columns = zip(each.mean(1), low, high, (1, 1, 3), strict=True)
            told = " | ".join(f"{m:.{d}f} ({a:.{d}f} to {b:.{d}f})" for m, a, b, d in columns)
            print(f"| {task} | {name} | {told} |", flush=True)


if __name__ == "__main__":
    flags.DEFINE_list("tasks", list(TASKS), "Which tasks.")
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("teacher_steps", 1_000_000, "Environment steps of PPO.")
    flags.DEFINE_integer("rows", 10_000, "Transitions to clone.")
    flags.DEFINE_integer("updates", 20_000, "Updates of each seed; the last 5,000 are looked at.")
    flags.DEFINE_string("out", str(RESULTS), "Folder of the result files.")
    app.run(main)
