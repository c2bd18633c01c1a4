"""What is wrong with data to learn from, in plain words: a sentence for each problem."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ...envs import Box, Discrete
from ...envs.spaces import same_space
from .collect import Transition

_FLAGS = ("terminated", "truncated")
_LIMIT = 1.0 + 1e-4  # actions, with the rounding of their scaling


class DatasetError(ValueError):
    """Data cannot be learned from; the message says what is wrong with them."""


def require(
    transitions: Transition,
    spaces: tuple[Any, Any],
    wanted: tuple[Any, Any],
    scores: tuple[float, float] | None,
    true_terminations: bool,
) -> None:
    """Checks transitions `[M, ...]`.

    Args:
      transitions: numpy arrays.
      spaces: the observation and action spaces that they say they are of.
      wanted: those that they are to be of.
      scores: the returns of a random policy and of an expert, or None.
      true_terminations: whether terminations are known to be no time limit.

    Raises:
      DatasetError: the message lists each problem in a line of its own.
    """
    require_same_spaces(spaces, wanted)
    if not isinstance(wanted[1], Box | Discrete):
        _raise([f"actions are of {wanted[1]}, and must be of a Box or Discrete"])
    problems = list(_shape_problems(transitions, *wanted))
    problems = problems or [
        *_number_problems(transitions, *wanted),
        *_episode_problems(transitions, true_terminations),
    ]
    if scores is not None and not scores[0] < scores[1]:
        problems.append(
            f"expert_score={scores[1]:g} must be above random_score={scores[0]:g}: scores are"
            " normalised by their difference"
        )
    _raise(problems)


def require_same_spaces(found: tuple[Any, Any], wanted: tuple[Any, Any]) -> None:
    """Checks that (observation space, action space) are those that are wanted.

    Raises:
      DatasetError: they are not.
    """
    names = "observations", "actions"
    _raise(
        f"the {name} are of {mine}, and must be of {theirs}: the data are of another environment"
        for name, mine, theirs in zip(names, found, wanted, strict=True)
        if not same_space(mine, theirs)
    )


def other_environment(mine: tuple[str, dict], theirs: tuple[str, dict]) -> str:
    """What is known to differ between two environments, each (id, options), in words; "" where
    nothing is. An id of "", and an option that one does not name, are not known.
    """
    (my_id, my_options), (their_id, their_options) = mine, theirs
    if my_id and their_id and my_id != their_id:
        return f"{my_id} and {their_id}"
    for name in sorted(my_options.keys() & their_options.keys()):
        if my_options[name] != their_options[name]:
            return f"{name}={my_options[name]!r} and {name}={their_options[name]!r}"
    return ""


def _raise(problems) -> None:
    problems = list(problems)
    if problems:
        raise DatasetError("\n".join(problems))


def named_leaves(transitions: Transition) -> dict[str, Any]:
    """The arrays by name: "reward", and "obs.state" of a dict."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree.leaves_with_path(transitions)
    }


def _boxes(name, space):
    return (
        {f"{name}.{key}": box for key, box in space.items()}
        if isinstance(space, dict)
        else {name: space}
    )


def _wanted_spaces(observation_space, action_space):
    return {
        **_boxes("obs", observation_space),
        "action": action_space,
        **_boxes("next_obs", observation_space),
    }


def _shape_problems(transitions, observation_space, action_space) -> Iterator[str]:
    leaves = named_leaves(transitions)
    spaces = _wanted_spaces(observation_space, action_space)
    names = {*spaces, "reward", *_FLAGS}
    for name in sorted(names - leaves.keys()):
        yield f"{name} is missing"
    for name in sorted(leaves.keys() - names):
        yield f"{name} is not of the environment's observations"
    if names != leaves.keys():
        return
    length = len(leaves["reward"]) if np.ndim(leaves["reward"]) else 0
    if not length:
        yield "there is no transition: reward must be [M] with M above 0"
        return
    for name, leaf in leaves.items():
        shape = (length, *(spaces[name].shape if name in spaces else ()))
        if leaf.shape[:1] != shape[:1]:
            rows = len(leaf) if leaf.ndim else 0
            yield f"{name} has {rows} rows, and reward has {length}: every array has one a step"
        elif leaf.shape != shape:
            yield f"{name} has the shape {list(leaf.shape)}, and must have {list(shape)}"
        if name in _FLAGS and leaf.dtype != bool:
            yield f"{name} is {leaf.dtype}, and must be bool"
        elif leaf.dtype.kind not in "biuf":
            yield f"{name} is {leaf.dtype}, and must be numbers"


