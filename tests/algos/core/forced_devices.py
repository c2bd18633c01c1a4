"""What needs a real mesh. `test_distribution.py` runs this file in a process of eight devices."""

import importlib.util
import io
import json
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from onejit import algos, envs
from onejit.algos import gorl, harpg, hnpg, npg_igt, pathwise, ppo, sac
from onejit.algos.core import distribution, guard, parallel
from onejit.algos.core.config import ConfigError
from onejit.algos.core.sweep import stacked
from onejit.algos.core.training import train
from onejit.algos.host import checkpoint, cli, run_folder, sweep_cli
from onejit.envs.base import Step

ROOT = Path(__file__).parents[3]


def module_of(path):
    """The module in a file that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


collectives = module_of(ROOT / "scripts" / "evidence" / "collectives.py")
documented_commands = module_of(ROOT / "tests" / "test_documented_commands.py")

AXIS = parallel.AXIS
MESH = algos.make_mesh(4)


class Line:
    """Counts its steps; where `bad` is set it is not a number from the sixth step on."""

    observation_space = envs.Box(-1e6, 1e6, (2,))
    action_space = envs.Discrete(2)

    def reset(self, key):
        mark = jax.random.uniform(key)
        return (mark, jnp.int32(0), jnp.bool_(False)), jnp.stack([mark, 0.0])

    def step(self, key, state, action):
        mark, time, bad = state
        time = time + 1
        obs = jnp.stack([mark, jnp.where(bad & (time > 5), jnp.nan, time / 100.0)])
        reward = jnp.float32(1.0) + 0.1 * action
        return (mark, time, bad), Step(obs, reward, jnp.bool_(False), time >= 40, {})


CONFIG = ppo.Config(
    num_envs=16,
    num_steps=8,
    num_minibatches=2,
    update_epochs=2,
    hidden_sizes=(8,),
    normalize_obs=True,
    normalize_reward=True,
    total_steps=10_000,
)
PPO = ppo.make(Line(), CONFIG)
SAC = sac.make(
    envs.make("gymnax/Pendulum-v1"),
    sac.Config(
        num_envs=8,
        batch_size=16,
        buffer_size=8 * 501,
        learning_starts=32,
        actor_hidden_sizes=(8,),
        critic_hidden_sizes=(8,),
    ),
)


def lying(x, sharding):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def fresh(state):
    """A copy, which may be donated, and whose keys may be used again."""
    return jax.tree.map(lambda x: jax.random.clone(x) if is_key(x) else jnp.copy(x), state)


class Compiled:
    """Init and step of an algorithm on four devices, compiled once."""

    def __init__(self, algorithm):
        self.algorithm = algos.distribute(algorithm, MESH)
        shape = jax.eval_shape(self.algorithm.init, jax.random.key(0))
        self.shape = jax.tree.map(lying, shape, self.algorithm.shardings)
        self.init = jax.jit(self.algorithm.init)
        step = jax.jit(self.algorithm.step, donate_argnums=0)
        self.step = step.trace(self.shape).lower().compile()
        self.state = self.init(jax.random.key(0))

    def after(self, iterations):
        state = fresh(self.state)
        for _ in range(iterations):
            state, metrics = self.step(state)
        return state, metrics


@pytest.fixture(scope="module")
def on_policy():
    return Compiled(PPO)


@pytest.fixture(scope="module")
def off_policy():
    return Compiled(SAC)


def raw(x):
    return jax.random.key_data(x) if is_key(x) else x


def assert_replicas_are_alike(state):
    for path, leaf in jax.tree.leaves_with_path(state):
        leaf = raw(leaf)
        if leaf.sharding.is_fully_replicated:
            first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
            for other in others:
                np.testing.assert_array_equal(first, other, err_msg=str(path))


@pytest.mark.parametrize("which", ["on_policy", "off_policy"])
def test_little_is_exchanged_and_all_is_donated(which, request):
    compiled = request.getfixturevalue(which)
    found = collectives.collectives(compiled.step)
    assert {each.kind for each in found} <= {"all-reduce", "all-gather"}
    gradient = 4 * sum(x.size for x in jax.tree.leaves(compiled.shape.learner.params))
    assert max(each.bytes for each in found if each.kind == "all-reduce") < 1.5 * gradient
    # Gathered are faults and moments: no environment's and no replay's leaf is as small.
    assert max(each.bytes for each in found if each.kind == "all-gather") <= 4 * 4 * 4
    if which == "off_policy":
        rows = jax.tree.leaves(compiled.shape.replay.rows)
        assert max(x for each in found for x in each.array_bytes) < min(
            x.size * x.dtype.itemsize for x in rows
        )
    memory = compiled.step.memory_analysis()
    kept = memory.argument_size_in_bytes - memory.alias_size_in_bytes
    assert kept <= 64  # the config's scalars


@pytest.mark.parametrize("which", ["on_policy", "off_policy"])
def test_a_step_on_four_devices_is_that_of_four_mapped_ones(which, request):
    compiled = request.getfixturevalue(which)
    algorithm = {"on_policy": PPO, "off_policy": SAC}[which]
    state, metrics = compiled.after(2)
    assert_replicas_are_alike(state)
    specs = distribution.state_specs(algorithm, 4)
    each = distribution.of_each_device(algorithm, specs)

    def split(x, spec):
        if spec == distribution.ALIKE:
            return jnp.stack([x] * 4)
        return jnp.stack(jnp.split(x, 4, list(spec).index(AXIS)))

    def join(x, spec):
        if spec == distribution.ALIKE:
            return x[0]
        return jnp.concatenate(list(x), list(spec).index(AXIS))

    step = jax.jit(jax.vmap(each.step, axis_name=AXIS))
    mapped = jax.tree.map(split, jax.device_put(fresh(compiled.state), jax.devices()[0]), specs)
    for _ in range(2):
        mapped, mapped_metrics = step(fresh(mapped))
    mapped = jax.tree.map(join, mapped, specs)
    close = partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-5)
    jax.tree.map(lambda x, y: close(raw(x), raw(y)), state.learner, mapped.learner)
    for name, x in metrics.items():
        close(x, mapped_metrics[name][3], err_msg=name)


def test_the_program_lowers_for_accelerators(on_policy):
    traced = jax.jit(on_policy.algorithm.step, donate_argnums=0).trace(on_policy.shape)
    for platform in ("cuda", "tpu"):
        assert "all_reduce" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_a_number_that_is_none_on_one_device_stops_all_with_its_place(on_policy):
    state = fresh(on_policy.state)
    mark, time, bad = state.collection.env_state.env_state
    bad = jax.device_put(bad.at[9].set(True), bad.sharding)  # on the third device of four
    env_state = state.collection.env_state._replace(env_state=(mark, time, bad))
    state = state._replace(collection=state.collection._replace(env_state=env_state))
    before = jax.device_get(raw_tree(state.learner))
    for _ in range(2):
        state, metrics = on_policy.step(state)
    assert_replicas_are_alike(state)
    # The sixth step, number 5 of the first rollout, is the first whose observation is none.
    words = "non-finite observation in iteration 0, step 5 of the rollout, environment 9"
    assert guard.describe(jax.device_get(state.learner.fault)) == words
    assert metrics["charts/fault"] == 1
    jax.tree.map(np.testing.assert_array_equal, before.params, raw_tree(state.learner).params)


def raw_tree(tree):
    return jax.tree.map(raw, tree)


def test_a_checkpoint_of_four_devices_is_restored_on_any_number(off_policy, tmp_path):
    state, _ = off_policy.after(2)
    saved = jax.device_get(raw_tree(state))
    path = checkpoint.save(tmp_path, 2, state, {})
    for number in (8, 4, 2, 1):
        other = algos.distribute(SAC, algos.make_mesh(number))
        like = jax.eval_shape(SAC.init, jax.random.key(0))
        if number > 1:
            like = jax.tree.map(lying, like, other.shardings)
        restored = checkpoint.restore(path, like)
        assert len(restored.replay.rows.obs.sharding.device_set) == number
        jax.tree.map(np.testing.assert_array_equal, saved, jax.device_get(raw_tree(restored)))
        if number == 4:
            following = (raw_tree(off_policy.step(x)[0]) for x in (restored, state))
            jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, following))


def test_evaluation_is_shared(on_policy):
    evaluate = jax.jit(algos.evaluator(on_policy.algorithm, num_episodes=8))
    metrics = evaluate(on_policy.state, jax.random.key(1))
    # All episodes have 40 steps, with a reward of 1 or 1.1 each.
    assert metrics["eval/episodic_length"] == 40.0
    assert metrics["eval/finished"] == 1.0
    assert 40.0 <= metrics["eval/episodic_return"] <= 44.0 + 1e-4
    found = collectives.collectives(evaluate.lower(on_policy.state, jax.random.key(1)).compile())
    assert len(found) <= 4 and max(each.bytes for each in found) <= 64
    with pytest.raises(ConfigError, match="num_episodes=6: must be a multiple of the 4 devices"):
        algos.evaluator(on_policy.algorithm, num_episodes=6)(on_policy.state, jax.random.key(1))


@pytest.mark.parametrize("module", [harpg, hnpg, npg_igt, pathwise])
def test_policies_without_a_critic_and_offline_rows_are_shared(module):
    env = envs.make("gymnax/Pendulum-v1")
    sizes = {"num_envs": 8, "hidden_sizes": (8,)}
    if module is hnpg:
        sizes |= {"num_steps": 4, "num_minibatches": 2, "action_samples": 2}
    else:
        sizes |= {"horizon": 4}
    algorithm = module.make(env, module.Config(**sizes))
    distributed = algos.distribute(algorithm, algos.make_mesh(2))
    state = jax.jit(distributed.init)(jax.random.key(0))
    step = jax.jit(distributed.step)
    whole = jax.device_put(fresh(state), jax.devices()[0])
    state, metrics = step(state)
    assert_replicas_are_alike(state)
    assert metrics["charts/fault"] == 0
    if module is pathwise:  # which draws nothing here: as on one device
        expected, _ = jax.jit(algorithm.step)(whole)
        close = partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6)
        jax.tree.map(close, state.learner, expected.learner)


def test_a_stage_of_gorl_begins_alike_on_all():
    stages = {"num_stages": 2, "stage_iterations": 2, "kept_rollouts": 2}
    fit = {"decoder_hidden_sizes": (8,), "fit_steps": 4, "fit_batch": 8, "fit_checks": 2}
    sizes = {"num_envs": 16, "num_steps": 8, "num_minibatches": 2, "hidden_sizes": (8,)}
    config = gorl.Config(**sizes, **stages, **fit)
    algorithm = gorl.make(envs.make("probe/delay", continuous=True), config)
    compiled = Compiled(algorithm)
    state, _ = compiled.after(2)
    assert_replicas_are_alike(state)
    state, _ = compiled.step(state)
    assert_replicas_are_alike(state)
    assert all(np.any(x != 0.0) for x in jax.tree.leaves(state.behaviour.decoder))


def test_the_probes_are_solved_on_four_devices():
    env = envs.make("probe/all")
    config = ppo.Config(
        learning_rate=3e-3,
        gamma=0.9,
        num_envs=32,
        num_steps=16,
        hidden_sizes=(16,),
        total_steps=150 * 512,
        max_grad_norm=10.0,
    )
    algorithm = ppo.make(env, config)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 2})
    def run(key):
        return algos.train(algorithm, key, num_iterations=150, log_every=150, mesh=MESH)

    state, history = run(jax.random.key(0))
    assert history["charts/fault"].shape == (1,)
    observations = jnp.eye(env.observation_space.shape[0])
    action = np.asarray(algorithm.act(state, observations, jax.random.key(1), True))
    best = env.solve(gamma=0.9)[1]
    place = env.first_state["truncation"]
    assert action[place] == best[place]
    for probe in ("action", "delay", "observation", "termination"):
        place = env.first_state[probe]
        assert action[place] == best[place], probe


KEYS = jax.random.split(jax.random.key(0), 2)
SETTINGS = algos.grid(learning_rate=[1e-3, 1e-2], clip_eps=[0.1, 0.3])
RUN = {"num_iterations": 2, "evaluate": algos.evaluator(PPO, num_episodes=4)}


def sweep(**options):
    return algos.sweep(PPO, jax.random.clone(KEYS), SETTINGS, **RUN, **options)


def test_a_population_lies_along_its_axis_without_a_word_and_both_axes_at_once():
    whole = sweep()
    apart = sweep(mesh=algos.make_mesh(1, population=8))
    assert (whole.chunk, apart.chunk) == (8, 8)
    close = partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-5)
    jax.tree.map(close, apart.states.learner.params, whole.states.learner.params)
    jax.tree.map(close, apart.history, whole.history)
    # In fives, of which each of four devices would have more than one: in fours.
    chunks = sweep(mesh=algos.make_mesh(1, population=4), max_chunk=5)
    assert chunks.chunk == 4
    jax.tree.map(close, chunks.history, whole.history)
    both = sweep(mesh=algos.make_mesh(2, population=4))
    assert both.states.learner.iteration.tolist() == [2] * 8
    assert len(both.states.collection.obs.sharding.device_set) == 8
    assert np.isfinite(both.history["eval/episodic_return"]).all()


@pytest.mark.parametrize("sizes", [(1, 4), (2, 2)])
def test_members_exchange_nothing(sizes):
    num_devices, population = sizes
    mesh = algos.make_mesh(num_devices, population=population)
    specs = distribution.state_specs(PPO, num_devices)
    each = distribution.of_each_device(PPO, specs)
    member = jax.sharding.PartitionSpec(distribution.POPULATION)
    lying = jax.tree.map(lambda spec: jax.sharding.PartitionSpec(*member, *spec), specs)

    def run(key, config):
        return train(each, key, config=config, **RUN)

    run = distribution.on_mesh(jax.vmap(run), mesh, (member, member), (lying, member))
    configs = stacked(PPO, SETTINGS)
    program = jax.jit(run).lower(jax.random.split(jax.random.key(0), 4), configs).compile()
    found = collectives.collectives(program)
    if num_devices == 1:
        assert found == []
    else:
        assert {each.groups for each in found} <= {"{{0,1},{2,3}}", "[2,2]<=[4]"}
        assert any(each.kind == "all-reduce" for each in found)


TINY = [
    "--env=probe/observation",
    "--num_envs=8",
    "--num_steps=8",
    "--num_minibatches=2",
    "--hidden_sizes=8",
    "--eval_episodes=4",
    "--num_logs=4",
    "--num_evals=2",
]


def script(main, *arguments):
    with pytest.raises(SystemExit) as caught:
        main(["script.py", *arguments])
    return caught.value.code


def test_a_run_on_four_devices_goes_on_with_two(tmp_path, capsys):
    run = partial(script, partial(cli.main, ppo))
    assert run(*TINY, "--num_devices=4", "--total_steps=512", f"--out={tmp_path}") == 0
    [folder] = tmp_path.iterdir()
    assert run_folder.read(folder)["num_devices"] == 4
    assert run(f"--resume={folder}", "--num_devices=2", "--total_steps=1024") == 0
    assert run_folder.read(folder)["num_devices"] == 2
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()]
    assert steps == [128, 256, 384, 512, 768, 1024]
    capsys.readouterr()
    assert run(*TINY, "--num_devices=3", "--total_steps=512", f"--out={tmp_path}") == 2
    assert "eval_episodes=4: must be a multiple of the 3 devices" in capsys.readouterr().err
    assert run(*TINY, "--num_devices=9", "--total_steps=512", f"--out={tmp_path}") == 2
    assert "num_devices=9: must be at most 8" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


def test_a_sweep_lies_over_devices_and_its_winner_goes_on(tmp_path):
    settings = ["--grid", "learning_rate=1e-3,1e-2,3e-2", "--num_seeds=2", "--total_steps=512"]
    devices = ["--num_devices=8", "--devices_per_member=2"]
    assert script(sweep_cli.main, *TINY, *settings, *devices, f"--out={tmp_path}") == 0
    [folder] = tmp_path.iterdir()
    described = json.loads((folder / "sweep.json").read_text())
    # Three settings of two seeds are six members; filled up to four settings, two members a group.
    assert (described["chunk"], len(described["results"])) == (4, 3)
    winner = folder / "winner"
    assert run_folder.read(winner)["num_devices"] == 2
    assert script(partial(cli.main, ppo), f"--resume={winner}", "--total_steps=640") == 0


def test_the_page_of_the_devices(tmp_path, monkeypatch):
    # As on the page, with short runs of small networks.
    smaller = {
        "num_envs=64, ": "num_envs=16, num_steps=8, num_minibatches=2, hidden_sizes=(8,), ",
        "num_iterations=48, log_every=16": "num_iterations=2, log_every=1",
        "num_iterations=8": "num_iterations=1",
    }
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "devices.md").read_text()
    whole = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    for text, replacement in smaller.items():
        assert text in whole
        whole = whole.replace(text, replacement)
    names = {}
    exec(whole, names)
    assert len(names["state"].collection.obs.devices()) == 2
    assert len(names["alone"].collection.obs.devices()) == 1
    assert len(names["both"].states.collection.obs.devices()) == 4
    assert names["apart"].chunk == 8


def test_the_commands_of_the_page_of_the_devices(tmp_path, monkeypatch):
    documented_commands.follow(ROOT / "docs" / "devices.md", tmp_path, monkeypatch)


def test_seeds_lie_side_by_side_on_all_devices(tmp_path):
    from onejit.algos.host import runner
    from onejit.algos.host.programs import Settings

    settings = Settings(
        folder=tmp_path, title="t", num_seeds=2, mesh=MESH, num_logs=2, num_evals=1, eval_episodes=4
    )
    result = runner.run(PPO, settings, total_iterations=2, console=Console(file=io.StringIO()))
    assert result.eval_returns.shape == (2,)
