"""scripts/evidence/communication.py: arithmetic by hand, bytes as compiled programs have them."""

import importlib.util
import json
from pathlib import Path

import pytest

from onejit import envs
from onejit.algos import fast_td3, ppo

ROOT = Path(__file__).parents[3]
spec = importlib.util.spec_from_file_location(
    "communication", ROOT / "scripts" / "evidence" / "communication.py"
)
communication = importlib.util.module_from_spec(spec)
spec.loader.exec_module(communication)


def test_bytes_are_those_that_a_compiled_step_exchanges():
    def counted(name):
        path = ROOT / "results" / "devices" / f"exchange_{name}.json"
        return json.loads(path.read_text())["bytes"]["all-reduce"]

    config = ppo.Config()
    update = communication.of_ppo(envs.make("gymnax/CartPole-v1"), config)
    steps = config.num_minibatches * config.update_epochs
    # What is left are metrics and the fault.
    assert steps * update.bytes <= counted("ppo") < 1.002 * steps * update.bytes
    config = fast_td3.Config()
    update = communication.of_fast_td3(envs.make("gymnax/Pendulum-v1"), config)
    bytes_ = config.num_updates * update.bytes
    assert bytes_ <= counted("fast_td3") < 1.002 * bytes_


def test_arithmetic_and_time_by_hand():
    config = ppo.Config(num_envs=4, num_steps=4, num_minibatches=2, hidden_sizes=(8,))
    update = communication.of_ppo(envs.make("gymnax/CartPole-v1"), config)
    # Actor 4·8 + 8·2 = 48 weights, critic 4·8 + 8 = 40; minibatches of 8 rows, four passes:
    # 6·88·8 + 2·(48 + 80)·8/4 = 4224 + 512. With biases 58 + 49 = 107 numbers of 4 bytes.
    assert (update.rows, update.flops, update.bytes) == (8, 4736.0, 428.0)
    # On 8 devices 2·7/8·428 B at 450 GB/s, and two collectives of 2·3 words of 2 µs.
    assert communication.seconds(update, "NVLink", 8) == pytest.approx(749 / 450e9 + 24e-6)
    # Arithmetic takes 4736/20e12 s = 0.237 ns of a device that does all of it.
    t = 749 / 450e9 + 24e-6
    assert communication.part(update, "NVLink", 8, grows=True) == pytest.approx(
        t / (t + 2.368e-10), rel=1e-9
    )
    apart = communication.part(update, "NVLink", 8, grows=False)
    assert apart == pytest.approx(t / (t + 2.368e-10 / 8), rel=1e-9)


def test_the_page_has_the_table():
    page = (ROOT / "docs" / "devices.md").read_text()
    rows = json.loads((ROOT / "results" / "communication.json").read_text())["rows"]
    table = communication.table()
    assert rows == json.loads(json.dumps(table))
    assert "\n".join(communication.lines(table)) in page
