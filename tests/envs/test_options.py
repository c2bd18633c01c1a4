"""Options of environments: each suite refuses what is not of the kind of its default, before
anything is made.
"""

import enum
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.envs.options import checked, require_count

NAN = float("nan")


class Colour(enum.Enum):
    RED = "red"


DEFAULTS = {
    "flag": True,
    "count": 5,
    "signed": -1,
    "weight": 0.5,
    "limit": math.inf,
    "range": (-1.0, 1.0),
    "sizes": [1, 2],
    "table": jnp.array([-1.0, 0.0, 1.0]),
    "names": ["walk"],
    "mode": "fast",
    "colour": Colour.RED,
    "anything": None,
}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("flag", np.bool_(False), False),
        ("count", np.int64(0), 0),
        ("count", 2**31 - 1, 2**31 - 1),
        ("signed", -7, -7),
        ("weight", 2, 2.0),
        ("weight", -3.5, -3.5),
        ("weight", np.float32(0.25), 0.25),
        ("weight", jnp.float32(0.25), 0.25),
        ("limit", -math.inf, -math.inf),
        ("range", [0, math.inf], (0.0, math.inf)),
        ("range", np.array([2.0, 2.0]), (2.0, 2.0)),
        ("sizes", (7, 3), [7, 3]),
        ("names", ("trot", "pace"), ["trot", "pace"]),
        ("mode", "slow", "slow"),
        ("colour", "red", "red"),
        ("colour", Colour.RED, Colour.RED),
        ("anything", [1], [1]),
    ],
)
def test_values_get_the_type_of_the_default(name, value, expected):
    converted = checked("lab/maze", {name: value}, DEFAULTS)[name]
    assert converted == expected
    assert type(converted) is type(expected)


def test_arrays_stay_arrays_and_tracers_pass():
    table = checked("lab/maze", {"table": [2, 3, 4]}, DEFAULTS)["table"]
    assert isinstance(table, jax.Array)
    np.testing.assert_array_equal(table, [2.0, 3.0, 4.0])
    assert jax.jit(lambda x: checked("lab/maze", {"weight": x}, DEFAULTS)["weight"] * 2)(1.5) == 3.0


WRONG = {
    "flag": ("True or False", ["yes", None, 0, 1, 1.0, [], {}]),
    "count": (
        "",
        ["x", "", None, NAN, math.inf, -5, 1.5, 2.0, [], [1], {}, True, 2**31, np.float32(2)],
    ),
    "weight": (
        "a finite number",
        ["x", "", None, NAN, math.inf, -math.inf, [], [1.0], {}, True, 1e300, 10**400],
    ),
    "limit": ("a number", ["x", None, NAN, [], {}, False, 1e300]),
    "range": (
        "2 numbers, the lower first",
        [1, "ab", None, NAN, [], [1], (1, 2, 3), (2, 1), (NAN, 1), [True, 2], {1, 2}],
    ),
    "sizes": ("2 numbers", [3, [1, 2, 3], [1.5, 2], ["a", "b"], [[1, 2], [3]], {}]),
    "table": ("3 numbers", [1.0, [1.0], [1, 2, NAN], ["a", "b", "c"], "abc"]),
    "names": ("strings", ["walk", [], [1], None]),
    "mode": ("a string", [None, 1, [], {}]),
    "colour": ("one of red", ["blue", None, 1, []]),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, (_, values) in WRONG.items() for value in values]
)
def test_other_kinds_are_refused_in_a_sentence(name, value):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        checked("lab/maze", {name: value}, DEFAULTS)
    assert str(caught.value).startswith(f"lab/maze: {name}={value!r}: must be {WRONG[name][0]}")


def test_bounds_and_choices():
    for name, value, words in (
        ("count", 0, "at least 1"),
        ("weight", -0.1, "at least 0"),
        ("mode", "x", "one of a, b"),
    ):
        with pytest.raises(ValueError, match=f"lab/maze: {name}={value!r}: must be {words}"):
            checked(
                "lab/maze",
                {name: value},
                DEFAULTS,
                low={"count": 1, "weight": 0.0},
                choices={"mode": ("a", "b")},
            )


