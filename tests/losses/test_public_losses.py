"""What every public function of `onejit.losses` promises; a new one is tested as soon as it is
public.
"""

import functools
import importlib
import inspect
import pkgutil
import runpy
import sys
from pathlib import Path

import chex
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses

# Plain numpy and scipy in float64, which no transformation of jax is meant to pass through.
HOST_SIDE = {"onejit.losses.smoothing"}
# Modules of functions, `losses.preferences`, and packages of such modules, `losses.sequences`.
NAMESPACES = {name for name in losses.__all__ if inspect.ismodule(getattr(losses, name))}


def names_in(path, module):
    """What to reach the public functions of a namespace by, from `losses`.

    A package that has functions has those of all its modules.
    """
    functions = [
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if f"{function.__module__}.".startswith(f"{module.__name__}.") and not name.startswith("_")
    ]
    yield from (f"{path}.{name}" for name in functions)
    for each in pkgutil.iter_modules(() if functions else getattr(module, "__path__", ())):
        yield from names_in(f"{path}.{each.name}", getattr(module, each.name))


def function_named(name):
    return functools.reduce(getattr, name.split("."), losses)


NAMES = sorted(set(losses.__all__) - NAMESPACES) + sorted(
    name for each in NAMESPACES for name in names_in(each, getattr(losses, each))
)
TRACED = [name for name in NAMES if function_named(name).__module__ not in HOST_SIDE]

# A maker of sample data for every parameter name; five steps of three environments, four features
# or classes. The words are the project's vocabulary: some wait for the loss that will use them.
PER_STEP = """advantage beta discount kl log_prob log_ratio max_kl next_entropy next_log_prob next_q
    next_q1 next_q2 next_value next_values
    noise old_log_prob old_value proximal_log_prob q q_value reward rewards target
    target_log_prob value values"""
PER_FEATURE = (
    "average log_probs log_std log_std_p log_std_q logits logits_p logits_q mean mean_p mean_q"
    " old_log_probs pre_tanh q_stack"
)
PROBABILITIES = "probs probs1 probs2 target_probs"
SAMPLES = {
    **dict.fromkeys(PER_STEP.split(), lambda rng: rng.normal(size=(5, 3))),
    **dict.fromkeys(PER_FEATURE.split(), lambda rng: rng.normal(size=(5, 3, 4))),
    **dict.fromkeys(PROBABILITIES.split(), lambda rng: rng.dirichlet(np.ones(4), size=(5, 3))),
    **dict.fromkeys(["terminated", "truncated"], lambda rng: rng.random((5, 3)) < 0.3),
    "action": lambda rng: rng.integers(4, size=(5, 3)),
    "coefficients": lambda rng: rng.random(5),
    "log_alpha": lambda rng: rng.normal(),
    "num_stored": lambda rng: rng.integers(1, 5),
    "scale": lambda rng: rng.uniform(1.0, 3.0, size=(5, 3)),
    "weight": lambda rng: rng.uniform(1.0, 3.0),
    "x": lambda rng: rng.uniform(0.1, 3.0, size=(5, 3, 4)),
}
# Traced, so that a sweep over them is one program. Each value is in its allowed range, and so is
# half of it.
HYPERPARAMETERS = {
    **dict.fromkeys(
        ["alpha", "beta", "clip_eps", "eps", "kappa", "kl_bound", "noise_clip", "step_size"], 0.2
    ),
    **dict.fromkeys(
        ["decay", "entropy_coef", "eta", "expectile", "gae_lambda", "gamma", "lam"], 0.9
    ),
    **dict.fromkeys(["clip_c", "clip_rho"], 1.1),
    "kl_factor": 2.0,
    "max_ratio": 3.0,
    "q": 1.5,
    "support": np.linspace(-2.0, 2.0, 4, dtype=np.float32),
    "target_entropy": -2.0,
}
STATIC = {"memory": 5}  # sizes of the result
# Of the functions of namespaces, one file a module: name -> (rng -> arrays in order, traced
# hyperparameters, and what is bound: sizes, keys).
CALLS = {}
for _path in sorted((Path(__file__).parent / "calls").glob("*.py")):
    CALLS |= runpy.run_path(str(_path))["CALLS"]
