"""Learning curves: the mean over seeds with a 95 % interval, or one line for one seed."""

from pathlib import Path

import numpy as np

from . import logs

_SERIES = {
    "charts/episodic_return": ("training episodes", "C0"),
    "eval/episodic_return": ("evaluation, deterministic", "C1"),
}


def interval_of_mean(
    values: np.ndarray, *, level: float = 0.95, samples: int = 2000
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over seeds.

    Args:
      values: `[R, seeds]`; NaN entries are left out.
      level: probability that the interval is to cover.
      samples: bootstrap samples, drawn with a fixed seed.

    Returns:
      (low, high), both `[R]`.
    """
    rng = np.random.default_rng(0)
    choice = rng.integers(values.shape[1], size=(samples, values.shape[1]))
    means = np.stack([_nanmean(row[choice]) for row in values])
    tail = 50.0 * (1.0 - level)
    return np.nanpercentile(means, tail, axis=1), np.nanpercentile(means, 100.0 - tail, axis=1)


def _nanmean(values: np.ndarray) -> np.ndarray:
    count = np.sum(np.isfinite(values), axis=-1)
    return np.where(count > 0, np.nansum(values, axis=-1) / np.maximum(count, 1), np.nan)


def plot_curve(folder: Path, title: str) -> Path:
    """Draws a run's returns against environment steps into `curve.png`.

    Args:
      folder: the run folder, with its log.
      title: of the figure.

    Returns:
      The path of the picture.
    """
    from matplotlib.figure import Figure

    rows = logs.read(folder)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, (label, colour) in _SERIES.items():
        steps, values = logs.column(rows, name)
        known = np.any(np.isfinite(values), axis=1) if values.size else np.zeros(0, bool)
        steps, values = steps[known], values[known]
        if not len(steps):
            continue
        marker = "o" if len(steps) < 15 else None
        axes.plot(steps, _nanmean(values), color=colour, label=label, marker=marker, markersize=4)
        if values.shape[1] > 1:
            low, high = interval_of_mean(values)
            axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
    seeds = max((logs.column(rows, name)[1].shape[1] for name in _SERIES), default=1)
    note = f"mean of {seeds} seeds with 95 % interval" if seeds > 1 else "one seed"
    axes.set(xlabel="steps", ylabel="episode return", title=f"{title}\n{note}")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="best", frameon=False)
    path = folder / "curve.png"
    figure.savefig(path, dpi=130)
    return path


def plot_sweep(path: Path, settings: dict[str, list], returns: np.ndarray, title: str) -> None:
    """Draws the evaluated returns of a sweep: a heat map for a grid of two hyperparameters, a line
    with the 95 % interval over seeds for one, and else a panel of points for each.

    Args:
      path: of the picture.
      settings: a column `[C]` for each hyperparameter.
      returns: `[C, seeds]`.
      title: of the figure.
    """
    from matplotlib.figure import Figure

    names = [name for name in settings if len(set(settings[name])) > 1] or list(settings)[:1]
    values = {name: sorted(set(settings[name])) for name in names}
    places = list(zip(*(settings[name] for name in names), strict=True))
    seeds = returns.shape[1]
    note = f"evaluated return, mean of {seeds} seeds" if seeds > 1 else "evaluated return, one seed"
    whole = np.prod([len(each) for each in values.values()]) == len(places) == len(set(places))
    if len(names) == 2 and whole:
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        _heat_map(figure, axes, values, dict(zip(places, _nanmean(returns), strict=True)), note)
    else:
        width = 1.6 + 4.8 * len(names)
        figure = Figure(figsize=(min(20.0, width), 4.4), layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        for axes, name in zip(panels, names, strict=True):
            _settings_against(axes, name, settings[name], returns, line=len(names) == 1)
        interval = "\nwith 95 % interval" if seeds > 1 else ""
        panels[0].set_ylabel(note + interval)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def _heat_map(figure, axes, values, means, note) -> None:
    (across, columns), (down, rows) = values.items()
    table = np.array([[means[column, row] for column in columns] for row in rows])
    image = axes.imshow(table, aspect="auto", origin="lower", cmap="viridis")
    axes.set_xticks(range(len(columns)), [_tick(each) for each in columns])
    axes.set_yticks(range(len(rows)), [_tick(each) for each in rows])
    axes.set(xlabel=across, ylabel=down)
    low, high = np.nanmin(table), np.nanmax(table)
    for (row, column), mean in np.ndenumerate(table):
        colour = "black" if mean > (low + high) / 2 else "white"
        axes.text(column, row, f"{mean:.1f}", ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axes, label=note)


def _settings_against(axes, name, column, returns, line) -> None:
    """Each setting's mean and interval at its value of a hyperparameter."""
    means = _nanmean(returns)
    low, high = interval_of_mean(returns) if returns.shape[1] > 1 else (means, means)
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in column)
    ticks = sorted(set(column))
    x = np.array(column, float) if numeric else np.array([ticks.index(each) for each in column])
    order = np.argsort(x, kind="stable")
    x, means, low, high = x[order], means[order], low[order], high[order]
    axes.errorbar(x, means, (means - low, high - means), marker="o", ls="-" if line else "none")
    if not numeric:
        axes.set_xticks(range(len(ticks)), [_tick(each) for each in ticks])
        axes.margins(x=0.3)
    elif x.min() > 0 and x.max() / x.min() >= 10:
        axes.set_xscale("log")
    axes.set_xlabel(name)
    axes.grid(alpha=0.3)


def _tick(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def plot_certificates(path: Path, cells: list[dict], title: str) -> None:
    """Draws certified lower bounds and attacked returns against the adversary's budget, a colour
    for each sigma.

    Args:
      path: of the picture.
      cells: a dict for each sigma: "sigma"; "certified", at the budgets "experiment" → "budgets",
        where there is a certificate; "attacked" and its standard error "attacked_sem", at the
        budgets "experiment" → "attack_budgets"; "experiment" → "success_threshold", if these are
        probabilities.
      title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for i, cell in enumerate(cells):
        style = {"color": f"C{i}"}
        if "certified" in cell:
            label = f"σ = {cell['sigma']:g}: certified"
            axes.plot(cell["experiment"]["budgets"], cell["certified"], label=label, **style)
        label = f"σ = {cell['sigma']:g}: attacked" if cell["sigma"] else "undefended: attacked"
        attacked = (cell["experiment"]["attack_budgets"], cell["attacked"], cell["attacked_sem"])
        axes.errorbar(*attacked, label=label, marker="o", markersize=4, linestyle=":", **style)
    success = cells[0]["experiment"]["success_threshold"] is not None
    what = "probability of success" if success else "expected return"
    axes.set(xlabel="adversary's budget, L2 norm over an episode", ylabel=what, title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
