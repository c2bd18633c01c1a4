"""Trains smoothed policies, certifies their return, attacks them, and draws what came out.

`python scripts/smoothing.py --experiment=cartpole` runs one of the experiments below, a cell for
each sigma, and writes results/smoothing/EXPERIMENT_SIGMA.json; what exists is not run again. From
all cells of the experiment it draws EXPERIMENT.png beside them: certified lower bound and attacked
return against budget. Sigma 0 is the undefended agent, which is attacked only. For a task of your
own give --env, --algorithm, --sigmas, --budgets and --out.
"""

import json
import shlex
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from onejit import algos, envs
from onejit.algos import smoothing
from onejit.algos.core import guard
from onejit.algos.core.evaluation import player
from onejit.algos.host import cli, exits, plotting, presets, run_folder, runner
from onejit.algos.host.console import track
from onejit.algos.host.run_folder import write_json


class Experiment(NamedTuple):
    """What is trained, and how its return is certified and attacked.

    Attributes:
      env: the environment.
      env_options: given to `envs.make`.
      flatten: show pictures as vectors, for fully connected networks.
      algorithm: its preset for the environment is taken.
      changes: hyperparameters that replace those of the preset.
      num_frames: observations that the policy sees at once.
      sigmas: standard deviations of the noise, a policy for each.
      budgets: of the certificate.
      attack_budgets: of the attack.
      strengths: of the attack, None for the default.
      thresholds: of the return, None for a DKW bound.
      success_threshold: certify the probability of a return of at least this much.
      minimum: a return below which no episode can fall.
    """

    env: str
    env_options: dict[str, Any] = {}
    flatten: bool = False
    algorithm: str = "ppo"
    changes: dict[str, Any] = {}
    num_frames: int = 1
    sigmas: tuple[float, ...] = (0.0, 0.2)
    budgets: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    attack_budgets: tuple[float, ...] = (0.2, 0.6, 1.0)
    strengths: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    success_threshold: float | None = None
    minimum: float = 0.0


EXPERIMENTS = {
    # As in the paper: episodes of 200 steps, five frames.
    "cartpole": Experiment(
        env="gymnax/CartPole-v1",
        env_options={"max_steps_in_episode": 200},
        changes={"total_steps": 3_000_000},
        num_frames=5,
        sigmas=(0.0, 0.2, 0.4, 0.6, 0.8),
        thresholds=tuple(range(1, 201)),
    ),
    # The same with the collection's other algorithms for discrete actions.
    "cartpole_sac": Experiment(
        env="gymnax/CartPole-v1",
        env_options={"max_steps_in_episode": 200},
        algorithm="sac",
        changes={"num_envs": 16, "num_updates": 4, "learning_rate": 1e-3, "total_steps": 200_000},
        num_frames=5,
        sigmas=(0.2,),
        attack_budgets=(1.0,),
        thresholds=tuple(range(1, 201)),
    ),
    "cartpole_staq": Experiment(
        env="gymnax/CartPole-v1",
        env_options={"max_steps_in_episode": 200},
        algorithm="staq",
        changes={"memory": 10},
        num_frames=5,
        sigmas=(0.2,),
        attack_budgets=(1.0,),
        thresholds=tuple(range(1, 201)),
    ),
    # Success is to reach the goal in less than a thousand steps. The noise is three times the range
    # of the velocity.
    "mountain_car": Experiment(
        env="gymnax/MountainCar-v0",
        env_options={"max_steps_in_episode": 1000},
        changes={
            "learning_rate": 1e-3,
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "ent_coef": 0.01,
            "num_envs": 256,
            "num_steps": 128,
            "num_minibatches": 8,
            "normalize_obs": True,
            "normalize_reward": True,
            "total_steps": 5_000_000,
        },
        num_frames=15,
        sigmas=(0.0, 0.2, 0.4),
        success_threshold=-999.0,
    ),
    # In place of the paper's Atari games, with 250 steps as there. One strength of the attack,
    # which costs most time.
    "freeway": Experiment(
        env="gymnax/Freeway-MinAtar",
        env_options={"max_steps_in_episode": 250},
        flatten=True,
        changes={"hidden_sizes": (64, 64), "total_steps": 2_000_000},
        sigmas=(0.0, 0.2, 0.4),
        attack_budgets=(0.4, 1.0, 2.0),
        strengths=(0.0,),
        thresholds=tuple(range(1, 10)),
    ),
    "pong": Experiment(
        env="gymnax/Pong-misc",
        env_options={"max_steps_in_episode": 250},
        flatten=True,
        changes={
            "hidden_sizes": (64, 64),
            "activation": "relu",
            "learning_rate": 1e-3,
            "total_steps": 2_000_000,
        },
        sigmas=(0.0, 0.2),
        attack_budgets=(0.4,),
        strengths=(0.0,),
        thresholds=tuple(range(10, 251, 10)),
    ),
    # A robot whose reward, one for each step that the pole stands, has a known minimum.
    "inverted_pendulum": Experiment(
        env="brax/inverted_pendulum",
        env_options={"episode_length": 250},
        changes={
            "num_steps": 64,
            "num_minibatches": 8,
            "normalize_obs": True,
            "gae_lambda": 0.9,
            "total_steps": 1_000_000,
        },
        num_frames=5,
        sigmas=(0.0, 0.1, 0.2),
        budgets=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
        attack_budgets=(0.1, 0.3, 0.5),
        thresholds=tuple(range(1, 251)),
    ),
}


