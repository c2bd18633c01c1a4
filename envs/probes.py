"""Probe environments: tiny tasks with known answers, each of which isolates one ability of an
algorithm.

When an algorithm does not learn, the first probe that it fails tells what is broken:

* `probe/value`: one observation, reward 1, one step. Fails: the value loss.
* `probe/action`: one observation, the reward is the action. Fails: the policy loss.
* `probe/delay`: the first of two actions decides the reward of the second step. Fails: discounting,
  credit assignment.
* `probe/observation`: the right action is told by the observation. Fails: the networks see no
  observation.
* `probe/truncation`: every step is cut by a time limit. Fails: truncation is treated as
  termination, or the observation after the reset is bootstrapped instead of the true successor.
  Needs a discount of 0.86 to 0.92.
* `probe/termination`: every step terminates, and leads to where it looks as if more could be had.
  Fails: bootstrapping past the end of an episode. Needs a discount of at least 0.5.
* `probe/recall`: the right action was told `steps` steps ago, see `recall.Recall`. Fails: what a
  policy remembers is lost, or is not begun anew.
* `probe/mask`: some actions are not allowed, see `masks.Masks`. Fails: a masked action is taken.
* `probe/gamble`: a small cost that is sure, or a gamble that is better on average, see
  `gamble.Gamble`. Fails: what `RiskAverse` makes of costs.
* `probe/lock`: one right action in ten at each step, see `lock.Lock`. Fails where nothing but
  chance explores, and there is no data.
* `probe/all`: each episode is one of the tables, with states of their own, so that one run tries
  all; `first_state["delay"]` is the state in which that one begins.

All but `probe/recall`, `probe/mask`, `probe/gamble` and `probe/lock` are tables of states. All but
`probe/mask` and `probe/lock` have two actions, and all but these and `probe/gamble` have them as
discrete ones or (continuous=True) as a Box in which the sign of the action chooses.
`Probe.solve(gamma)` gives the exact values, and the best action of each state. The idea: Andy
Jones, "Debugging reinforcement learning systems", 2021.
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .base import Step
from .gamble import Gamble
from .lock import Lock
from .masks import Masks
from .options import checked
from .recall import Recall
from .spaces import Box, Discrete


@dataclasses.dataclass(frozen=True)
class Table:
    """A Markov decision process with S states and A actions.

    Attributes:
      reward: `[S, A]`.
      next_state: `[S, A]`, the successor, which is what the final observation shows too.
      terminated: `[S, A]`, whether the task is over after it.
      start: `[S]`, the probability that an episode starts there.
      time_limit: steps after which an episode is truncated.
    """

    reward: tuple[tuple[float, ...], ...]
    next_state: tuple[tuple[int, ...], ...]
    terminated: tuple[tuple[bool, ...], ...]
    start: tuple[float, ...]
    time_limit: int = 1000


_TABLES = {
    "value": Table(reward=((1, 1),), next_state=((0, 0),), terminated=((True, True),), start=(1,)),
    "action": Table(reward=((0, 1),), next_state=((0, 0),), terminated=((True, True),), start=(1,)),
    "delay": Table(
        reward=((0, 0), (0, 0), (1, 1)),
        next_state=((1, 2), (1, 1), (2, 2)),
        terminated=((False, False), (True, True), (True, True)),
        start=(1, 0, 0),
    ),
    "observation": Table(
        reward=((1, 0), (0, 1)),
        next_state=((0, 0), (1, 1)),
        terminated=((True, True),) * 2,
        start=(0.5, 0.5),
    ),
    # State 1 pays 1 for ever, and episodes start there too, so that its value is learned. In state
    # 0 one can quit for 6 or go to state 1, worth 1/(1 - gamma) = 10 at gamma 0.9: going is worth
    # 9. If truncation counted as termination it would be worth 0; if the reset observation were
    # bootstrapped, 0.9 * (6 + 1 + 0.9 * 6.36) / 2 = 5.7. Both are below 6: the wrong algorithm
    # quits.
    "truncation": Table(
        reward=((6, 0), (1, 1)),
        next_state=((0, 1), (1, 1)),
        terminated=((True, False), (False, False)),
        start=(0.5, 0.5),
        time_limit=1,
    ),
    # State 1 pays 10, and episodes start there too. In state 0 action 1 pays 3; action 0 pays
    # nothing and ends in what looks like state 1. Whoever bootstraps past the end takes action 0
    # for 10 * gamma.
    "termination": Table(
        reward=((0, 3), (10, 10), (0, 0)),
        next_state=((1, 2), (2, 2), (2, 2)),
        terminated=((True, True),) * 3,
        start=(0.4, 0.3, 0.3),
    ),
}


def _united(tables: dict[str, Table]) -> tuple[Table, dict[str, int]]:
    """All tables as one, with a time limit of two steps, and the first state of each."""
    first_state = {}
    rows = []
    for name, table in tables.items():
        offset = first_state[name] = len(rows)
        for reward, following, terminated in zip(
            table.reward, table.next_state, table.terminated, strict=True
        ):
            rows.append((reward, tuple(s + offset for s in following), terminated))
    reward, next_state, terminated = zip(*rows, strict=True)
    start = tuple(p / len(tables) for table in tables.values() for p in table.start)
    return Table(reward, next_state, terminated, start, time_limit=2), first_state


_OTHERS = {
    "recall": (Recall, {"continuous": False, "steps": 4}),
    "mask": (Masks, {}),
    "gamble": (Gamble, {}),
    "lock": (Lock, {"steps": 10, "seed": 0}),
}


def names() -> list[str]:
    """The names of the probes."""
    return [*_TABLES, "all", *_OTHERS]


def make(name: str, **options) -> "Probe | Recall | Masks | Gamble | Lock":
    """Makes a probe.

    Args:
      name: one of `names()`.
      **options: `continuous`, of all but mask, gamble and lock: actions are a Box([−1], [1]) of
        which the sign chooses, instead of Discrete(2); `steps`, of recall and lock; `seed`, of
        lock. Whatever else is given is refused by name.

    Raises:
      ValueError: an option that the probe does not have, or a value that is none of it.
    """
    cls, defaults = _OTHERS.get(name, (None, {"continuous": False}))
    options = checked(f"probe/{name}", options, defaults)
    if cls is not None:
        return cls(**options)
    continuous = options.get("continuous", False)
    table, first_state = _united(_TABLES) if name == "all" else (_TABLES[name], {name: 0})
    return Probe(table, continuous, first_state)


class ProbeState(NamedTuple):
    """The state of the table and the steps taken in this episode, int32 both."""

    state: chex.Array
    time: chex.Array


class Probe:
    """A `Table` as an environment; the observation is the state, one-hot.

    Also of use for tables of your own. With continuous=True there must be two actions.
    `first_state` says where which probe begins.
    """

    def __init__(
        self, table: Table, continuous: bool = False, first_state: dict[str, int] | None = None
    ):
        self.table = table
        self.first_state = first_state or {}
        self._continuous = continuous
        num_states, num_actions = np.shape(table.reward)
        if continuous and num_actions != 2:
            raise ValueError(f"continuous=True needs two actions, the table has {num_actions}")
        self.observation_space = Box(0.0, 1.0, (num_states,))
        self.action_space = Box(-1.0, 1.0, (1,)) if continuous else Discrete(num_actions)

    def reset(self, key: chex.PRNGKey):
        """Starts an episode in a state drawn from the table's start distribution."""
        state = jax.random.choice(
            key, len(self.table.start), p=jnp.asarray(self.table.start, jnp.float32)
        )
        return ProbeState(state.astype(jnp.int32), jnp.int32(0)), self._observation(state)

    def step(self, key: chex.PRNGKey, state: ProbeState, action: chex.Array):
        """Looks the action up in the table; the key is not used."""
        choice = (action[0] > 0).astype(jnp.int32) if self._continuous else action
        following = jnp.asarray(self.table.next_state, jnp.int32)[state.state, choice]
        time = state.time + 1
        step = Step(
            obs=self._observation(following),
            reward=jnp.asarray(self.table.reward, jnp.float32)[state.state, choice],
            terminated=jnp.asarray(self.table.terminated, bool)[state.state, choice],
            truncated=time >= self.table.time_limit,
            info={},
        )
        return ProbeState(following, time), step

    def solve(self, gamma: float) -> tuple[np.ndarray, np.ndarray]:
        """Exact optimal values of the task without its time limit, by value iteration.

        Args:
          gamma: discount per step, in [0, 1).

        Returns:
          (values, best_action), float64 `[S]` and int `[S]`.
        """
        table = self.table
        values = np.zeros(len(table.start))
        for _ in range(10_000):
            q = (
                np.array(table.reward)
                + gamma * (1 - np.array(table.terminated)) * values[np.array(table.next_state)]
            )
            values = q.max(axis=1)
        return values, q.argmax(axis=1)

    def _observation(self, state):
        return jax.nn.one_hot(state, len(self.table.start), dtype=jnp.float32)
