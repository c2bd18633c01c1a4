"""What is changed in MJX stays needed, and does what it says; contacts are in test_mjx.py, on
MuJoCo's own.
"""

import contextlib

import jax
import jax.numpy as jnp
import mujoco
import pytest

from onejit.envs.mujoco.environment import mjx
from onejit.envs.mujoco.fixes import bodies_once


def operations(links, context):
    """Floating-point operations of a chain's kinematics, as XLA compiled them for a CPU."""
    body = ""
    for _ in range(links):
        body = f'<body><joint/><geom size="0.1" contype="0" conaffinity="0"/>{body}</body>'
    model = mjx.put_model(
        mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    )
    data = mjx.make_data(model)
    with jax.numpy_rank_promotion("allow"), context:
        kinematics = jax.jit(lambda qpos: mjx.kinematics(model, data.replace(qpos=qpos)).xpos)
        compiled = kinematics.lower(jnp.zeros(links)).compile()
    return compiled.cost_analysis()["flops"]


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="it is XLA's compiler for CPUs that repeats them"
)
@pytest.mark.slow
def test_a_link_more_costs_the_same_in_a_long_chain_as_in_a_short_one():
    two, four, six = (operations(links, bodies_once()) for links in (2, 4, 6))
    assert six - four == four - two
    assert operations(6, contextlib.nullcontext()) > 1.5 * six