class TrainingFault(RuntimeError):
    """A number was not finite in the training; the message says which and where."""


def prepare(experiment: Experiment) -> tuple[ModuleType, Any, envs.Environment]:
    """The algorithm, its config, and the environment without noise."""
    module = getattr(algos, experiment.algorithm)
    config = module.Config(**presets.get(experiment.algorithm, experiment.env) | experiment.changes)
    env = envs.make(experiment.env, **experiment.env_options)
    env = envs.Flattened(env) if experiment.flatten else env
    # An algorithm that cuts actions into a grid is certified and attacked on that grid.
    return (
        module,
        config,
        module.discretized(env, config) if hasattr(module, "discretized") else env,
    )


def train(algorithm: algos.Algorithm, seed: int, num_devices: int) -> Any:
    """The last state of a whole run."""
    iterations = algorithm.iterations(int(algorithm.config.total_steps))
    options = {"num_iterations": iterations, "log_every": iterations}
    mesh = algos.make_mesh(num_devices)
    whole_run = jax.jit(lambda key: algos.train(algorithm, key, mesh=mesh, **options)[0])
    state = jax.block_until_ready(whole_run(jax.random.key(seed)))
    fault = guard.describe(state.learner.fault)
    if fault:
        raise TrainingFault(fault)
    return state


def run(
    experiment: Experiment,
    sigma: float,
    seed: int,
    episodes: int,
    attack_episodes: int,
    num_devices: int = 1,
) -> dict[str, Any]:
    """Trains, certifies and attacks; returns what the result file holds."""
    module, config, env = prepare(experiment)
    start = time.perf_counter()
    num_frames = experiment.num_frames
    algorithm = module.make(smoothing.smoothed(env, sigma, num_frames=num_frames), config)
    state = train(algorithm, seed, num_devices)
    trained = time.perf_counter()
    result = {**description(experiment, seed, episodes, attack_episodes), "sigma": sigma}
    if sigma > 0.0:
        act, memory = player(algorithm, state, deterministic=True)
        certificate = smoothing.certify(
            env,
            act,
            sigma,
            experiment.budgets,
            episodes,
            num_frames=num_frames,
            seed=seed,
            memory=memory,
            track=track,
            **certificate_options(experiment),
        )
        result |= {
            "alpha": certificate.alpha,
            "bound": certificate.bound,
            "mean_return": float(certificate.returns.mean()),
            "certified": certificate.lower.tolist(),
        }
    certified = time.perf_counter()
    attack = smoothing.attack(
        env,
        smoothing.policy_of(algorithm, state),
        sigma,
        experiment.attack_budgets,
        attack_episodes,
        strengths=experiment.strengths,
        success_threshold=experiment.success_threshold,
        num_frames=num_frames,
        seed=seed,
    )
    return result | {
        "attacked": attack.returns.mean(axis=1).tolist(),
        "attacked_sem": (attack.returns.std(axis=1, ddof=1) / np.sqrt(attack_episodes)).tolist(),
        "strengths": attack.strengths.tolist(),
        "train_s": round(trained - start, 1),
        "certify_s": round(certified - trained, 1),
        "attack_s": round(time.perf_counter() - certified, 1),
        "command": shlex.join(["python", "scripts/smoothing.py", *sys.argv[1:]]),
        "versions": runner.versions(),
    }


def description(
    experiment: Experiment, seed: int, episodes: int, attack_episodes: int
) -> dict[str, Any]:
    """What a result file says of its making, as JSON gives it back; the other sigmas do not
    matter.
    """
    fields = {name: value for name, value in experiment._asdict().items() if name != "sigmas"}
    made = {
        "experiment": fields,
        "seed": seed,
        "episodes": episodes,
        "attack_episodes": attack_episodes,
    }
    return json.loads(json.dumps(made))


def certificate_options(experiment: Experiment) -> dict[str, Any]:
    """Of `smoothing.certify`."""
    return {
        name: getattr(experiment, name) for name in ("thresholds", "success_threshold", "minimum")
    }


def require_valid(experiment: Experiment, episodes: int, num_devices: int = 1) -> None:
    """Raises ValueError for what training would otherwise come before."""
    module, config, env = prepare(experiment)
    algos.make_mesh(num_devices)
    config.require_shares(num_devices)
    module.make(smoothing.smoothed(env, 0.0, num_frames=experiment.num_frames), config)
    smoothing.require_attack(0.0, experiment.attack_budgets, experiment.strengths)
    for sigma in experiment.sigmas:
        if sigma:
            smoothing.certifier(
                sigma, experiment.budgets, episodes, **certificate_options(experiment)
            )


