# `make test` and `make train`, and `make test-all` for what `make test` leaves out too: all set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
# One copy of each compiled program for the test workers and for later runs.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.5
# Python keeps what it compiles of the packages: tests start many processes, each of which would compile them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: test test-slow test-sb3 test-all train docs clean
# Compiling is most of the tests' time, and takes less of it at this level.
test test-slow test-sb3: export XLA_FLAGS ?= --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false
test: .venv/.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

# That the siblings of an algorithm learn too, and other long proofs.
test-slow: .venv/.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

test-all: test test-slow

# What is skipped without Stable-Baselines3, which brings PyTorch: an environment of its own, of 6 GB.
test-sb3: .venv-sb3/.installed
	.venv-sb3/bin/python -m pytest tests/envs/test_bridges.py tests/test_docs.py -k "stable_baselines3 or exports"

.venv-sb3/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-sb3
	.venv-sb3/bin/python -m pip install --quiet --no-compile --editable '.[test,sb3]'
	touch $@

train: .venv/.installed
	$(BIN)/python scripts/ppo.py --env=brax/halfcheetah --out=runs

# The site, in build/site. Strict: a warning fails, such as a dead link or a name without a docstring.
docs: export JAX_PLATFORMS ?= cpu
docs: export NO_MKDOCS_2_WARNING = 1
docs: .venv-docs/.installed
	.venv-docs/bin/python -m mkdocs build --strict

.venv-docs/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --no-compile --editable '.[docs]'
	touch $@

# Python compiles the modules that are imported, when they are first: a fraction of what is installed.
.venv/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "onejit needs Python 3.11 or newer; choose it with make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-docs .venv-sb3 build .jax_cache .pytest_cache .ruff_cache onejit.egg-info