DTYPES = {"f": jnp.float32, "i": jnp.int32, "b": jnp.bool_}


def sample_call(name, seed=0):
    """The function with its static arguments bound, sample arrays in order, and its traced
    hyperparameters: one of CALLS, or what the vocabulary above says of its words.
    """
    function = function_named(name)
    rng = np.random.default_rng(seed)
    if name in CALLS:
        arrays, hyperparameters, static = CALLS[name](rng)
        first = next(iter(inspect.signature(function).parameters))
        key = [static.pop(first)] if first in static else []
        return functools.partial(function, *key, **static), list(arrays), hyperparameters
    arrays = []
    hyperparameters = {}
    static = {}
    for parameter in inspect.signature(function).parameters.values():
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        if not keyword_only and parameter.name in SAMPLES:
            sample = np.asarray(SAMPLES[parameter.name](rng))
            arrays.append(jnp.asarray(sample, DTYPES[sample.dtype.kind]))
        elif keyword_only and parameter.name in HYPERPARAMETERS:
            hyperparameters[parameter.name] = HYPERPARAMETERS[parameter.name]
        elif keyword_only and parameter.name in STATIC:
            static[parameter.name] = STATIC[parameter.name]
        else:
            table = "HYPERPARAMETERS (or STATIC)" if keyword_only else "SAMPLES"
            pytest.fail(
                f"losses.{name}: no sample for {parameter.name!r}; add one to {table} in {__file__}"
            )
    return functools.partial(function, **static), arrays, hyperparameters


@pytest.fixture(autouse=True)
def the_key_of_a_sample_call_may_be_used_in_every_call():
    with jax.debug_key_reuse(False):
        yield


def assert_same(results, expected):
    chex.assert_trees_all_equal_shapes_and_dtypes(results, expected)
    chex.assert_trees_all_close(results, expected, rtol=1e-5, atol=1e-6)


# Programs for a hundred functions take long to compile: `make test` has those of the core's.
SHORT = [
    "categorical",
    "distributions",
    "mdpo",
    "ppo",
    "ratios",
    "returns",
    "sac",
    "spo",
    "staq",
    "td3",
    "temporal_difference",
]


def many_slow(names):
    """As parameters, those that are not of the core's marked slow."""
    return [
        each
        if "." not in each and function_named(each).__module__.split(".")[-1] in SHORT
        else pytest.param(each, marks=pytest.mark.slow)
        for each in names
    ]


MANY_SLOW = many_slow(TRACED)


@pytest.mark.parametrize("name", MANY_SLOW)
def test_transformations_of_jax(name):
    function, arrays, hyperparameters = sample_call(name)
    expected = function(*arrays, **hyperparameters)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(expected))

    _, other_arrays, _ = sample_call(name, seed=1)
    halves = {key: 0.5 * value for key, value in hyperparameters.items()}
    one_by_one = expected, function(*other_arrays, **halves)
    calls = (arrays, hyperparameters), (other_arrays, halves)
    batch = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *calls)

    def total(data, traced):
        leaves = jax.tree.leaves(function(*data, **traced))
        floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return sum((jnp.sum(leaf) for leaf in floats), start=0.0)  # places and counts have none

    @jax.jit  # one program, since compiling takes longest
    def transformed(batch, arrays, traced):
        constant = function(*arrays, **hyperparameters)
        at_once = jax.vmap(lambda data, traced: function(*data, **traced))(*batch)
        return constant, at_once, jax.grad(total, allow_int=True)(arrays, traced)

    constant, at_once, gradients = transformed(batch, arrays, hyperparameters)
    # jit with the hyperparameters as constants
    assert_same(constant, expected)
    # jit and vmap with data and hyperparameters traced, against one call after the other with
    # Python floats
    assert_same(at_once, jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one))
    # grad by every float array
    for array, gradient in zip(arrays, gradients, strict=True):
        if jnp.issubdtype(array.dtype, jnp.floating):
            assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("half", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MANY_SLOW)
