"""Noise once per observation, frames that keep it, and an adversary that cannot spend more than its
budget.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.envs import Adversary, Box, FrameStack, NoisyObservations, VectorEnv


class Counter:
    """Shows (t, −t) after t steps; an episode has five."""

    observation_space = Box(-5.0, 5.0, (2,))
    action_space = envs.Discrete(2)

    def reset(self, key):
        return jnp.int32(0), jnp.zeros(2)

    def step(self, key, state, action):
        state = state + 1
        obs = jnp.stack([state, -state]).astype(jnp.float32)
        return state, envs.Step(obs, jnp.float32(1.0), jnp.bool_(False), state >= 5, {})


def play(env, num_episodes=1, num_steps=5):
    """The observations of episodes, one after the other, `[num_episodes·(num_steps + 1), ...]`."""

    @jax.jit
    def run(key):
        key, reset_key = jax.random.split(key)
        state, first = jax.vmap(env.reset)(jax.random.split(reset_key, num_episodes))

        def step(carry, _):
            key, state = carry
            key, step_key = jax.random.split(key)
            action = jnp.zeros(num_episodes, jnp.int32)
            state, result = jax.vmap(env.step)(
                jax.random.split(step_key, num_episodes), state, action
            )
            return (key, state), result.obs

        later = jax.lax.scan(step, (key, state), length=num_steps)[1]
        return jnp.concatenate([first[None], later])

    return np.concatenate(np.swapaxes(run(jax.random.key(0)), 0, 1))


CLEAN = np.array([[t, -t] for t in range(6)], float)


def test_noise_is_gaussian_independent_and_of_the_given_size():
    noise = play(NoisyObservations(Counter(), 0.3), num_episodes=400) - np.tile(CLEAN, (400, 1))
    assert noise.mean() == pytest.approx(0.0, abs=4 * 0.3 / np.sqrt(noise.size))
    assert noise.std() == pytest.approx(0.3, rel=4 / np.sqrt(2 * noise.size))
    for lag in (1, 2):
        correlation = np.mean(noise[lag:] * noise[:-lag]) / 0.09
        assert abs(correlation) < 4 / np.sqrt(noise.size)


def test_frames_keep_their_draw_and_zeros_come_before_the_episode():
    seen = play(FrameStack(NoisyObservations(Counter(), 0.3), 3)).reshape(6, 3, 2)
    np.testing.assert_array_equal(seen[0, :2], 0.0)
    for t in range(1, 6):
        # The older frames, with the noise they had.
        np.testing.assert_array_equal(seen[t, :2], seen[t - 1, 1:])
    assert len(np.unique(np.round(seen[:, 2] - CLEAN, 6))) == 12


def test_pictures_are_stacked_by_channels():
    env = FrameStack(envs.make("gymnax/Breakout-MinAtar"), 2)
    height, width, channels = env.env.observation_space.shape
    assert env.observation_space.shape == (height, width, 2 * channels)
    state, obs = env.reset(jax.random.key(0))
    _, inner = env.env.reset(jax.random.key(0))
    np.testing.assert_array_equal(obs[..., :channels], 0.0)
    np.testing.assert_array_equal(obs[..., channels:], inner)


def test_flattened_observations_are_the_same_numbers():
    inner = envs.make("gymnax/Breakout-MinAtar")
    env = envs.Flattened(inner)
    assert env.observation_space.shape == (np.prod(inner.observation_space.shape),)
    _, obs = env.reset(jax.random.key(0))
    _, picture = inner.reset(jax.random.key(0))
    np.testing.assert_array_equal(obs, np.ravel(picture))
    envs.check(env)


def test_wrapped_environments_keep_the_contract():
    env = envs.make("gymnax/CartPole-v1")
    always = Adversary(lambda key, frames, obs, remaining: 0.1 * jnp.ones_like(obs), num_frames=2)
    envs.check(FrameStack(NoisyObservations(env, 0.2), 5))
    envs.check(FrameStack(NoisyObservations(env, 0.2, always, 1.0), 3))
    envs.check(FrameStack(env, 1))


@pytest.mark.parametrize("wish", [0.5, 1.0, 100.0])
def test_an_adversary_cannot_spend_more_than_its_budget(wish):
    """With a wish of 0.5 and a budget of 1.2 there are five steps of 0.5, and √(1.44 − 5·0.25) =
    0.4359 in the last.
    """

    def perturb(key, frames, obs, remaining):
        return wish * jnp.array([0.6, -0.8])

    delta = play(NoisyObservations(Counter(), 0.0, Adversary(perturb), 1.2)) - CLEAN
    norms = np.linalg.norm(delta, axis=1)
    expected = {
        0.5: [0.5] * 5 + [np.sqrt(1.44 - 1.25)],
        1.0: [1.0, np.sqrt(0.44), 0.0, 0.0, 0.0, 0.0],
        100.0: [1.2, 0.0, 0.0, 0.0, 0.0, 0.0],
    }
    np.testing.assert_allclose(norms, expected[wish], atol=1e-3)
    assert np.sum(norms**2) <= 1.44 + 1e-5


def test_an_adversary_is_told_what_is_left_and_what_was_seen():
    def perturb(key, frames, obs, remaining):
        # spends half of what is left, and tells through the second entry whether the frames are as
        # they should be
        earlier = jnp.where(
            obs[0] > 1.5,
            frames.clean[1, 0] - (obs[0] - 1.0) + frames.clean[0, 0] - (obs[0] - 2.0),
            0.0,
        )
        return jnp.stack([0.5 * remaining, earlier])

    spent = play(NoisyObservations(Counter(), 0.0, Adversary(perturb, 2), 1.0)) - CLEAN
    np.testing.assert_allclose(spent[:, 1], 0.0, atol=1e-6)
    # 1/2, then √(1 − 1/4)/2 = 0.4330, then each time a factor √(3/4) less
    np.testing.assert_allclose(spent[:, 0], 0.5 * 0.75 ** (np.arange(6) / 2), atol=1e-5)

    def copycat(key, frames, obs, remaining):
        return frames.seen[0] - obs  # moves the agent back to what it saw a step ago

    seen = play(NoisyObservations(Counter(), 0.3, Adversary(copycat, 1), 1e6))
    noise = np.diff(seen, axis=0)
    assert np.all(np.abs(noise) < 5 * 0.3)  # a walk of the noise alone, the counter does not show


def test_an_adversary_cannot_guess_the_noise():
    def perturb(key, frames, obs, remaining):
        return -0.3 * jax.random.normal(key, obs.shape)  # would cancel it

    seen = play(
        NoisyObservations(Counter(), 0.3, Adversary(perturb), 1e6), num_episodes=200
    ) - np.tile(CLEAN, (200, 1))
    assert seen.std() == pytest.approx(0.3 * np.sqrt(2.0), rel=4 / np.sqrt(2 * seen.size))


def test_the_inner_state_is_found_for_drawing(tmp_path):
    class Drawn(Counter):
        def qpos(self, state):
            return state

        def render_gif(self, states, path):
            path.write_text(str([int(state) for state in states]))

    env = FrameStack(NoisyObservations(Drawn(), 0.1), 2)
    state, _ = env.reset(jax.random.key(0))
    following, _ = env.step(jax.random.key(1), state, jnp.int32(0))
    assert env.qpos(following) == 1
    env.render_gif([state, following], tmp_path / "drawn")
    assert (tmp_path / "drawn").read_text() == "[0, 1]"


def test_each_episode_has_the_whole_budget():
    def perturb(key, frames, obs, remaining):
        return jnp.stack([remaining, 0.0])

    vector = VectorEnv(NoisyObservations(Counter(), 0.0, Adversary(perturb), 0.7), 3)
    state, obs = vector.reset(jax.random.key(0))
    step = jax.jit(vector.step)
    shown = [obs[:, 0]]
    for key in jax.random.split(jax.random.key(1), 11):
        state, result = step(key, state, jnp.zeros(3, jnp.int32))
        shown.append(result.obs[:, 0])
    np.testing.assert_allclose(
        np.array(shown)[:, 0], [0.7, 1, 2, 3, 4, 0.7, 1, 2, 3, 4, 0.7, 1], atol=1e-6
    )


class Dictionary(Counter):
    observation_space = {"state": Box(-1.0, 1.0, (2,))}


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda: NoisyObservations(Counter(), -0.1), "sigma=-0.1: must be finite and at least 0"),
        (lambda: NoisyObservations(Counter(), float("nan")), "sigma=nan: must be finite"),
        (
            lambda: NoisyObservations(Counter(), 0.1, budget=-1.0),
            "budget=-1.0: must be finite and at least 0",
        ),
        (lambda: NoisyObservations(Dictionary(), 0.1), "must be a single Box"),
        (lambda: FrameStack(Dictionary(), 2), "must be a single Box"),
        (lambda: FrameStack(Counter(), 0), "num_frames=0: must be at least 1"),
    ],
)
def test_bad_input_is_refused(wrap, message):
    with pytest.raises(ValueError, match=message):
        wrap()


def test_parts_of_a_vector_are_shown_alone():
    inner = envs.make("gymnax/CartPole-v1")
    env = envs.PartialObservations(inner, (2, 0))
    envs.check(env)
    space = inner.observation_space
    np.testing.assert_array_equal(env.observation_space.high, space.high[np.array([2, 0])])
    state, obs = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(obs, inner.reset(jax.random.key(0))[1][np.array([2, 0])])
    _, step = env.step(jax.random.key(1), state, jnp.int32(1))
    whole = inner.step(jax.random.key(1), state, jnp.int32(1))[1]
    np.testing.assert_array_equal(step.obs, whole.obs[np.array([2, 0])])
    assert step.reward == whole.reward


@pytest.mark.parametrize("entries", [(0, 4), (-1,), (), ((0, 1),)])
def test_parts_that_there_are_not_are_refused(entries):
    with pytest.raises(ValueError, match="must be places in an observation of the shape"):
        envs.PartialObservations(envs.make("gymnax/CartPole-v1"), entries)
