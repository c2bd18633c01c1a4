"""docs/objectives.md is one program, and what it says of each paper holds: a finite loss with a
finite gradient that is not 0, and the composition of the named objective where there is one.
"""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.algos import tokens

# As the programs of the other pages.
pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "docs" / "objectives.md").read_text()

# Every row of the table that the namespaces of the losses were written from, and a few that share
# its functions.
PAPERS = {
    *("RLOO", "GRPO", "Dr. GRPO", "DAPO", "GSPO", "REINFORCE++-baseline", "CISPO", "Pass@k-GRPO"),
    *("EPO", "PRS", "VSPO", "GRPO-Guard", "Polychromic PPO", "LOOP", "BNPO", "CAPO", "OTR", "FIND"),
    *("HPT", "R²VPO", "OBLR-PO", "D³S", "GMPO", "SEED-GRPO", "AT-GRPO", "AsymRE", "OPMD", "REC"),
    *("T-PPO", "RAPID", "CPGD", "EGSW", "AgentFlow", r"A\*-PO", "max@k", "SPPO", "EXO", "CoPG"),
    *("P3O", "TempSamp-R1", "VPPO", "AC-Flow", "Rank-GRPO", "80/20", "PACS", "EMPG", "HAEPO"),
    *("ML engineering agents", "ASPO", "Tree-OPO", "IGPO", "DCPO", "SFPO", "HAPO", "GTPO", "BAPO"),
    *("M2PO", "ReDit", "CPPO", "OmniQuality-R", "NSR", "PSR", "W-REINFORCE", "TR-DPO", "DPO"),
    *("IPO", "PRIME", "AEPO", "GUI-G1", "SimpleTIR", "SPEAR", "R²ec", "iStar"),
    *("VADE", "SEC", "MoPPS", "Knapsack RL", "Inverse gap weighting", "V-GPS", "GPC", "DID"),
    *("Best of both worlds", "Implicit-reward bridge"),
}
# What has no loss, and what holds for it instead, of its result and the names of the page.
OTHERS = {
    "oblr_po_step_size": lambda x, _: np.isclose(x, 1e-3 * 2.0 / (2.0 + 16.0 / 16)),
    "r2vpo_coefficient": lambda x, _: 0.0 <= x < 0.1,
    "tr_dpo": lambda x, page: np.allclose(
        x["logits"], 0.6 * page["logits"] + 0.4 * page["ref_logits"], atol=1e-6
    ),
    "sfpo": lambda x, page: 1e-4 < np.abs(x["logits"] - page["logits"]).max() < 1.0,
    "did": lambda x, page: (
        np.allclose(x[0].sum(-1), 1.0, atol=1e-5)
        and np.all((x[1] >= 0.0) & (x[1] <= np.log(page["V"])))
        and np.allclose(x[2].sum(-1), 1.0, atol=1e-5)
    ),
    "gpc": lambda x, page: np.allclose(x, 0.3 * page["mean"] + 0.7 * page["old_mean"], atol=1e-6),
    "vade": lambda x, page: len(set(x.tolist()) & set(range(page["P"]))) == page["N"],
    "mopps": lambda x, page: len(set(x.tolist()) & set(range(page["P"]))) == page["N"],
    "sec": lambda x, page: set(x.tolist()) <= set(range(page["N"])),
    "knapsack_rl": lambda x, page: x.sum() == 4 * page["P"] and x.min() >= 2 and x.max() <= 8,
    # The last group alone has no spread.
    "vspo": lambda x, page: x[:-1].tolist() == [-1, -1, -1] and 0 <= x[-1] < page["P"],
    "inverse_gap_weighting": lambda x, _: np.allclose(x.sum(-1), 1.0) and x.min() > 0.0,
    "v_gps": lambda x, _: np.allclose(x.sum(-1), 1.0) and x.min() > 0.0,
    "best_of_both_worlds": lambda x, _: np.allclose(x.sum(-1), 1.0) and x.min() > 0.0,
}
# The page has these hyperparameters.
GIVEN = {"max_at_k": {"k": 2}, "gspo": {"low": 1 - 3e-4, "high": 1 + 4e-4}}


