"""A policy that leaves the house is the same policy: as a program of jax, and as lines of numpy."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.algos import ppo
from onejit.algos.core import averaging
from onejit.algos.host import export, numpy_source, policy_jax
from onejit.algos.host.numpy_policy import NumpyError
from onejit.algos.host.policy_program import make_program
from onejit.algos.host.script_flags import UsageError

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "export_parity.py"
FILES = {"policy.jaxexport", "policy.npz", "policy_jax.py", "policy_numpy.py"}
CONFIG = ppo.Config(
    num_envs=2,
    num_steps=4,
    num_minibatches=1,
    hidden_sizes=(8, 8),
    normalize_obs=True,
)


def load_module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parity = load_module(SCRIPT)


def test_what_is_not_a_number_is_as_far_off_as_can_be():
    box = envs.Box(-1.0, 1.0, (2,))
    action = np.zeros((3, 2), np.float32)
    assert export._difference(box, action, action) == 0.0
    broken = np.where(np.arange(6).reshape(3, 2) == 4, np.nan, action).astype(np.float32)
    assert export._difference(box, broken, action) == float("inf")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A policy with a normaliser, and its folder."""
    algorithm = ppo.make(envs.make("gymnax/Pendulum-v1"), CONFIG)
    state = parity.random_state(algorithm)
    folder = tmp_path_factory.mktemp("exports") / "policy"
    return algorithm, state, export.export_policy(algorithm, state, folder, {"algorithm": "ppo"})


def test_every_file_is_there_with_its_checksum(exported):
    done = exported[-1]
    manifest = json.loads((done.folder / "manifest.json").read_text())
    assert manifest == done.manifest and done.problems == []
    assert {path.name for path in done.folder.iterdir()} == FILES | {"manifest.json"}
    assert set(manifest["files"]) == FILES
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((done.folder / name).read_bytes()).hexdigest() == digest
    assert manifest["memory"] == {} and manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["action_space"]["low"] == [-2.0]
    assert not any((done.folder.parent / f".{done.folder.name}.incomplete").glob("*"))


def test_both_forms_act_as_the_policy_does(exported):
    algorithm, state, done = exported
    forms = [
        load_module(done.folder / "policy_jax.py").load(done.folder),
        export.load_numpy(done.folder),
    ]
    obs = 3.0 * np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    expected = jax.jit(algorithm.act, static_argnums=3)(state, obs, jax.random.key(0), True)
    assert np.std(expected) > 0.1
    for form in forms:
        action = form.act(obs)
        assert action.dtype == np.float32 and form.initial_memory(2) == {}
        np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(form.act(obs[:1]), expected[:1], rtol=1e-5, atol=1e-5)
    assert max(done.manifest["largest_difference"].values()) < 1e-5


