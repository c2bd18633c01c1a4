"""Settings of the whole suite: implicit broadcasting between ranks and reuse of a random key are
errors.

Fixtures are functions that several folders' tests call.
"""

import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.algos.host import checkpoint

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
# Scripts that tests run keep nothing in the user's folder of caches.
os.environ.setdefault("ONEJIT_COMPILATION_CACHE", "off")
# A job in the background of a shell ignores these, and so would what the tests start, and stop with
# a signal.
for _number, _default in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)


def _assert_bitwise_equal(a, b):
    def data(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    jax.tree.map(lambda x, y: np.testing.assert_array_equal(data(x), data(y)), a, b)


@pytest.fixture(scope="session")
def jit_to_learn():
    """`jax.jit` for programs that run for long: compiled better than `make test` has it, so that
    they run faster by more than that takes.
    """
    return functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 2})


@pytest.fixture(scope="session")
def assert_bitwise_equal():
    """(a, b): two pytrees of arrays, keys too, are the same bit for bit."""
    return _assert_bitwise_equal


@pytest.fixture
def assert_resume_is_exact(tmp_path):
    """(algorithm, init, step, iterations): so many, saved and restored, and two more equal never
    having stopped.
    """

    def check(algorithm, init, step, iterations):
        states = [init(jax.random.key(3))]
        for _ in range(iterations + 2):
            states.append(step(states[-1])[0])
        saved = {"iteration": iterations, "eval_return": 0.0}
        path = checkpoint.save(tmp_path, iterations, states[iterations], saved)
        state = checkpoint.restore(path, jax.eval_shape(algorithm.init, jax.random.key(0)))
        _assert_bitwise_equal(state, states[iterations])
        for _ in range(2):
            state, _ = step(state)
        _assert_bitwise_equal(state, states[-1])

    return check
