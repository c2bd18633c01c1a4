"""Spaces: what they contain, what they draw, how policies reach their bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onejit.envs import Box, Discrete

FLOAT32_MAX = np.finfo(np.float32).max


def test_box_takes_the_shape_of_its_bounds():
    box = Box([-1.0, 0.0], 3.0)
    assert box.shape == (2,)
    assert box.dtype == np.float32
    np.testing.assert_array_equal(box.low, [-1.0, 0.0])
    np.testing.assert_array_equal(box.high, [3.0, 3.0])
    assert Box(-1.0, 1.0, (2, 3)).low.shape == (2, 3)
    assert Box(-1.0, 1.0).shape == ()


@pytest.mark.parametrize(
    ("given", "dtype", "expected"),
    [
        (None, np.float32, True),
        (None, np.uint8, True),
        (None, np.bool_, False),
        (False, np.float32, False),
    ]
    + [(True, np.bool_, True), (np.bool_(False), np.int32, False)],
)
def test_box_says_whether_it_may_be_normalised(given, dtype, expected):
    box = Box(0, 1, (2,), dtype, normalize=given)
    assert box.normalize is expected


@pytest.mark.parametrize("wrong", ["no", 2, [True]])
def test_box_refuses_other_answers(wrong):
    with pytest.raises(ValueError, match="must be True, False or None"):
        Box(0, 1, (2,), normalize=wrong)


@pytest.mark.parametrize(
    ("x", "inside"),
    [
        ([0.0, 5.0], True),
        ([-1.0, 0.0], True),
        ([1.0, 10.0], True),
        ([1.0 + 1e-6, 10.0], True),  # float32 rounding
        ([1.001, 5.0], False),
        ([0.0, -0.001], False),
        ([0.0, np.nan], False),
        ([0.0, np.inf], False),
        ([0.0], False),
        ([[0.0, 5.0]], False),
    ],
)
def test_box_contains(x, inside):
    assert Box([-1.0, 0.0], [1.0, 10.0]).contains(np.asarray(x, np.float32)) is inside


@pytest.mark.parametrize("huge", [FLOAT32_MAX, 1e30, np.inf])
def test_huge_bounds_stand_for_none(huge):
    box = Box([-huge, -2.0], [huge, 2.0])
    np.testing.assert_array_equal(box.low, [-np.inf, -2.0])
    np.testing.assert_array_equal(box.high, [np.inf, 2.0])
    assert not box.bounded
    assert box.contains(np.float32([1e35, 0.0]))


def test_bounded_needs_every_bound():
    assert Box([-1.0, 0.0], [1.0, 1e6]).bounded
    assert not Box([-1.0, 0.0], [1.0, np.inf]).bounded
    assert not Box([-np.inf, 0.0], [1.0, 1.0]).bounded


@pytest.mark.parametrize(
    ("low", "high", "shape"),
    [
        (1.0, -1.0, None),
        ([0.0, 2.0], [1.0, 1.0], None),
        (np.nan, 1.0, None),
        ([0.0, 0.0], 1.0, (3,)),
    ],
    ids=["reversed", "one reversed", "nan", "other shape"],
)
def test_box_refuses_bad_bounds(low, high, shape):
    with pytest.raises(ValueError, match=r"low must not be above high|does not fit the shape"):
        Box(low, high, shape)


def test_box_does_not_share_its_bounds_with_the_caller():
    low = np.zeros(2, np.float32)
    box = Box(low, 1.0)
    low[0] = -5.0
    np.testing.assert_array_equal(box.low, [0.0, 0.0])
    with pytest.raises(ValueError, match="read-only"):
        box.high[0] = 5.0


def test_from_unit_maps_to_low_mid_high():
    box = Box([-2.0, 0.0, 5.0], [2.0, 10.0, 5.0])
    for unit, expected in (
        (-1.0, [-2.0, 0.0, 5.0]),
        (0.0, [0.0, 5.0, 5.0]),
        (1.0, [2.0, 10.0, 5.0]),
    ):
        np.testing.assert_array_equal(box.from_unit(jnp.full(3, unit)), expected)
    np.testing.assert_array_equal(box.from_unit(jnp.array([0.5, -0.5, 0.3])), [1.0, 2.5, 5.0])


def test_from_unit_takes_leading_axes():
    box = Box([-2.0, 0.0], [2.0, 10.0])
    batch = box.from_unit(jnp.array([[[-1.0, 1.0]], [[0.0, 0.5]]]))
    np.testing.assert_array_equal(batch, [[[-2.0, 10.0]], [[0.0, 7.5]]])


@settings(max_examples=50, deadline=None)
@given(
    low=st.floats(-1e6, 1e6, width=32),
    size=st.floats(0, 1e6, width=32),
    unit=st.floats(-1, 1, width=32),
)
def test_from_unit_stays_inside(low, size, unit):
    box = Box([low], [low + size])
    assert box.contains(box.from_unit(jnp.array([unit])))


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-1.0, 1.0),
        ([-3.0, 100.0], [-2.0, 101.0]),
        ([-np.inf, 5.0], [np.inf, np.inf]),
        (-np.inf, [-7.0, 3.0]),
    ],
    ids=["box", "two boxes", "half open", "only high"],
)
def test_box_samples_are_inside(low, high):
    box = Box(low, high, (2,))
    samples = jax.vmap(box.sample)(jax.random.split(jax.random.key(0), 200))
    assert samples.dtype == np.float32
    assert all(box.contains(sample) for sample in samples)


def test_box_samples_are_spread():
    box = Box([-1.0, -np.inf], [3.0, np.inf])
    samples = jax.vmap(box.sample)(jax.random.split(jax.random.key(0), 4000))
    # Uniform on [-1, 3]: mean 1, deviation 4/sqrt(12) = 1.155; standard normal: mean 0, deviation
    # 1.
    np.testing.assert_allclose(samples.mean(0), [1.0, 0.0], atol=0.06)
    np.testing.assert_allclose(samples.std(0), [1.155, 1.0], atol=0.06)


@pytest.mark.parametrize(
    ("x", "inside"),
    [(0, True), (2, True), (np.int64(1), True), (3, False), (-1, False)]
    + [(1.0, False), (True, False), ([1], False)],
)
def test_discrete_contains(x, inside):
    assert bool(Discrete(3).contains(x)) is inside


def test_discrete_samples_every_choice():
    space = Discrete(3)
    samples = jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 100))
    assert set(samples.tolist()) == {0, 1, 2}
    assert (samples.dtype, space.shape) == (space.dtype, ()) == (np.int32, ())


@pytest.mark.parametrize("n", [0, -1])
def test_discrete_refuses_no_choice(n):
    with pytest.raises(ValueError, match=f"n must be at least 1, got {n}"):
        Discrete(n)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Discrete(2.5), "n must be an integer, got 2.5"),
        (lambda: Discrete(True), "n must be an integer, got True"),
        (
            lambda: Box(np.zeros(3), np.ones(3), (2,)),
            r"low of the shape \(3,\) does not fit the shape \(2,\)",
        ),
    ],
)
def test_spaces_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