@pytest.mark.parametrize("value", [0, -5, 1.0, "3", None, True, [2], NAN])
def test_counts(value):
    with pytest.raises(ValueError, match="num_frames=.*: must be (an integer|at least 1)"):
        require_count("num_frames", value)
    with pytest.raises(ValueError, match="num_envs=.*: must be (an integer|at least 1)"):
        envs.VectorEnv(envs.make("probe/value"), value)


HOSTILE = ["x", "", NAN, -5, [], {}, [1.0, 2.0]]
OPTIONS = {
    "gymnax/CartPole-v1": {
        "max_steps_in_episode": [*HOSTILE, None, 0, True, 1.5],
        "gravity": ["x", NAN, [], {}, [1.0], None, True],
    },
    "gymnax/BernoulliBandit-misc": {
        "max_steps_in_episode": [*HOSTILE, 0],
        "normalize_time": [*HOSTILE, 1, None],
    },
    "gymnax/Acrobot-v1": {"available_torque": [*HOSTILE, 1.0, None]},
    "brax/hopper": {
        "backend": [*HOSTILE, None, 0, True],
        "episode_length": [*HOSTILE, None, 0, True, 1.5, 10**12],
        "solver_iterations": [*HOSTILE, 0, True],
        "ls_iterations": [*HOSTILE, 0, True],
        "n_frames": [*HOSTILE, None, 0],
        "reset_noise_scale": [*HOSTILE, None, True],
        "healthy_z_range": ["x", None, 0.5, [1], (2.0, 1.0)],
        "terminate_when_unhealthy": [*HOSTILE, None, 1],
    },
    "brax/fast": {"obs_mode": [*HOSTILE, None], "asymmetric_obs": [*HOSTILE, None]},
    "mjx/Hopper-v5": {
        "solver": [*HOSTILE, None],
        "impl": [*HOSTILE, None],
        "episode_length": [*HOSTILE, 0, True, 1.5],
        "ctrl_cost_weight": ["x", "", NAN, [], {}, None, True],
        "reset_noise_scale": [*HOSTILE, None],
        "healthy_angle_range": ["x", None, 0.2, (0.2,), (0.2, -0.2), (NAN, 1.0)],
    },
    "playground/CartpoleBalance": {
        "impl": [*HOSTILE, None],
        "episode_length": [*HOSTILE, 0, True, 1.5],
        "randomize": ["x", "", NAN, -5, [], {}, None, 1],
        "ctrl_dt": [*HOSTILE, None, 0, True],
        "action_repeat": [*HOSTILE, None, 0],
    },
    "playground/Go1JoystickFlatTerrain": {
        "reward_config.scales.torques": ["x", None, NAN, [], {}, True]
    },
    "probe/value": {"continuous": [*HOSTILE, None, 0, 1]},
}


@pytest.mark.parametrize("env_id", OPTIONS)
def test_each_suite_refuses_each_option_by_name_before_anything_is_made(env_id, monkeypatch):
    envs.env_ids(env_id.partition("/")[0])  # imports the suite
    monkeypatch.setattr(jax, "eval_shape", lambda *_: pytest.fail("something was made"))
    for name, values in OPTIONS[env_id].items():
        for value in values:
            with pytest.raises(ValueError) as caught:  # noqa: PT011
                envs.make(env_id, **{name: value})
            assert str(caught.value).startswith(f"{env_id}: {name}={value!r}: must be "), (
                caught.value
            )


@pytest.mark.parametrize(
    ("env_id", "options", "words"),
    [
        ("gymnax/Pendulum-v1", {"m": 0}, "gymnax/Pendulum-v1: m=0.0: must fit .*ZeroDivisionError"),
        (
            "gymnax/Pendulum-v1",
            {"max_speed": -5},
            "max_speed=-5.0: must fit .*low must not be above high",
        ),
        (
            "playground/PendulumSwingup",
            {"ctrl_dt": 0.001},
            "Swingup: ctrl_dt=0.001: must be at least sim_dt = 0.01",
        ),
    ],
)
def test_values_that_no_environment_can_be_made_of_are_named(env_id, options, words):
    with pytest.raises(ValueError, match=words):
        envs.make(env_id, **options)


def test_options_of_a_registered_environment_are_those_of_its_factory():
    envs.register("lab/options", lambda size=1: envs.make("probe/value"))
    with pytest.raises(ValueError, match="lab/options: got an unexpected keyword argument 'width'"):
        envs.make("lab/options", width=2)
