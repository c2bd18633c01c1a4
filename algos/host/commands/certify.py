"""Trains smoothed policies, certifies their return, attacks them, and draws what came out.

`onejit certify --experiment=cartpole` runs one of the experiments of `experiments.py`, a cell for
each sigma, and writes results/smoothing/EXPERIMENT_SIGMA.json; what exists is not run again. From
all cells of the experiment it draws EXPERIMENT.png beside them: certified lower bound and attacked
return against budget. Sigma 0 is the undefended agent, which is attacked only. For a task of your
own give --env, --algorithm, --sigmas, --budgets and --out.
"""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from absl import flags

from .... import algos, envs
from ... import smoothing
from ...core import guard
from ...core.evaluation import player
from .. import cli, compilation_cache, exits, plotting, presets, run_folder, runner
from ..console import make_console, track
from ..run_folder import write_json
from ..script_flags import algorithm_named, plain_help, programs_kept
from .experiments import EXPERIMENTS, Experiment


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
    """The last state of a whole run.

    Raises:
      NonFiniteError: a number was not finite; the message says which and where.
    """
    iterations = algorithm.iterations(int(algorithm.config.total_steps))
    options = {"num_iterations": iterations, "log_every": iterations}
    mesh = algos.make_mesh(num_devices)
    whole_run = jax.jit(lambda key: algos.train(algorithm, key, mesh=mesh, **options)[0])
    state = jax.block_until_ready(whole_run(jax.random.key(seed)))
    fault = guard.describe(state.learner.fault)
    if fault:
        raise runner.NonFiniteError(fault)
    return state


def run(
    experiment: Experiment,
    sigma: float,
    seed: int,
    episodes: int,
    attack_episodes: int,
    num_devices: int = 1,
    command: str = "",
) -> dict[str, Any]:
    """Trains, certifies and attacks; returns what the result file holds, the command included."""
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
        "command": command,
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


def define_flags() -> flags.FlagValues:
    """The flags of this command, in a FlagValues of their own."""
    values = flags.FlagValues()
    options = {"flag_values": values}
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", **options)
    flags.DEFINE_enum(
        "experiment",
        None,
        list(EXPERIMENTS),
        f"One of {', '.join(EXPERIMENTS)}; the other flags replace its parts.",
        **options,
    )
    flags.DEFINE_string("env", None, "An environment of your own choice, suite/name.", **options)
    flags.DEFINE_multi_string(
        "env_options", [], "An option of the environment, name=value; may be repeated.", **options
    )
    flags.DEFINE_string(
        "algorithm",
        None,
        "Who is trained: ppo (default), spo, mdpo, sac, staq, td3, ...",
        **options,
    )
    flags.DEFINE_multi_string(
        "changes",
        [],
        "A hyperparameter that replaces the preset's, name=value; may be repeated.",
        **options,
    )
    flags.DEFINE_integer(
        "num_frames", None, "Observations that the policy sees at once.", lower_bound=1, **options
    )
    flags.DEFINE_list(
        "sigmas", None, "Standard deviations of the noise; 0 is the undefended agent.", **options
    )
    flags.DEFINE_list(
        "budgets", None, "Budgets of the certificate, L2 norms over an episode.", **options
    )
    flags.DEFINE_list("attack_budgets", None, "Budgets of the attack.", **options)
    flags.DEFINE_list(
        "strengths", None, "Of the attack, see onejit.algos.smoothing.attack.", **options
    )
    flags.DEFINE_list(
        "thresholds",
        None,
        "Thresholds of the return, for Clopper-Pearson bounds instead of DKW.",
        **options,
    )
    flags.DEFINE_float(
        "success_threshold",
        None,
        "Certify the probability of a return of at least this much.",
        **options,
    )
    flags.DEFINE_float("minimum", None, "A return below which no episode can fall.", **options)
    flags.DEFINE_integer("num_devices", 1, "Devices that share the training.", 1, **options)
    flags.DEFINE_integer("episodes", 10_000, "Episodes of the certificate.", **options)
    flags.DEFINE_integer("attack_episodes", 200, "Episodes of each attack.", **options)
    flags.DEFINE_integer("seed", 0, "Of training, certificate and attack.", 0, 2**32 - 1, **options)
    flags.DEFINE_string(
        "out", "results/smoothing", "Folder of the result files and the figure.", **options
    )
    flags.DEFINE_string("compilation_cache", None, compilation_cache.HELP, **options)
    return values


def chosen(values: flags.FlagValues) -> tuple[str, Experiment]:
    """The experiment that the flags name or describe, and its name.

    Raises:
      UsageError: they do not.
    """
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
    algorithm_named(given.get("algorithm", experiment.algorithm))  # refuses what there is not
    return values.experiment or values.env.replace("/", "_"), experiment._replace(**given)


def make(argv: Sequence[str]) -> int:
    """Runs what is missing, redraws the figure and prints a table; returns 0.

    Raises:
      UsageError, RunFolderError, flags.Error: the input is wrong.
      NonFiniteError: a training failed.
    """
    values = define_flags()
    cli.parse(values, argv)
    if values.help:
        make_console().print(plain_help(__doc__, values), markup=False)
        return 0
    with programs_kept(values):
        _make(values, shlex.join(["onejit", "certify", *argv[1:]]))
    return 0


def _make(values: flags.FlagValues, command: str) -> None:
    name, experiment = chosen(values)
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
            write_json(path, run(experiment, sigma, *settings, values.num_devices, command))
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


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command, and exits with a code."""
    argv = list(sys.argv if argv is None else argv)
    exits.exit_with_code(argv, lambda: make(argv))
