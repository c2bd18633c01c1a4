"""`make`, `register` and `env_ids`: names, options, packages that are not there."""

import subprocess
import sys

import pytest

from onejit import envs
from onejit.envs import probes, registry


@pytest.fixture(autouse=True)
def _own_names(monkeypatch):
    """Forgets what a test registers."""
    monkeypatch.setattr(registry, "_REGISTERED", {})


def without(monkeypatch, package):
    """Makes a package look as if it was not installed."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"onejit.envs.suites.{package}", raising=False)


@pytest.mark.parametrize("env_id", ["probe/value", "gymnax/CartPole-v1", "brax/fast"])
def test_make_gives_an_environment(env_id):
    env = envs.make(env_id)
    assert isinstance(env, envs.Environment)
    assert env_id in envs.env_ids()


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("gymnax/CartPole", "did you mean gymnax/CartPole-v1"),
        ("gymnax/mnistbandit-bsuite", "did you mean gymnax/MNISTBandit-bsuite"),
        ("brax/half_cheetah", "did you mean brax/halfcheetah"),
        ("gimnax/CartPole-v1", "did you mean gymnax/CartPole-v1"),
        ("Pendulum-v1", "did you mean gymnax/Pendulum-v1"),
        ("probe/zzzzzzzzzzzz", "known: probe/value, probe/action"),
        ("", "known: brax/ant"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(wrong, nearest):
    with pytest.raises(ValueError, match=f"unknown environment '{wrong}'; {nearest}"):
        envs.make(wrong)


@pytest.mark.parametrize(
    "env_id", ["probe/value", "gymnax/CartPole-v1", "gymnax/Pendulum-v1", "brax/hopper"]
)
@pytest.mark.parametrize("option", ["no_such_option", "replace"])
def test_unknown_options_are_refused_by_name(env_id, option):
    with pytest.raises(ValueError, match=rf"{env_id}.*{option}"):
        envs.make(env_id, **{option: 1})


def test_register_then_make():
    made = []

    def factory(scale=1.0):
        made.append(scale)
        return probes.make("value")

    envs.register("lab/maze", factory)
    assert isinstance(envs.make("lab/maze", scale=2.0), probes.Probe)
    assert made == [2.0]
    assert envs.env_ids("lab") == ["lab/maze"]
    assert "lab/maze" in envs.env_ids()
    with pytest.raises(ValueError, match="did you mean lab/maze"):
        envs.make("lab/mase")


@pytest.mark.parametrize("suite", ["brax", "gymnax", "probe"])
def test_register_refuses_the_built_in_suites(suite):
    with pytest.raises(ValueError, match=f"the suite '{suite}' is built in"):
        envs.register(f"{suite}/mine", probes.Probe)


@pytest.mark.parametrize("env_id", ["maze", "/maze", "lab/", ""])
def test_register_refuses_names_without_suite(env_id):
    with pytest.raises(ValueError, match='must be "suite/name"'):
        envs.register(env_id, probes.Probe)


def test_env_ids_of_one_suite():
    assert envs.env_ids("probe") == [f"probe/{name}" for name in probes.names()]
    assert all(env_id.startswith("brax/") for env_id in envs.env_ids("brax"))
    assert envs.env_ids("no_such_suite") == []


@pytest.mark.parametrize(
    ("package", "env_id"), [("gymnax", "gymnax/CartPole-v1"), ("brax", "brax/ant")]
)
def test_a_missing_package_is_named(monkeypatch, package, env_id):
    without(monkeypatch, package)
    with pytest.raises(
        ModuleNotFoundError, match=f"'{package}'.*pip install '{package}'"
    ) as caught:
        envs.make(env_id)
    assert caught.value.name == package


def test_a_missing_package_of_an_extra_is_named_with_the_extra(monkeypatch):
    without(monkeypatch, "gymnax")
    monkeypatch.setitem(registry._SUITES, "gymnax", (".suites.gymnax", "toys"))
    with pytest.raises(ModuleNotFoundError, match=r"'gymnax'.*pip install 'onejit\[toys\]'"):
        envs.make("gymnax/CartPole-v1")


def test_the_other_suites_work_without_a_package(monkeypatch):
    without(monkeypatch, "gymnax")
    assert envs.env_ids("gymnax") == []
    assert {env_id.split("/")[0] for env_id in envs.env_ids()} == {
        "brax",
        "inventory",
        "mjx",
        "playground",
        "probe",
        "tokens",
    }
    assert isinstance(envs.make("probe/value"), probes.Probe)
    with pytest.raises(ValueError, match="did you mean brax/halfcheetah"):
        envs.make("bracks/halfcheetah")


def test_importing_envs_is_light_and_silent():
    program = (
        "import sys; from onejit import envs; envs.make('probe/value'); "
        "sys.exit(str({'brax', 'gymnax', 'mujoco'} & set(sys.modules) or ''))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert (result.stdout, result.stderr.strip()) == ("", "")


@pytest.mark.parametrize(
    "env_id, factory, message", [(5, dict, "env_id=5: must"), ("mine/x", 5, "factory=5: must")]
)
def test_what_cannot_be_registered_is_refused(env_id, factory, message):
    with pytest.raises(ValueError, match=message):
        envs.register(env_id, factory)
