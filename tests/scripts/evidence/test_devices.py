"""scripts/evidence/devices.py and collectives.py: bytes that are exchanged, by hand."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

SCRIPTS = Path(__file__).parents[3] / "scripts" / "evidence"


def script(name, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))  # they import each other
    spec = importlib.util.spec_from_file_location(f"evidence_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bytes_in_loops_count_as_often_as_they_run(monkeypatch):
    devices = script("devices", monkeypatch)
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec()

    def run(x):
        def step(x, _):
            return jax.lax.psum(x, "d"), None

        return jax.lax.all_gather(jax.lax.scan(step, x, length=3)[0], "d")

    run = jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    # Five floats are 20 bytes; reduced three times, gathered once.
    found = devices.exchanged(jax.make_jaxpr(run)(jnp.zeros(5)).jaxpr)
    assert found == {"all-reduce": 60, "all-gather": 20}
    # Means 2 and 3 of two seeds each, variances 2: the standard error of the difference is √2.
    found = devices.compared(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    assert (found["one"], found["several"]) == (2.0, 3.0)
    # t = 1/√2 with 2 degrees of freedom: p = 1 − t/√(2 + t²) = 1 − 1/√5.
    assert np.isclose(found["welch"], 1.0 - 1.0 / np.sqrt(5.0))


def test_instructions_are_read_off_a_program(monkeypatch):
    collectives = script("collectives", monkeypatch).collectives
    text = """
  %a = (f32[8]{0}, /*index=1*/pred[4]{0}) all-reduce(%x, %y), replica_groups={{0,1},{2,3}}
  %b = bf16[2,3]{1,0} all-gather-start(%x), replica_groups=[1,4]<=[4], dimensions={0}
  %c = f32[] add(%x, %y)
"""
    a, b = collectives(SimpleNamespace(as_text=lambda: text))
    # Eight floats and four booleans; six numbers of 16 bits.
    assert a == ("all-reduce", (32, 4), "{{0,1},{2,3}}")
    assert b == ("all-gather", (12,), "[1,4]<=[4]")
