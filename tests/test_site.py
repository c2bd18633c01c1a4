"""The site: every algorithm has a page whose names are names of the code, every metric is
explained, every public name is documented, and all of it builds without a warning.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "algorithms"
spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "site" / "generated.py")
generated = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generated)
PAPERS = generated.papers()


def test_every_algorithm_has_a_page_and_every_page_an_algorithm():
    pages = {path.stem for path in PAGES.glob("*.md")} - {"index"}
    assert pages == set(PAPERS)
    listed = re.findall(r"\]\((\w+)\.md\)", (PAGES / "index.md").read_text())
    assert set(listed) == pages
    assert len(set(generated.titles().values())) == len(PAPERS)


@pytest.mark.parametrize("name", PAPERS)
def test_a_page_says_when_and_by_which_functions(name):
    text = (PAGES / f"{name}.md").read_text()
    assert 15 <= len(text.splitlines()) <= 40
    assert re.findall(r"^## (.+)", text, re.M) == ["When to use it", "Equations", "Measured"]
    module = generated.module_of(name)
    [table] = re.findall(
        r"^\| what \| equation \| function \|\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.M
    )
    for row in table.splitlines():
        functions = re.findall(r"`([\w.]+)`", re.split(r"(?<!\\)\|", row)[3])
        assert functions, row
        methods = {"schedules", "optimiser"}  # of the Config, as the row says
        unknown = [each for each in functions if not generated.reference(module, each)]
        assert set(unknown) <= methods, row
    # What stands in code font with a dot is a name of the code too.
    dotted = re.findall(r"`((?:losses|soft|flow|trajectories)\.[\w.]+)`", text)
    assert [each for each in dotted if not generated.reference(module, each)] == []


@pytest.mark.parametrize("name", PAPERS)
def test_what_the_code_says_of_an_algorithm(name):
    module = generated.module_of(name)
    assert generated.command(name).startswith(f"python scripts/{name}.py")
    fields = generated.config_tables(module.Config)
    assert all(f"| `{field}` |" in fields for field in module.Config.__dataclass_fields__)
    assert all(generated.target(getattr(module, each))[1] for each in module.__all__)


def test_results_are_found_by_their_titles():
    assert "| PPO, gymnax CartPole-v1 |" in generated.measured("PPO")
    assert "\n| PPO-EWMA" not in generated.measured("PPO")
    assert "\n| MDPO off-policy" not in generated.measured("MDPO")
    assert "| MDPO off-policy, gymnax Pendulum-v1 |" in generated.measured("MDPO off-policy")
    columns = generated.measured("ReBRAC")
    assert "| data | its own | ReBRAC |" in columns and "TD3+BC |" not in columns
    assert "../offline.md#what-was-measured" in columns
    assert "../../results/staq.png" in generated.measured("StaQ")
    assert "\n| without any |" in generated.measured("AVG")  # of a table that is about it
    assert "**TRPO, CartPole**" in generated.measured("TRPO")  # of a list


def test_links_to_names():
    linked = generated.with_links(
        generated.module_of("sac"), "`losses.sac_target`, `Config`, `tau`, [`act`](x)"
    )
    assert "[`losses.sac_target`][onejit.losses.sac.sac_target]" in linked
    assert "[`Config`][onejit.algos.sac.Config], `tau`, [`act`](x)" in linked


def test_public_names_are_documented():
    assert generated.undocumented() == []


def literals():
    """The names of metrics that stand in the code of algorithms and of the runner."""
    for path in (ROOT / "algos").rglob("*.py"):
        for line in path.read_text().splitlines():
            yield from re.findall(r'f?"((?:losses|charts|eval)/[\w{}]+)"', line)


def test_metrics_are_explained():
    explained = set(generated.metric_texts())
    written = set(literals()) - {"charts/episodic_"}  # a prefix
    patterns = {re.sub(r"\{\w+\}", r"\\w+", name) for name in written if "{" in name}
    assert patterns == {r"losses/\w+_loss", r"losses/\w+_grad_norm", r"eval/pass_at_\w+"}
    assert {name for name in written if "{" not in name} <= explained
    own = {name for name in explained if not any(re.fullmatch(p, name) for p in patterns)}
    assert own <= written


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_metrics_of_a_step_are_explained(name):
    assert set(generated.metric_names(name)) <= set(generated.metric_texts())


@pytest.mark.slow
def test_no_metric_is_explained_that_nothing_has():
    import jax

    from onejit import algos, envs

    found = set().union(*map(generated.metric_names, PAPERS), {"charts/sps"})
    tokens = algos.tokens.make(envs.make("tokens/brackets"))
    state = jax.eval_shape(tokens.init, jax.random.key(0))
    found |= set(jax.eval_shape(tokens.step, state)[1])
    algorithm = tokens._replace(scores=(0.0, 1.0))
    evaluated = jax.eval_shape(algos.evaluator(algorithm), state, jax.random.key(1))
    found |= {re.sub(r"pass_at_([2-9]|\d\d+)$", "pass_at_k", name) for name in evaluated}
    assert found == set(generated.metric_texts())


@pytest.mark.slow
def test_the_site_builds_without_a_warning():
    """As `make docs` does, where its packages are there."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings_handlers.python")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
