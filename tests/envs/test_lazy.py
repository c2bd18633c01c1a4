"""What is not used is not imported: one waits for it at each start."""

import sys

import pytest

from onejit.envs.lazy import imported_when_used

PACKAGE = ("heavy_package", "heavy_package.module")


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """A package with a module; how much of it has been imported."""
    (tmp_path / "heavy_package").mkdir()
    (tmp_path / "heavy_package" / "__init__.py").write_text("size = 2\n")
    (tmp_path / "heavy_package" / "module.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: {name for name in PACKAGE if name in sys.modules}
    for name in PACKAGE:
        sys.modules.pop(name, None)


def test_a_module_is_imported_when_it_is_used(imported):
    with imported_when_used(*PACKAGE):
        import heavy_package
        import heavy_package.module as module
        from heavy_package import module as the_same
    assert module is the_same
    assert imported() == set()
    assert module.double(4) == 8
    assert heavy_package.size == 2
    assert imported() == set(PACKAGE)
    with pytest.raises(AttributeError, match="nothing"):
        _ = heavy_package.nothing


def test_a_module_that_is_used_at_once_is_imported_at_once(imported):
    with imported_when_used(*PACKAGE):
        import heavy_package

        assert heavy_package.size == 2
        assert sys.modules["heavy_package"].size == 2
    assert imported() == {"heavy_package"}


def test_what_is_imported_already_is_left_alone(imported):
    import heavy_package.module

    with imported_when_used(*PACKAGE):
        import heavy_package.module as module
    assert module is heavy_package.module is sys.modules[PACKAGE[1]]


def test_an_error_leaves_no_stand_in(imported):
    with pytest.raises(ZeroDivisionError), imported_when_used(*PACKAGE):
        raise ZeroDivisionError
    assert imported() == set()


@pytest.mark.slow
def test_what_gymnax_draws_with_is_there_when_it_draws():
    from onejit import envs

    envs.make("gymnax/Pong-misc")
    from gymnax.environments.misc import pong

    assert callable(pong.plt.subplots) and callable(pong.sns.color_palette)
    assert pong.colors.ListedColormap(["red"]).N == 1
