"""The console command: `onejit ppo --env=gymnax/CartPole-v1` is `python scripts/ppo.py --env=...`.

`onejit`, or `python -m onejit`, lists the commands. Nothing of the package is imported before one
of them is chosen, so that the list is there at once.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from . import __version__

# The algorithms, whose modules are handed to `cli.main`.
ALGORITHMS = {
    "ppo": "Proximal Policy Optimization: the clipped objective",
    "spo": "Simple Policy Optimization: PPO with a quadratic penalty",
    "mdpo": "Mirror Descent Policy Optimization, on-policy",
    "trpo": "Trust Region Policy Optimization",
    "ppo_ewma": "PPO that stays close to an average of its policies",
    "fixpo": "PPO whose every update ends within a bound of the KL",
    "r2vpo": "PPO with a penalty on the variance of the ratio",
    "props": "PPO whose collecting policy makes up for sampling error",
    "gorl": "PPO on the noise that a flow turns into actions",
    "hnpg": "hybrid natural policy gradient: TRPO with other data",
    "npg_igt": "normalised policy gradient with implicit gradient transport",
    "harpg": "Hessian-aided recursive policy gradient",
    "pathwise": "gradients of the return through the environment itself",
    "staq": "policy mirror descent with a stack of Q-functions",
    "td3": "Twin Delayed DDPG",
    "sac": "Soft Actor-Critic",
    "mdpo_off_policy": "Mirror Descent Policy Optimization, off-policy",
    "fast_td3": "TD3 with categorical critics and many environments",
    "fast_sac": "SAC with categorical critics and many environments",
    "crossq": "SAC without target networks",
    "avg": "Action Value Gradient: SAC without a replay",
    "aq_td3": "annealed Q-learning on TD3",
    "aq_sac": "annealed Q-learning on SAC",
    "aq_fast_sac": "annealed Q-learning on FastSAC",
    "bc": "from data: behavioural cloning",
    "flow_bc": "from data: behavioural cloning by a flow",
    "td3_bc": "from data: TD3+BC",
    "iql": "from data: implicit Q-learning",
    "rebrac": "from data: TD3+BC whose critic knows the distance too",
    "prdc": "from data: TD3+BC that stays close to the nearest of the data",
    "a2pr": "from data: TD3+BC that follows the better ones of its actions",
    "famo2o": "from data: IQL with a family of policies",
    "expo": "from data and on: SAC on edits of what a flow proposes",
    "cdsa_lite": "from data: a correction of any policy's actions",
    "tokens": "policies of tokens: GRPO, RLOO, DPO and their kin",
}
# The others: (the module whose `main` is called, what it does).
OTHERS = {
    "sweep": (".algos.host.sweep_cli", "trains many settings and seeds in one program"),
    "render": (".algos.host.commands.render", "draws an episode of a run"),
    "export": (".algos.host.commands.export", "writes a policy to be used without onejit"),
    "dataset": (".algos.host.commands.dataset", "makes a data set to learn from"),
    "certify": (".algos.host.commands.certify", "trains, certifies and attacks smoothed policies"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command, and exits with its code.

    Exits with 2 where there is no such command; the message names the nearest.

    Args:
      argv: the command line, the program's name included; sys.argv by default.
    """
    words = list(sys.argv if argv is None else argv)[1:]
    if not words or words[0] in ("--help", "-h"):
        try:
            print(listing(), flush=True)
        except BrokenPipeError:  # as of `onejit | head`; at its exit Python would say so once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    if words[0] == "--version":
        print(__version__)
        sys.exit(0)
    name, *rest = words
    argv = [f"onejit {name}", *rest]
    if name in ALGORITHMS:
        from .algos.host import cli

        cli.main(importlib.import_module(f".algos.{name}", __package__), argv)
    elif name in OTHERS:
        importlib.import_module(OTHERS[name][0], __package__).main(argv)
    else:
        near = difflib.get_close_matches(name, [*ALGORITHMS, *OTHERS], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`onejit` lists them"
        print(f"onejit: {name!r} is no command; {hint}", file=sys.stderr)
        sys.exit(2)


def listing() -> str:
    """What `onejit` alone prints: a line for each command."""
    others = {name: what for name, (_, what) in OTHERS.items()}
    return "\n".join(
        [
            "onejit COMMAND --FLAG=VALUE ...; onejit COMMAND --help explains the flags",
            *("", "Train:", *_lines(ALGORITHMS)),
            *("", "And beside it:", *_lines(others)),
        ]
    )


def _lines(commands: dict[str, str]) -> list[str]:
    return [f"  {name:<17}{what}" for name, what in commands.items()]


if __name__ == "__main__":
    main()
