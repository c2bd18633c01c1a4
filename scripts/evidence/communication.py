"""On paper: how much of an update on many devices is communication?

`python scripts/evidence/communication.py` writes results/communication.json and prints its tables.
Nothing is run: parameters are counted on the networks that the algorithms make at published sizes,
arithmetic is that of the networks' matrix products (the environment's comes on top, and would make
communication the smaller part), and time follows from both by the assumptions below.

* A device sends 2(D − 1)/D times the bytes of what D devices reduce (a ring), and waits twice as
  many times for a word to arrive as a tree of D leaves is deep, for each collective.
* Nothing of it goes on beside the arithmetic, which runs at the same rate however few rows there
  are: few rows run slower in truth, so that communication is a smaller part than it says here.
* "Totals stay": D devices share the published minibatch, as --num_devices does. "Each as many":
  minibatch and environments grow with D.
"""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
from absl import app

from onejit import envs
from onejit.algos import fast_td3, ppo
from onejit.algos.host import presets, runner
from onejit.algos.host.run_folder import write_json

RESULT = Path(__file__).parents[2] / "results" / "communication.json"
FLOPS = 20e12  # a second, sustained; an H100's float32 peak is 67e12 without tensor cores
# Bytes a second that a device sends, and seconds until a word arrives: NVLink of the fourth
# generation, one port of 400 Gb/s a device, and 100 Gb/s with TCP.
LINKS = {
    "NVLink": (450e9, 2e-6),
    "InfiniBand": (50e9, 5e-6),
    "100 Gb/s Ethernet": (12.5e9, 25e-6),
}
DEVICES = (8, 16, 32, 64, 128, 256, 512, 1024)
LIMIT = 0.1
# The humanoid G1 of MuJoCo Playground: numbers of its observations and actions.
G1 = SimpleNamespace(
    observation_space={
        "state": envs.Box(-math.inf, math.inf, (103,)),
        "privileged_state": envs.Box(-math.inf, math.inf, (222,)),
    },
    action_space=envs.Box(-1.0, 1.0, (29,)),
)
# Playground's own PPO for it: 8192 environments, minibatches of 256 pieces of 20 steps, 32 of them,
# four times.
PPO = ppo.Config(
    num_envs=8192, num_steps=20, num_minibatches=32, update_epochs=4, hidden_sizes=(512, 256, 128)
)
FAST_TD3 = fast_td3.Config(**presets.get("fast_td3", "playground/G1JoystickFlatTerrain"))


class Update(NamedTuple):
    """A gradient step, of all devices together.

    Attributes:
      rows: of its minibatch.
      bytes: that are reduced over the devices.
      collectives: one after the other.
      flops: additions and multiplications.
    """

    rows: int
    bytes: float
    collectives: float
    flops: float


def parameters(module: Any, env: Any, config: Any) -> dict[str, Any]:
    """The parameters by network, by shape."""
    networks = module.make_networks(env, config)
    learner = jax.eval_shape(
        lambda key: module.init_learner(key, env=env, networks=networks, config=config),
        jax.random.key(0),
    )
    params = learner.params
    return dict(params._asdict() if hasattr(params, "_asdict") else params)


def numbers(params: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


def products(params: Any) -> int:
    """Weights of the matrix products: each is one multiplication and one addition a row."""
    return sum(x.size for x in jax.tree.leaves(params) if len(x.shape) > 1)


def of_ppo(env: Any, config: ppo.Config) -> Update:
    """Forward once and backward twice; and of the rollout, which serves update_epochs passes, one
    action and two values a row. Reduced are the gradients; the moments of the advantages first.
    """
    found = parameters(ppo, env, config)
    actor, critic = products(found["policy"]), products(found["value"])
    rows = config.num_envs * config.num_steps // config.num_minibatches
    flops = 6.0 * (actor + critic) * rows + 2.0 * (actor + 2 * critic) * rows / config.update_epochs
    return Update(rows, 4.0 * numbers(found), 2, flops)


def of_fast_td3(env: Any, config: fast_td3.Config) -> Update:
    """The critics forward once and backward twice, their target and the actor's forward; and every
    policy_delay updates the actor's step, through the critics. Both gradients are reduced, and the
    statistics of what was collected.
    """
    found = parameters(fast_td3, env, config)
    actor, critics = products(found["actor"]), products(found["critic"])
    rows, often = config.batch_size, 1.0 / config.policy_delay
    flops = rows * (8.0 * critics + 2.0 * actor + often * (6.0 * actor + 4.0 * critics))
    flops += 2.0 * actor * config.num_envs / config.num_updates
    size = 4.0 * (numbers(found["critic"]) + often * numbers(found["actor"]))
    return Update(rows, size, 1 + often, flops)


def seconds(update: Update, link: str, num_devices: int) -> float:
    """Of communication in an update on so many devices."""
    rate, latency = LINKS[link]
    sent = 2.0 * (num_devices - 1) / num_devices * update.bytes
    return sent / rate + update.collectives * 2 * math.ceil(math.log2(num_devices)) * latency


def part(update: Update, link: str, num_devices: int, *, grows: bool) -> float:
    """Communication, of the time of an update; `grows` where each device has a whole minibatch."""
    arithmetic = update.flops / FLOPS / (1 if grows else num_devices)
    communication = seconds(update, link, num_devices)
    return communication / (communication + arithmetic)


def table() -> list[dict[str, Any]]:
    """A row for each algorithm, kind of scaling and link: also from how many devices on
    communication is beyond the limit, and with how many rows of a minibatch on each of 1,024 of
    them it is at the limit.
    """
    updates = {"PPO": of_ppo(G1, PPO), "FastTD3": of_fast_td3(G1, FAST_TD3)}
    rows = []
    for name, update in updates.items():
        for grows in (False, True):
            for link in LINKS:
                parts = {number: part(update, link, number, grows=grows) for number in DEVICES}
                beyond = [number for number in DEVICES if parts[number] > LIMIT]
                fewest = (1 / LIMIT - 1) * seconds(update, link, DEVICES[-1]) * FLOPS
                rows.append(
                    {
                        "algorithm": name,
                        "scaling": "each as many" if grows else "totals stay",
                        "link": link,
                        **update._asdict(),
                        "part": parts,
                        "beyond": min(beyond, default=None),
                        "rows_each": fewest / (update.flops / update.rows),
                    }
                )
    return rows


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The table as docs/devices.md has it."""
    shown = (8, 64, 256, 1024)
    head = ["", "", "", *(f"{number:,} devices" for number in shown), "more than 10 % from"]
    found = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        beyond = f"{row['beyond']:,}" if row["beyond"] else "no size"
        beyond += " or fewer" if row["beyond"] == DEVICES[0] else ""
        parts = [f"{100 * row['part'][number]:.1f} %" for number in shown]
        cells = [row["algorithm"], row["scaling"], row["link"], *parts, beyond]
        found.append(f"| {' | '.join(cells)} |")
    return found


def main(argv: list[str]) -> None:
    del argv
    rows = table()
    body = {
        "flops_per_second": FLOPS,
        "links": LINKS,
        "rows": rows,
        "command": "python scripts/evidence/communication.py",
        "versions": runner.versions(),
    }
    write_json(RESULT, body, indent=1)
    print("\n".join(lines(rows)))
    for row in rows:
        if row["scaling"] == "totals stay":
            print({name: row[name] for name in ("algorithm", "link", *Update._fields, "rows_each")})


if __name__ == "__main__":
    app.run(main)
