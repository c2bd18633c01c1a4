"""Linear systems of physics: solved right, and on a CPU without LAPACK, whose batches wait for each
other.
"""

import contextlib

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
import pytest
import scipy.linalg

from onejit import envs
from onejit.envs.mujoco.third_party import cholesky, cholesky_solve, own_devices, third_party


def test_a_factor_and_a_solution_by_hand():
    # [[4, 2], [2, 5]] = UᵀU with U = [[2, 1], [0, 2]]; x = [1, 2] gives [4 + 4, 2 + 10].
    factor = cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
    np.testing.assert_allclose(factor, [[2.0, 1.0], [0.0, 2.0]], rtol=1e-6)
    np.testing.assert_allclose(
        cholesky_solve(factor, jnp.array([8.0, 12.0])), [1.0, 2.0], rtol=1e-6
    )


def test_what_is_traced_inside_agrees_with_scipy_and_is_jaxs_own_outside():
    random = np.random.default_rng(0)
    root = random.normal(size=(3, 6, 6))
    matrices = np.float32(root @ root.transpose(0, 2, 1) + np.eye(6))
    right = np.float32(random.normal(size=(3, 6, 2)))

    def solve(matrix, right):
        factor = jax.scipy.linalg.cho_factor(matrix)
        columns = jax.scipy.linalg.cho_solve(factor, right)
        one = jax.scipy.linalg.solve(matrix, right[:, 0], assume_a="pos")
        return factor[0], columns, one

    def traced(context):
        with context:
            return jax.jit(jax.vmap(solve)).lower(matrices, right)

    ours = traced(third_party())
    for i, (factor, columns, one) in enumerate(zip(*ours.compile()(matrices, right), strict=True)):
        np.testing.assert_allclose(
            factor, np.triu(scipy.linalg.cho_factor(matrices[i])[0]), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            columns, np.linalg.solve(matrices[i], right[i]), rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(one, columns[:, 0], rtol=1e-5)
    if jax.default_backend() == "cpu":
        assert "lapack" not in ours.as_text()
        assert "lapack" in traced(contextlib.nullcontext()).as_text()


def test_what_physics_does_not_ask_for_is_jaxs_own():
    general, right, positive = (
        np.float32([[0, 2], [1, 1]]),
        np.float32([2, 3]),
        np.float32([[4, 2], [2, 5]]),
    )
    own = jax.scipy.linalg.cho_factor
    with third_party():
        assert jax.scipy.linalg.cho_factor is not own
        # 2 x_1 = 2 and x_0 + x_1 = 3
        np.testing.assert_allclose(jax.scipy.linalg.solve(general, right), [2.0, 1.0], rtol=1e-6)
        lower = jax.scipy.linalg.cho_factor(positive, lower=True)
        np.testing.assert_allclose(
            jax.scipy.linalg.cho_solve(lower, np.float32([8, 12])), [1.0, 2.0], rtol=1e-6
        )
    assert lower[1]
    assert jax.scipy.linalg.cho_factor is own


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere there is no LAPACK")
@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        pytest.param("mjx/InvertedPendulum-v5", {}, marks=pytest.mark.slow),
        ("brax/inverted_pendulum", {"backend": "generalized"}),
    ],
)
def test_a_step_calls_no_lapack(env_id, options):
    env = envs.make(env_id, **options)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    step = jax.jit(env.step).lower(jax.random.key(0), state, jnp.zeros(env.action_space.shape))
    assert "lapack" not in step.as_text()


def test_models_go_to_a_device_of_this_process(monkeypatch):
    everywhere = jax.devices
    monkeypatch.setattr(jax, "local_devices", lambda backend=None: ["mine", backend])
    with own_devices():
        assert jax.devices("cpu") == ["mine", "cpu"]
    assert jax.devices is everywhere