def test_the_lines_of_numpy_need_numpy_alone(exported):
    code = (
        "import sys, numpy as np, policy_numpy as p\n"
        "action = p.act(np.ones((2, 3)))\n"
        "print(action.shape, action.dtype, 'jax' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    folder = exported[-1].folder
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert result.stdout == "(2, 1) float32 False\n"


@pytest.mark.slow
def test_the_program_needs_jax_alone(exported):
    code = (
        "import sys, numpy as np, policy_jax\n"
        "policy = policy_jax.load('.')\n"
        "others = {'onejit', 'flax', 'chex', 'optax', 'brax', 'absl'} & set(sys.modules)\n"
        "print(policy.act(np.ones((2, 3), np.float32)).shape, others)"
    )
    command = [sys.executable, "-c", code]
    folder = exported[-1].folder
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert result.stdout == "(2, 1) set()\n"


def test_a_folder_that_exists_and_a_damaged_artifact_are_refused(exported, tmp_path):
    algorithm, state, done = exported
    with pytest.raises(UsageError, match="exists, and what is exported gets a folder of its own"):
        export.export_policy(algorithm, state, done.folder)
    with pytest.raises(UsageError, match=r"file/policy: cannot be written \(Not a directory\)"):
        (tmp_path / "file").touch()
        export.export_policy(algorithm, state, tmp_path / "file" / "policy")
    with pytest.raises(ValueError, match=r"manifest.json: cannot be read \(No such file"):
        policy_jax.load(tmp_path)
    (tmp_path / "manifest.json").write_bytes((done.folder / "manifest.json").read_bytes())
    data = bytearray((done.folder / "policy.jaxexport").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "policy.jaxexport").write_bytes(data)
    with pytest.raises(ValueError, match="damaged, its checksum does not agree"):
        policy_jax.load(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="is no manifest of a policy"):
        policy_jax.load(tmp_path)


@pytest.mark.slow
def test_what_numpy_has_not_is_said_and_the_artifact_is_written(tmp_path):
    algorithm = parity.make("td3", "gymnax/Pendulum-v1", {"dtype": "bfloat16"})
    done = export.export_policy(algorithm, parity.random_state(algorithm), tmp_path / "policy")
    [problem] = done.problems
    assert "cannot be written in numpy: it computes in bfloat16" in problem
    assert set(done.manifest["files"]) == {"policy.jaxexport", "policy_jax.py"}
    assert done.manifest["memory"] == {}  # TD3's noise is not what it acts by


class Privileged:
    """Critics see where it is; policies see only a shadow of it."""

    observation_space = {
        "state": envs.Box(-1.0, 1.0, (2,)),
        "privileged_state": envs.Box(-1.0, 1.0, (5,)),
    }
    action_space = envs.Box(-1.0, 1.0, (1,))

    def reset(self, key):
        return jnp.int32(0), {"state": jnp.zeros(2), "privileged_state": jnp.zeros(5)}

    def step(self, key, state, action):
        obs = {"state": jnp.ones(2), "privileged_state": jnp.ones(5)}
        done = state == 3
        return state + 1, envs.Step(obs, action[0], done, jnp.bool_(False), {})


@pytest.mark.slow
def test_what_only_critics_see_is_not_asked_for(tmp_path):
    algorithm = ppo.make(Privileged(), CONFIG)
    done = export.export_policy(algorithm, parity.random_state(algorithm), tmp_path / "policy")
    assert list(done.manifest["observation_space"]["spaces"]) == ["state"]
    obs = {"state": np.ones((4, 2), np.float32)}
    actions = [
        form.act(obs) for form in (policy_jax.load(done.folder), export.load_numpy(done.folder))
    ]
    np.testing.assert_allclose(*actions, rtol=1e-5)


@pytest.mark.slow
def test_an_average_of_parameters_is_what_is_exported(exported):
    algorithm, state, _ = exported
    average = jax.tree.map(lambda x: x + 1.0, state.learner.params)
    averaged = averaging.averaged(algorithm, 0.9)
    state = state._replace(average=averaging.Average(average, jnp.float32(1.0)))
    acting = export.make_acting(averaged, state)
    _, arrays = numpy_source.write(
        acting.program, acting.obs, acting.initial, algorithm.env.action_space
    )
    [kernel] = [x for name, x in arrays.items() if name.startswith("policy.Dense_0.k")]
    np.testing.assert_array_equal(kernel, average["policy"]["params"]["Dense_0"]["kernel"])


def count_down(x, i):
    return x * 0.5 - i, x[:, 0]


FUNCTIONS = {
    "softmax": lambda w, x: jax.nn.softmax(x @ w, axis=-1),
    "activations": lambda w, x: (
        jax.nn.silu(x) + jax.nn.elu(x) + jax.nn.leaky_relu(x) - jax.nn.relu(x)
    ),
    "norm": lambda w, x: (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True)),
    "batched": lambda w, x: jnp.einsum("kij,nkj->nki", jnp.stack([w, -w]), jnp.stack([x, x], 1)),
    "best": lambda w, x: jnp.argmax(x @ w, axis=-1).astype(jnp.float32)[:, None] * x,
    "flags": lambda w, x: jnp.where((x > 0.1) & ~(x > 1.0) | (x < -1.0), -x, x**2),
    "numbers": lambda w, x: jnp.where(x > 0.0, 1.0, 0.1) / 3.0,
    "scan": lambda w, x: jnp.moveaxis(jax.lax.scan(count_down, x, jnp.arange(3.0))[1], 0, 1),
    "reversed": lambda w, x: jax.lax.scan(count_down, x, jnp.arange(3.0), reverse=True)[1].T,
    "cond": lambda w, x: jax.lax.cond(w[0, 0] > 9.0, jnp.sin, jnp.cos, x),
    "pieces": lambda w, x: jnp.concatenate(
        [x[:, 1:3], jax.lax.slice(x, (0, 0), x.shape, (1, 2)), *jnp.split(x, 3, axis=1)], axis=1
    ),
    "shapes": lambda w, x: (
        (x[:, None] * w[None]).reshape(x.shape[0], -1).T.sum(0)[:, None] - x[:, :1]
    ),
    "filled": lambda w, x: jnp.concatenate([jnp.full_like(x, 0.1), x], axis=-1),
    "powers": lambda w, x: 2.0 - (x - (x - 1.0)) - jnp.abs(x) ** 0.5 / (1.0 / (x * x + 1.0)),
}