def _first(bad: np.ndarray) -> int:
    """The first row of `[M, ...]` in which something is True."""
    return int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))


def _number_problems(transitions, observation_space, action_space) -> Iterator[str]:
    leaves = named_leaves(transitions)
    finite = {name: np.isfinite(leaf) for name, leaf in leaves.items()}
    for name, good in finite.items():
        if not good.all():
            yield f"{name} is not finite in row {_first(~good)}"
    for name, space in _wanted_spaces(observation_space, action_space).items():
        leaf = leaves[name]
        if not finite[name].all():
            continue
        if isinstance(space, Discrete):
            bad = (leaf < 0) | (leaf >= space.n) | (leaf != np.floor(leaf))
            if bad.any():
                row = _first(bad)
                yield f"action is {leaf[row]} in row {row}, and must be one of 0 to {space.n - 1}"
        elif name == "action":
            bad = np.abs(leaf) > _LIMIT
            if bad.any():
                row = _first(bad)
                yield (
                    f"action is {leaf[row].tolist()} in row {row}, outside of the space: stored"
                    " actions are in [-1, 1], which stands for the environment's bounds"
                )
        else:
            slack = 1e-5 * (1.0 + np.abs(leaf))
            bad = (leaf < space.low - slack) | (leaf > space.high + slack)
            if bad.any():
                yield f"{name} is outside of its space in row {_first(bad)}"


def _equal_rows(a: Any, b: Any) -> np.ndarray:
    """In which rows two pytrees are the same, `[M]`."""
    same = [
        np.isclose(x, y, rtol=1e-5, atol=1e-6).all(axis=tuple(range(1, x.ndim)))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    return np.logical_and.reduce(same)


def _episode_problems(transitions, true_terminations) -> Iterator[str]:
    done = transitions.terminated | transitions.truncated
    before = jax.tree.map(lambda x: x[:-1], (transitions.obs, transitions.next_obs))
    following = jax.tree.map(lambda x: x[1:], transitions.obs)
    joined = _equal_rows(before[1], following)
    broken = ~done[:-1] & ~joined
    if broken.any():
        row = int(np.argmax(broken))
        yield (
            f"next_obs of row {row} is not obs of row {row + 1}, though no episode ends there"
            f" ({broken.sum()} such rows): rows are in order of time, and truncated is True where a"
            " record breaks off"
        )
        return
    if not true_terminations:
        yield from _time_limit_problems(transitions, done)
    yield from _reset_problems(done, joined, following)


def _time_limit_problems(transitions, done) -> Iterator[str]:
    ends = np.flatnonzero(done)
    lengths = np.diff(ends, prepend=-1)
    terminated = transitions.terminated[ends]
    if not terminated[-1:].all():  # the end of the record may have cut the last episode off
        lengths, terminated = lengths[:-1], terminated[:-1]
    if len(lengths) > 1 and terminated.all() and (lengths == max(lengths[0], 2)).all():
        yield (
            f"all {len(lengths)} episodes terminate after exactly {lengths[0]} steps: a time limit"
            " belongs into truncated, so that values are bootstrapped there"
            " (true_terminations=True if it is none)"
        )


def _reset_problems(done, joined, following) -> Iterator[str]:
    ends = np.flatnonzero(done[:-1])
    if len(ends) < 2 or not joined[ends].all():
        return
    first = jax.tree.leaves(following)[0][ends].reshape(len(ends), -1)
    if len(np.unique(first, axis=0)) > 1:
        yield (
            "next_obs is the first observation of the next episode wherever one ends: the true last"
            " observation was lost when the environment reset itself"
        )
