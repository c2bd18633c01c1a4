"""JAX_ENABLE_X64=1 changes nothing that a State carries, beside what environments keep for
themselves.
"""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys

import jax

from onejit import algos, envs

discrete, continuous = envs.make("gymnax/CartPole-v1"), envs.make("gymnax/Pendulum-v1")
normalized = {"normalize_obs": True}
cases = [
    (algos.ppo, discrete, normalized | {"normalize_reward": True}),
    (algos.mdpo, continuous, normalized | {"normalize_reward": True}),
    (algos.td3, continuous, normalized),
    (algos.fast_td3, continuous, {}),
    (algos.sac, discrete, normalized),
    (algos.fast_sac, continuous, {}),
    (algos.mdpo_off_policy, continuous, {}),
    (algos.avg, continuous, {}),
    (algos.staq, discrete, {}),
    (algos.tokens, envs.make("tokens/brackets"), {}),
]


def wide(tree):
    leaves = jax.tree.leaves_with_path(tree)
    return [jax.tree_util.keystr(path) for path, x in leaves if str(x.dtype) in ("float64",
        "int64", "uint64")]


assert wide(jax.eval_shape(lambda: jax.numpy.zeros(()))), "double precision is not on"
for module, env, changes in cases:
    if module.__name__.rpartition(".")[2] not in sys.argv[1:]:
        continue
    algorithm = module.make(env, module.Config(**changes))
    start = jax.eval_shape(algorithm.init, jax.random.key(0))
    state, metrics = jax.eval_shape(algorithm.step, start)
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, start), module
    for each in (start, state):
        if hasattr(each, "collection"):
            each = each._replace(collection=each.collection._replace(env_state=()))
        found = wide(each)
        assert not found, (module, found)
    assert not wide(metrics), (module, wide(metrics))

if "staq" not in sys.argv[1:]:
    sys.exit(print("the same"))
small = {"num_envs": 2, "batch_size": 4, "learning_starts": 4, "buffer_size": 64}
sizes = {"hidden_sizes": (4,), "memory": 2, "num_steps": 2}
algorithm = algos.staq.make(discrete, algos.staq.Config(**small, **sizes))
state, _ = jax.jit(algorithm.step)(jax.jit(algorithm.init)(jax.random.key(0)))
assert algos.describe_fault(state.learner.fault) is None
print("the same")
"""


@pytest.mark.parametrize(
    "names",
    [
        ["ppo", "td3"],
        pytest.param(
            ["sac", "staq", "mdpo", "fast_td3", "fast_sac", "mdpo_off_policy", "avg", "tokens"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_state_and_its_metrics_have_32_bits_also_where_jax_has_64(names):
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the same\n")