def test_half_precision_is_widened_to_float32(name, half):
    function, arrays, hyperparameters = sample_call(name)
    hyperparameters = jax.tree.map(jnp.float32, hyperparameters)

    def cast(tree, dtype):
        return jax.tree.map(
            lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
        )

    rounded, rounded_hyperparameters = cast((arrays, hyperparameters), half)
    results = function(*rounded, **rounded_hyperparameters)
    # What rounding the arguments did is all of the error: none is added, and nothing is left in
    # half precision.
    expected = function(*cast(rounded, jnp.float32), **cast(rounded_hyperparameters, jnp.float32))
    chex.assert_trees_all_equal_shapes_and_dtypes(results, expected)
    chex.assert_trees_all_equal(results, expected)
    allowed = (jnp.float32, jnp.int32, jnp.bool_)
    assert all(leaf.dtype in allowed for leaf in jax.tree.leaves(results))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(results))


def equations(jaxpr):
    """Those of a jaxpr and of all that it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)


@pytest.mark.parametrize("name", MANY_SLOW)
def test_float32_is_left_alone(name):
    function, arrays, hyperparameters = sample_call(name)
    traced = jax.make_jaxpr(function)(*arrays, **hyperparameters)
    unwrapped = functools.partial(
        inspect.unwrap(function.func), *function.args, **function.keywords
    )
    assert str(traced) == str(jax.make_jaxpr(unwrapped)(*arrays, **hyperparameters))


CONTRACTIONS = {"categorical_mean", "clipped_double_categorical", "staq_logits"}


@pytest.mark.parametrize("name", MANY_SLOW)
def test_contractions_are_of_the_highest_precision(name):
    function, arrays, hyperparameters = sample_call(name)

    def with_gradients(*arrays):
        results, pull = jax.vjp(lambda *data: function(*data, **hyperparameters), *arrays)
        return results, pull(results)

    traced = jax.make_jaxpr(with_gradients)(*arrays)
    products = [
        each
        for each in equations(traced)
        if each.primitive.name in ("dot_general", "conv_general_dilated")
    ]
    highest = jax.lax.Precision.HIGHEST
    assert all(each.params["precision"] == (highest, highest) for each in products), products
    assert bool(products) == (name in CONTRACTIONS)


def batched_arrays(name):
    """The places of the sample arrays that have a batch axis, and so could disagree in shape."""
    return [i for i, array in enumerate(sample_call(name)[1]) if array.ndim > 1]


@pytest.mark.parametrize(
    "name", many_slow(name for name in TRACED if len(batched_arrays(name)) > 1)
)
def test_shapes_that_would_broadcast_are_refused(name):
    function, arrays, hyperparameters = sample_call(name)
    batched = batched_arrays(name)
    for i in batched:
        mismatched = [array[..., None] if i == j else array for j, array in enumerate(arrays)]
        with pytest.raises(AssertionError):
            function(*mismatched, **hyperparameters)


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_says_what_goes_in_what_comes_out_and_where_it_is_from(name):
    docstring = inspect.getdoc(function_named(name))
    for part in ("Args:", "Returns:", "Source"):
        assert part in docstring, f"losses.{name} has no {part}"
    for parameter in inspect.signature(function_named(name)).parameters:
        assert f"  {parameter}: " in docstring, f"losses.{name} does not explain {parameter}"


def unexported():
    """Public functions of the modules of `losses`, subpackages included, that neither `losses` nor
    one of its namespaces has.
    """
    reachable = {function_named(name) for name in NAMES}
    modules = pkgutil.walk_packages(losses.__path__, "onejit.losses.")
    for module in (each for each in modules if each.name != "onejit.losses._numerics"):
        for name, function in inspect.getmembers(
            importlib.import_module(module.name), inspect.isfunction
        ):
            own = function.__module__ == module.name and not name.startswith("_")
            if own and function not in reachable:
                yield f"{module.name}.{name}"


def test_every_public_function_of_every_module_is_exported():
    assert list(unexported()) == []


def test_one_of_a_subpackage_is_missed(tmp_path, monkeypatch):
    folder = tmp_path / "tokens"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "grpo.py").write_text("def grpo_loss(log_prob):\n    return log_prob\n")
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    assert list(unexported()) == ["onejit.losses.tokens.grpo.grpo_loss"]
    for name in ("onejit.losses.tokens", "onejit.losses.tokens.grpo"):
        monkeypatch.delitem(sys.modules, name)