def traced(function, weights=None):
    """The program of a function of weights and observations, and these by shape."""
    (n,) = jax.export.symbolic_shape("n")
    obs = jax.ShapeDtypeStruct((n, 3), jnp.float32)
    weights = jnp.eye(3) if weights is None else weights
    with jax.numpy_rank_promotion("allow"):
        return make_program(lambda w, x, memory: (function(w, x), memory), weights, obs, {}), obs


def test_functions_are_the_same_in_lines_of_numpy(tmp_path):
    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=(3, 3)), rng.normal(size=(7, 3))
    weights, x = jnp.asarray(weights, jnp.float32), np.asarray(x, np.float32)

    def together(weights, x):
        outputs = [function(weights, x) for function in FUNCTIONS.values()]
        return jnp.concatenate([out.reshape(x.shape[0], -1) for out in outputs], axis=-1)

    program, obs = traced(together, weights)
    source, arrays = numpy_source.write(program, obs, {}, envs.Discrete(2))
    (tmp_path / "policy_numpy.py").write_text(source)
    np.savez(tmp_path / "policy.npz", **arrays)
    out = export.load_numpy(tmp_path).act(x)
    assert out.dtype == np.float32
    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(together)(weights, x)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda w, x: jnp.cumsum(x, axis=1), "it computes 'cumsum'"),
        (lambda w, x: w[jnp.argmax(x, axis=1)], "one window is taken that is known"),
        (lambda w, x: jax.lax.div(x.astype(jnp.int32), 2), "whole numbers"),
        (lambda w, x: jax.lax.fori_loop(0, 99, lambda i, x: x + w[0], x), "it computes 'scan'"),
    ],
)
def test_a_function_that_numpy_has_no_line_for_is_refused(function, words):
    program, obs = traced(function)
    with pytest.raises(NumpyError, match=words):
        numpy_source.write(program, obs, {}, envs.Discrete(2))


@pytest.mark.slow
@pytest.mark.parametrize("case", list(parity.cases()), ids=lambda case: f"{case[0]}-{case[1]}")
def test_every_algorithms_policy_is_the_same_when_it_is_exported(case, tmp_path):
    line = parity.measure(*case, tmp_path / "policy")
    assert line["difference"].pop("policy.jaxexport") == 0.0
    has_no_numpy = case[0] == "expo" or case[2].get("dtype") == "bfloat16"
    assert ("policy_numpy.py" in line["difference"]) != has_no_numpy == bool(line["problems"])
    assert line["difference"].get("policy_numpy.py", 0.0) < 1e-4
    assert bool(line["remembers"]) == (case[2].get("memory") in ("gru", "lstm"))
