"""Data sets: what is wrong with one, in a sentence each; what is made of records and of parts."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.algos import DatasetError, dataset
from onejit.algos.core.collect import Transition
from onejit.algos.core.evaluation import normalized_score

BOX = envs.Box(-4.0, 4.0, (1,))
TORQUE = envs.Box(-2.0, 2.0, (1,))
# Two episodes, 0 1 2 and then 3 1; the first is cut by its time limit, the second terminates.
GOOD = {
    "obs": np.array([[0.0], [1.0], [3.0]], np.float32),
    "action": np.array([[0.5], [-1.0], [0.0]], np.float32),
    "reward": np.array([1.0, 2.0, 3.0], np.float32),
    "terminated": np.array([False, False, True]),
    "truncated": np.array([False, True, False]),
    "next_obs": np.array([[1.0], [2.0], [1.0]], np.float32),
}


def made(spaces=(BOX, TORQUE), **changes):
    known = {
        name: changes.pop(name) for name in ("random_score", "expert_score") if name in changes
    }
    transitions = Transition(**GOOD | changes)
    return dataset.Dataset(
        transitions=transitions, observation_space=spaces[0], action_space=spaces[1], **known
    )


class Env:
    observation_space = BOX
    action_space = TORQUE
    reset = step = None


def of(name, row, value):
    array = GOOD[name].copy()
    array[row] = value
    return {name: array}


def rows(*numbers):
    return np.array(numbers, np.float32)[:, None]


def flags(*numbers):
    return np.array(numbers, bool)


TIME_LIMIT = {
    "obs": rows(0, 1, 3, 1, 2, 0),
    "next_obs": rows(1, 2, 1, 2, 0, 1),
    "action": rows(0, 0, 0, 0, 0, 0),
    "reward": np.zeros(6, np.float32),
    "terminated": flags(0, 1, 0, 1, 0, 1),
    "truncated": flags(0, 0, 0, 0, 0, 0),
}
RESET = TIME_LIMIT | {
    "next_obs": rows(1, 3, 1, 2, 0, 1),
    "terminated": flags(0, 1, 0, 0, 0, 0),
    "truncated": flags(0, 0, 0, 1, 0, 1),
}
BAD = {
    "reward has 0 rows|there is no transition": {"reward": np.zeros(0, np.float32)},
    "obs has 2 rows, and reward has 3": {"obs": GOOD["obs"][:2]},
    "obs has the shape .3, 2., and must have .3, 1.": {"obs": np.zeros((3, 2), np.float32)},
    "terminated is float32, and must be bool": {"terminated": np.zeros(3, np.float32)},
    "next_obs is missing": {"next_obs": ()},
    "reward is not finite in row 1": of("reward", 1, np.nan),
    "action is .3.0. in row 2, outside of the space": of("action", 2, 3.0),
    "obs is outside of its space in row 2": of("obs", 2, 5.0),
    "next_obs of row 0 is not obs of row 1": of("next_obs", 0, 0.5),
    "all 3 episodes terminate after exactly 2 steps": TIME_LIMIT,
    "next_obs is the first observation of the next episode": RESET,
    "expert_score=1 must be above random_score=2": {"random_score": 2.0, "expert_score": 1.0},
    "actions are of .*, and must be of a Box or Discrete": {
        "spaces": (BOX, envs.MultiDiscrete((2, 2))),
        "action": np.zeros((3, 2), np.int32),
    },
    "observations are of .*: the data are of another environment": {"spaces": (TORQUE, TORQUE)},
    "actions are of .*: the data are of another environment": {"spaces": (BOX, BOX)},
}


def test_good_data_pass_and_may_end_without_an_end():
    made().check(Env)
    made(terminated=flags(0, 0, 0)).check(Env)
    known = dataset.Dataset.replace(made(**TIME_LIMIT), true_terminations=True)
    known.check(Env)  # said to be no time limit


@pytest.mark.parametrize("sentence", BAD)
def test_bad_data_are_refused_in_a_sentence(sentence):
    with pytest.raises(DatasetError, match=sentence) as caught:
        bad = made(**BAD[sentence])
        bad.check(None if "Discrete" in sentence else Env)
    assert len(str(caught.value).splitlines()) == 1


def test_each_problem_has_a_line():
    with pytest.raises(DatasetError) as caught:
        made(**of("reward", 1, np.nan), **of("action", 2, 3.0)).check()
    assert len(str(caught.value).splitlines()) == 2


def test_discrete_actions_must_be_choices():
    spaces = (BOX, envs.Discrete(2))
    made(spaces, action=np.array([0, 1, 1])).check()
    with pytest.raises(DatasetError, match="action is 2 in row 1, and must be one of 0 to 1"):
        made(spaces, action=np.array([0, 2, 1])).check()


def test_arrays_of_ones_own_come_in_the_units_of_the_environment():
    arrays = GOOD | {"action": 2.0 * GOOD["action"], "terminated": flags(0, 0, 0)}
    data = dataset.from_arrays(Env, **arrays, source="mine")
    np.testing.assert_allclose(data.transitions.action, GOOD["action"])
    np.testing.assert_array_equal(data.transitions.truncated, [False, True, True])
    assert data.source == "mine" and data.scores is None and len(data) == 3
    for stored in jax.tree.leaves(data.transitions):  # what becomes of the arrays changes no data
        assert not any(np.shares_memory(stored, array) for array in arrays.values())
    with pytest.raises(DatasetError, match="action is .2.0. in row 0"):  # 4 of a bound of 2
        dataset.from_arrays(Env, **GOOD | {"action": np.full((3, 1), 4.0, np.float32)})


def test_records_of_environments_side_by_side_become_one_after_the_other():
    """Two environments of three steps: 0 1 2 and 10 11 12; only the second one ends at its end."""
    number = np.array([[0, 10], [1, 11], [2, 12]], np.float32)
    end = np.array([[0, 0], [0, 0], [0, 1]], bool)
    steps = Transition(number[..., None], number[..., None], number, end, ~end & False, number)
    data = dataset.of_steps(steps._replace(next_obs=number[..., None] + 1.0), Env)
    np.testing.assert_array_equal(data.transitions.reward, [0, 1, 2, 10, 11, 12])
    np.testing.assert_array_equal(data.transitions.truncated, flags(0, 0, 1, 0, 0, 0))
    np.testing.assert_array_equal(data.transitions.obs[:, 0], data.transitions.reward)


def test_parts_do_not_run_into_each_other():
    part = made(terminated=flags(0, 0, 0)).replace(source="one", random_score=-3.0)
    whole = dataset.mix(part, made().replace(source="two"))
    whole.check(Env)
    assert len(whole) == 6 and whole.source == "one and two" and whole.scores is None
    scored = made().replace(random_score=-4.0, expert_score=2.0)
    assert dataset.mix(made(), part, scored).scores == (-3.0, 2.0)  # of the first that has one
    np.testing.assert_array_equal(whole.transitions.truncated, flags(0, 1, 1, 0, 1, 0))
    with pytest.raises(DatasetError, match="another environment"):
        dataset.mix(part, made((BOX, BOX)))


def test_data_of_environments_that_are_known_to_differ_are_not_mixed():
    first = made().replace(env_id="mine/One", env_options={"limit": 7})
    dataset.mix(first, made(), first.replace(env_options={"mass": 2.0}))  # which say nothing else
    with pytest.raises(DatasetError, match="different environments: mine/One and mine/Two"):
        dataset.mix(first, made(), first.replace(env_id="mine/Two"))
    with pytest.raises(DatasetError, match="different environments: limit=7 and limit=9"):
        dataset.mix(first, first.replace(env_options={"limit": 9}))


def test_scores_hold_in_an_environment_of_the_same_options():
    data = made(random_score=-2.0, expert_score=1.0).replace(env_options={"limit": 7})
    for options in ({"limit": 7}, {"mass": 2.0}, {}):
        assert data.scores_in(SimpleNamespace(options=options)) == (-2.0, 1.0)
    assert data.scores_in(Env) == (-2.0, 1.0)  # it does not say what it was made with
    assert data.scores_in(SimpleNamespace(options={"limit": 9})) is None


def test_the_next_action_is_the_next_rows_where_the_data_have_one():
    """Row 1 is truncated, what was done next is not known; row 2 terminates, and nobody asks."""
    kept, following = dataset.next_actions(made().transitions)
    np.testing.assert_array_equal(kept.reward, [1.0, 3.0])
    np.testing.assert_array_equal(following[:, 0], [-1.0, 0.0])
    cut, _ = dataset.next_actions(made(terminated=flags(0, 0, 0)).transitions)
    np.testing.assert_array_equal(cut.reward, [1.0])  # the record breaks off after row 2


def test_the_checksum_sees_every_bit():
    assert made().checksum == made().checksum
    assert made() != made() and len({made(), made()}) == 2  # no arrays are compared
    assert made().checksum != made(**of("reward", 0, np.nextafter(np.float32(1), 2))).checksum


def test_normalised_scores():
    """100·(−675 + 1200)/(−150 + 1200) = 50."""
    score = normalized_score(jnp.array([-1200.0, -675.0, -150.0]), (-1200.0, -150.0))
    np.testing.assert_allclose(score, [0.0, 50.0, 100.0], rtol=1e-6)


def test_what_random_actions_do_is_recorded_whole():
    """Pendulum's episodes are cut after 5 steps; 22 steps of two environments are 11 each."""
    env = envs.make("gymnax/Pendulum-v1", max_steps_in_episode=5)
    data = dataset.record_random(env, jax.random.key(0), num_steps=21, num_envs=2)
    assert len(data) == 22
    data.check(env)
    np.testing.assert_array_equal(
        np.flatnonzero(data.transitions.truncated), [4, 9, 10, 15, 20, 21]
    )
    assert np.abs(data.transitions.action).max() <= 1.0 < 21 * data.transitions.action.std()


def test_random_actions_are_allowed_ones():
    """An action that its mask does not allow costs more than all others of an episode pay."""
    env = envs.make("probe/mask")
    data = dataset.record_random(env, jax.random.key(0), num_steps=64)
    steps = data.transitions
    assert np.take_along_axis(steps.obs["action_mask"], steps.action[:, None], axis=1).all()
    assert len(np.unique(steps.action)) > 1
    assert dataset.random_score(env, jax.random.key(1), 16) >= 0.0