def entries():
    """[(names of the papers, names of the flags, functions)] of every entry of the page."""
    pattern = r"^(\*\*(?:(?!\n\n).)+)\n\n```python\n(.*?)```"
    for text, code in re.findall(pattern, PAGE, re.DOTALL | re.MULTILINE):
        papers = re.findall(r"\*\*(.+?)\*\*", text)
        flags = re.findall(r"`--objective=(\w+)`", text)
        yield papers, flags, re.findall(r"^def (\w+)\(", code, re.MULTILINE)


def run(function, page):
    """A function, of what the page calls as it calls its parameters; a loss with its gradients by
    all of them.
    """
    parameters = inspect.signature(function).parameters.values()
    names = [each.name for each in parameters if each.default is each.empty]
    arguments = [jax.random.clone(page[x]) if x == "key" else page[x] for x in names]
    if function.__name__ in OTHERS:
        return function(*arguments)
    trained = tuple(i for i, name in enumerate(names) if name != "key")
    return jax.value_and_grad(function, argnums=trained)(*arguments)


def named(name, page):
    """A named objective on the batch of the page, as the loop of the tokens hands it over."""

    def loss(log_prob):
        have = {each: page[each] for each in tokens.Batch._fields if each in page}
        have |= {"log_prob": log_prob, "key": jax.random.clone(page["key"])}
        batch = tokens.Batch(prompts=jnp.zeros((page["N"], 1), jnp.int32), **have)
        return tokens.OBJECTIVES[name](batch, **GIVEN.get(name, {}))

    return jax.value_and_grad(loss)(page["log_prob"])


@pytest.fixture(scope="module")
def results():
    """Of all functions of the entries, of all named objectives, and the arrays and sizes of the
    page: one program, the page itself with it.
    """
    helpers = {"signed", "tree_loss"}
    functions = [each for *_, defined in entries() for each in defined if each not in helpers]
    page = {}

    def everything():
        exec("".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), page)
        mine = {name: run(page[name], page) for name in functions}
        theirs = {name: named(name, page) for name in tokens.OBJECTIVES}
        arrays = {name: x for name, x in page.items() if isinstance(x, jax.Array) and name != "key"}
        return mine, theirs, arrays

    mine, theirs, arrays = jax.tree.map(np.asarray, jax.jit(everything)())
    return mine, theirs, arrays | {name: page[name] for name in "NVP"}


def test_every_paper_has_an_entry():
    found = [paper for papers, *_ in entries() for paper in papers]
    assert sorted(found) == sorted(PAPERS)
    assert all(functions for *_, functions in entries())


def test_every_loss_and_its_gradients_are_finite_and_the_gradients_not_0(results):
    losses = {name: x for name, x in results[0].items() if name not in OTHERS}
    assert len(losses) > len(PAPERS) - len(OTHERS)
    for name, (loss, gradients) in losses.items():
        assert np.shape(loss) == () and np.isfinite(loss), name
        for gradient in gradients:
            assert np.all(np.isfinite(gradient)) and np.any(gradient != 0.0), name


def test_what_has_no_loss_is_what_it_should_be(results):
    mine, _, page = results
    for name, check in OTHERS.items():
        assert check(mine[name], page), name


def test_the_named_objectives_are_those_of_the_page(results):
    mine, theirs, _ = results
    flags = [flag for _, flags, _ in entries() for flag in flags]
    assert sorted(flags) == sorted(theirs)
    for name, (loss, gradient) in theirs.items():
        own_loss, (own_gradient,) = mine[name]
        scale = 1.0
        if tokens.OBJECTIVES[name].__module__.endswith("preference"):
            scale = np.linalg.norm(gradient) / np.linalg.norm(own_gradient)
        np.testing.assert_allclose(scale * own_loss, loss, rtol=1e-4, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(
            scale * own_gradient, gradient, rtol=1e-4, atol=1e-6, err_msg=name
        )
