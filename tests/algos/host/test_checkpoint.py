"""Checkpoints: bitwise, in another process too, and never a silent wrong restore."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.algos import ppo
from onejit.algos.host import checkpoint
from onejit.algos.host.checkpoint import CheckpointError

TREE = {
    "params": jnp.linspace(0.0, 1.0, 300).reshape(3, 100),
    "half": jnp.ones(4, jnp.bfloat16),
    "count": jnp.int32(7),
    "flag": jnp.array([True, False]),
    "key": jax.random.key(3),
    "keys": jax.random.split(jax.random.key(4), 3),
    "nothing": (),
    "empty": jnp.zeros((3, 0)),
}


def as_numbers(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def like(tree):
    return jax.eval_shape(lambda: jax.tree.map(lambda x: x, tree))


def test_round_trip_is_bitwise(tmp_path):
    path = checkpoint.save(tmp_path, 12, TREE, {"iteration": 12})
    restored = checkpoint.restore(path, like(TREE))
    assert jax.tree.structure(restored) == jax.tree.structure(TREE)
    for a, b in zip(as_numbers(restored), as_numbers(TREE), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert checkpoint.read_metadata(path) == {"iteration": 12}


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, empty, delete])
def test_damage_to_any_file_is_named(tmp_path, damage):
    path = checkpoint.save(tmp_path, 1, TREE, {})
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) >= 8
    for file in files:
        original = file.read_bytes()
        if damage is not delete and not original:
            continue  # an empty file can neither be cut nor flipped
        damage(file)
        with pytest.raises(CheckpointError) as caught:
            checkpoint.restore(path, like(TREE))
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
        file.write_bytes(original)
    checkpoint.restore(path, like(TREE))


def test_an_added_file_is_refused(tmp_path):
    path = checkpoint.save(tmp_path, 1, TREE, {})
    (path / "arrays" / "d" / "stranger").write_text("x")
    with pytest.raises(CheckpointError, match="stranger: does not belong"):
        checkpoint.restore(path, like(TREE))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"params": jnp.zeros((3, 100), jnp.float16)},
            r"the array params is float32\[3, 100\], expected float16",
        ),
        (
            {"params": jnp.zeros((100, 3))},
            r"the array params is float32\[3, 100\], expected float32\[100, 3\]",
        ),
        ({"more": jnp.zeros(1)}, "the array more is in this program's State only"),
        ({"nothing": jnp.zeros(1)}, "the array nothing is in this program's State only"),
        ({"key": jax.random.key(0, impl="rbg")}, "the array key is key<fry>"),
    ],
)
def test_another_shape_dtype_or_structure_is_refused(tmp_path, change, message):
    path = checkpoint.save(tmp_path, 1, TREE, {})
    with pytest.raises(CheckpointError, match=message):
        checkpoint.restore(path, like({**TREE, **change}))


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="manifest.json: not found"):
        checkpoint.restore(tmp_path / "000000009", like(TREE))


def test_clean_removes_what_a_killed_save_left(tmp_path):
    checkpoint.save(tmp_path, 3, TREE, {})
    left = tmp_path / ".incomplete-000000004-99"
    left.mkdir()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["000000003"]
    checkpoint.clean(tmp_path)
    assert not left.exists()


CONTINUE = """
import sys
from pathlib import Path
import jax
from onejit import envs
from onejit.algos import ppo
from onejit.algos.host import checkpoint
exec(sys.argv[2])
state = checkpoint.restore(Path(sys.argv[1], "000000003"), jax.eval_shape(algorithm.init,
    jax.random.key(0)))
step = jax.jit(algorithm.step)
for _ in range(3):
    state, _ = step(state)
checkpoint.save(Path(sys.argv[1]), 6, state, {})
"""
MAKE = """
config = ppo.Config(num_envs=4, num_steps=8, num_minibatches=2, hidden_sizes=(8,),
    normalize_obs=True,
                    normalize_reward=True, reset="bank", total_steps=8 * 32)
algorithm = ppo.make(envs.make("gymnax/Pendulum-v1"), config)
"""


def test_resuming_in_another_process_equals_never_stopping(tmp_path):
    scope = {"ppo": ppo, "envs": envs}
    exec(MAKE, scope)
    algorithm = scope["algorithm"]
    step = jax.jit(algorithm.step)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    for iteration in range(1, 7):
        state, _ = step(state)
        if iteration == 3:
            checkpoint.save(tmp_path, 3, state, {})
    subprocess.run([sys.executable, "-c", CONTINUE, tmp_path, MAKE], check=True)
    resumed = checkpoint.restore(
        tmp_path / "000000006", jax.eval_shape(algorithm.init, jax.random.key(0))
    )
    for a, b in zip(as_numbers(resumed), as_numbers(state), strict=True):
        np.testing.assert_array_equal(a, b)