def numbers(words: list[str], flag: str) -> tuple[float, ...]:
    """The numbers of a flag."""
    try:
        return tuple(map(float, words))
    except ValueError as error:
        raise cli.UsageError(
            f"{flag}={','.join(words)}: must be numbers separated by commas"
        ) from error


def chosen() -> tuple[str, Experiment]:
    """The experiment that the flags name or describe, and its name."""
    values = flags.FLAGS
    if bool(values.env) == bool(values.experiment):
        raise cli.UsageError(f"give --env or --experiment, one of {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[values.experiment] if values.experiment else Experiment(values.env)
    given = {
        name: numbers(values[name].value, name)
        for name in ("sigmas", "budgets", "attack_budgets", "strengths", "thresholds")
        if values[name].value is not None
    }
    given |= {
        name: values[name].value
        for name in ("algorithm", "num_frames", "success_threshold", "minimum")
        if values[name].value is not None
    }
    for name in ("env_options", "changes"):
        given[name] = getattr(experiment, name) | cli.named_values(values[name].value, name)
    name = given.get("algorithm", experiment.algorithm)
    known = [each for each in algos.__all__ if hasattr(getattr(algos, each), "Config")]
    if name not in known:
        raise cli.UsageError(f"algorithm={name}: must be one of {', '.join(known)}")
    return values.experiment or values.env.replace("/", "_"), experiment._replace(**given)


def main(argv: list[str]) -> None:
    """Runs what is missing, redraws the figure and prints a table."""
    del argv
    values = flags.FLAGS
    name, experiment = chosen()
    settings = (values.seed, values.episodes, values.attack_episodes)
    try:
        require_valid(experiment, values.episodes, values.num_devices)
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        raise cli.UsageError(str(error)) from error
    run_folder.require_writable(values.out)
    folder = Path(values.out)
    folder.mkdir(parents=True, exist_ok=True)
    cells = []
    for sigma in experiment.sigmas:
        path = folder / f"{name}_{sigma:g}.json"
        if not path.exists():
            write_json(path, run(experiment, sigma, *settings, values.num_devices))
        cell = json.loads(path.read_text())
        wanted = description(experiment, *settings)
        if any(cell[each] != value for each, value in wanted.items()):
            raise cli.UsageError(
                f"{path} was made with other settings; remove it, or give another --out"
            )
        cells.append(cell)
        for row in ("certified", "attacked"):
            if row in cell:
                budgets = cell["experiment"]["budgets" if row == "certified" else "attack_budgets"]
                points = ", ".join(
                    f"{b:g}: {x:.4g}" for b, x in zip(budgets, cell[row], strict=True)
                )
                print(f"sigma {sigma:g}, {row}, by budget: {points}", flush=True)
    plotting.plot_certificates(folder / f"{name}.png", cells, title=experiment.env)


if __name__ == "__main__":
    flags.DEFINE_enum(
        "experiment",
        None,
        list(EXPERIMENTS),
        "Which experiment to run; flags below replace its parts.",
    )
    flags.DEFINE_string("env", None, "An environment of your own choice, suite/name.")
    flags.DEFINE_multi_string(
        "env_options", [], "An option of the environment, name=value; may be repeated."
    )
    flags.DEFINE_string(
        "algorithm", None, "Who is trained: ppo (default), spo, mdpo, sac, staq, td3, ..."
    )
    flags.DEFINE_multi_string(
        "changes", [], "A hyperparameter that replaces the preset's, name=value; may be repeated."
    )
    flags.DEFINE_integer(
        "num_frames", None, "Observations that the policy sees at once.", lower_bound=1
    )
    flags.DEFINE_list(
        "sigmas", None, "Standard deviations of the noise; 0 is the undefended agent."
    )
    flags.DEFINE_list("budgets", None, "Budgets of the certificate, L2 norms over an episode.")
    flags.DEFINE_list("attack_budgets", None, "Budgets of the attack.")
    flags.DEFINE_list("strengths", None, "Of the attack, see onejit.algos.smoothing.attack.")
    flags.DEFINE_list(
        "thresholds", None, "Thresholds of the return, for Clopper-Pearson bounds instead of DKW."
    )
    flags.DEFINE_float(
        "success_threshold", None, "Certify the probability of a return of at least this much."
    )
    flags.DEFINE_float("minimum", None, "A return below which no episode can fall.")
    flags.DEFINE_integer("num_devices", 1, "Devices that share the training.", 1)
    flags.DEFINE_integer("episodes", 10_000, "Episodes of the certificate.")
    flags.DEFINE_integer("attack_episodes", 200, "Episodes of each attack.")
    flags.DEFINE_integer("seed", 0, "Of training, certificate and attack.", 0, 2**32 - 1)
    flags.DEFINE_string(
        "out",
        str(Path(__file__).parents[1] / "results" / "smoothing"),
        "Folder of the result files and the figure.",
    )
    exits.run_script(main)
