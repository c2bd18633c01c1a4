"""What README and docs/ say is so: programs run, each page from top to bottom, as its reader would
type it in; links lead somewhere; the index of the losses is complete.
"""

import importlib
import importlib.util
import inspect
import pkgutil
import re
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from onejit import envs, losses

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [README, ROOT / "BUILD_NOTES.md", *PAGES]


def blocks(page):
    """The pieces of Python on a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_robot_of_ones_own_is_an_environment(tmp_path):
    program = tmp_path / "swing_up.py"
    [code] = blocks("own_robot.md")
    program.write_text(code)
    runpy.run_path(str(program))
    env = envs.make("mine/SwingUp", episode_length=7)
    envs.check(env, num_steps=10)
    assert env.observation_space.shape == (3,)
    assert env.step_seconds == 0.05


@pytest.mark.slow
def test_the_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # As on the page, with short runs of few members.
    smaller = {
        "num_iterations = 120": "num_iterations = 1",
        "jax.random.key(0), 8)": "jax.random.key(0), 2)",
        "[1e-4, 3e-4, 1e-3, 3e-3]": "[1e-4, 1e-3]",
        "ppo.Config(": "ppo.Config(num_envs=4, num_steps=8, num_minibatches=1, hidden_sizes=(8,), ",
    }
    names = {}
    for code in blocks("guide.md"):
        for text, replacement in smaller.items():
            code = code.replace(text, replacement)
        refusal = re.search(r"^# (\w+): (.*)", code, re.MULTILINE)
        if refusal:
            with pytest.raises(Exception, match=re.escape(refusal[2]).replace("…", ".*")) as caught:
                exec(code, names)
            assert type(caught.value).__name__ == refusal[1]
        else:
            exec(code, names)
    assert names["num_iterations"] == 1
    assert names["scores"].shape == (2, 2)
    assert names["actions"].shape == (2,)
    assert names["env"].action_space.contains(names["action"])
    # What was loaded is the best member.
    rate, seed = np.asarray(names["best_rate"]), np.asarray(names["best_seed"])
    chosen = jax.tree.map(lambda x: x[rate, seed], names["states"].learner.params)
    jax.tree.map(np.testing.assert_array_equal, names["state"].learner.params, chosen)
    assert envs.make("mine/Corridor", x=5.0).observation_space.high == 5.5


@pytest.mark.slow
def test_the_program_of_the_certificates():
    # As on the page, with a short run and few episodes.
    smaller = {
        "num_iterations=240": "num_iterations=1",
        "thresholds=range(1, 201)": "thresholds=[5.0], num_episodes=100",
        "[0.2, 0.4], 200, ": "[0.2, 0.4], 3, num_draws=2, num_steps=2, ",
    }
    [code] = blocks("certificates.md")
    names = {}
    for text, replacement in smaller.items():
        assert text in code
        code = code.replace(text, replacement)
    exec(code, names)
    assert names["certificate"].lower.shape == (2,)
    assert names["attack"].returns.shape == (2, 3)


@pytest.mark.slow
def test_the_page_of_the_tokens():
    # As on the page, with short runs.
    smaller = {
        "num_iterations=200, log_every=20": "num_iterations=2, log_every=1",
        "num_iterations=100, log_every=10": "num_iterations=1, log_every=1",
        "num_episodes=64": "num_episodes=2",
        "num_prompts=32, group_size=8": "hidden_size=8, num_prompts=4, group_size=4",
    }
    names = {}
    whole = "".join(blocks("tokens.md"))
    for text, replacement in smaller.items():
        assert text in whole
        whole = whole.replace(text, replacement)
    exec(whole, names)
    assert names["history"]["losses/reward"].shape == (4, 2)
    page = (DOCS / "tokens.md").read_text()
    named = set(re.findall(r"`(\w+)`", page[page.index("## What is named") :]))
    objectives = names["tokens"].OBJECTIVES
    assert set(objectives) <= named
    assert f"any of {len(objectives)} named" in page


@pytest.mark.slow
def test_the_page_of_policies():
    # As on the page, with small networks and rollouts.
    smaller = {
        "memory_size=64": "memory_size=4, num_envs=4, num_steps=8, hidden_sizes=(4,)",
        "num_iterations=50": "num_iterations=2",
        "learning_rate=1e-3": "learning_rate=1e-3, num_envs=4, num_steps=8, hidden_sizes=(4,)",
    }
    whole = "".join(blocks("policies.md"))
    for text, replacement in smaller.items():
        assert text in whole
        whole = whole.replace(text, replacement)
    names = {}
    exec(whole, names)
    assert names["memory"]["policy"].shape == (5, 4)
    assert names["metrics"]["losses/steps_taken"].shape == (3,)
    assert "hidden" in names["state"].learner.params["policy"]["params"]


@pytest.mark.slow
def test_the_page_of_truncation():
    [code] = blocks("truncation.md")
    names = {}
    exec(code, names)
    assert names["targets"].shape == (1, 4)


@pytest.mark.slow
def test_the_page_of_data(tmp_path, monkeypatch):
    # As on the page, with short runs of small networks.
    monkeypatch.chdir(tmp_path)
    sizes = "actor_hidden_sizes=(4,), critic_hidden_sizes=(4,), batch_size=8, "
    smaller = {
        "sac.Config(": f"sac.Config({sizes}learning_starts=50, ",
        "td3_bc.Config(": f"td3_bc.Config({sizes}num_updates=2, ",
        "OnlineConfig(": f"OnlineConfig({sizes}",
        "num_iterations=5_000": "num_iterations=2",
        "num_iterations=100, log_every=10": "num_iterations=2, log_every=2",
        "num_steps=10_000": "num_steps=400",
    }
    [code] = blocks("offline.md")
    for text, replacement in smaller.items():
        assert text in code
        code = code.replace(text, replacement)
    names = {}
    exec(code, names)
    assert names["scores"].shape == (3,) and len(names["data"]) == 800
    assert names["online"].initial_steps == 0 and names["family"].initial_steps == 1000


@pytest.mark.slow
def test_the_page_of_the_sweeps():
    # As on the page, with short runs of small members.
    smaller = {
        "iterations(100_000)": "iterations(1)",
        "[3e-4, 1e-3, 3e-3], clip_eps=[0.1, 0.2]": "[3e-4, 1e-3], clip_eps=[0.1]",
        "jax.random.key(0), 4)": "jax.random.key(0), 2)",
        "reshape(6, 4)": "reshape(2, 2)",
        "length=10": "length=1",
        "size = 8": "size = 5",
        "num_generations = 6": "num_generations = 2",
        "ppo.Config(": "ppo.Config(num_envs=4, num_minibatches=1, hidden_sizes=(8,), ",
    }
    whole = "".join(blocks("sweeps.md"))
    for text, replacement in smaller.items():
        assert text in whole
        whole = whole.replace(text, replacement)
    names = {}
    exec(whole, names)
    assert names["result"].configs.clip_eps.shape == (4,)
    assert names["one"].configs.learning_rate.shape == (2,)
    assert names["scores"].shape == (1,)


@pytest.mark.slow
def test_the_page_of_exports(tmp_path, monkeypatch):
    # As on the page, with small networks, and without the last block where its package is not.
    monkeypatch.chdir(tmp_path)
    *first, last = blocks("export.md")
    assert "stable_baselines3" in last
    sizes = 'memory="gru", memory_size=8, num_envs=4, num_steps=8, hidden_sizes=(8, 8)'
    smaller = {'memory="gru"': sizes}
    if importlib.util.find_spec("stable_baselines3") is not None:
        first.append(last)
        smaller |= {"learn(50_000)": "learn(64)", "num_envs=8))": "num_envs=8), n_steps=8)"}
    whole = "".join(first)
    for text, replacement in smaller.items():
        assert text in whole
        whole = whole.replace(text, replacement)
    names = {}
    exec(whole, names)
    assert names["done"].problems == []
    assert max(names["done"].manifest["largest_difference"].values()) < 1e-5
    assert names["action"].shape == (1, 1) and len(names["last"]) > 0


def links(page):
    """Where the links and images of a page lead, as its reader's program resolves them."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    found += re.findall(r'src="([^"]+)"', page.read_text())
    relative = [
        link.split("#")[0] for link in found if not link.startswith(("http://", "https://"))
    ]
    return [(page.parent / link).resolve() for link in relative if link]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_images_lead_somewhere(page):
    assert [link for link in links(page) if not link.exists()] == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_text_names_exist(page):
    folders = "algos|docs|envs|losses|notebooks|results|scripts|tests"
    named = re.findall(rf"(?<![\w/.])(?:{folders})/[\w/]+\.\w+", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_readme_is_short_and_leads_to_every_page():
    assert len(README.read_text().splitlines()) <= 150
    found, new = set(), {README}
    while new:
        found |= new
        new = {link for page in new for link in links(page) if link in PAGES} - found
    assert set(PAGES) <= found


def signature(name, function):
    """As on the page: without annotations."""
    whole = inspect.signature(function)
    parameters = [each.replace(annotation=each.empty) for each in whole.parameters.values()]
    return f"{name}{whole.replace(parameters=parameters, return_annotation=whole.empty)}"


def test_the_index_of_the_losses_is_complete_and_right():
    shown = {}  # the signatures in the first columns of the page, by the module of their table
    for section in (DOCS / "losses.md").read_text().split("\n## ")[1:]:
        module = section.split("\n")[0].removesuffix(".py").removesuffix("/").replace("/", ".")
        shown[module] = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    public = {}
    seen = set()  # a package comes before its modules, and has the functions that it exports
    for module in pkgutil.walk_packages(losses.__path__, "onejit.losses."):
        short = module.name.removeprefix("onejit.losses.")
        for name, function in inspect.getmembers(
            importlib.import_module(module.name), inspect.isfunction
        ):
            own = f"{function.__module__}.".startswith(f"{module.name}.") and function not in seen
            if own and "_" not in (name[0], short[0]):
                public.setdefault(short, set()).add(signature(name, function))
                seen.add(function)
    assert shown == public
