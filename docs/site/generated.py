"""What a page of an algorithm says that the code says already: its docstring, command, Config,
presets, metrics and functions; and its rows in the tables of what was measured. And the API pages.

Everything here is Markdown as text, made from the modules and from docs/; nothing is computed but
shapes.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEASURED = ("results", "papers", "offline", "memory", "speed")
# What has no probe that suits it is traced on these.
ENVIRONMENTS = {"pathwise": "inventory/store"}


def papers() -> list[str]:
    """The modules of `onejit.algos` that are an algorithm each."""
    files = sorted((ROOT / "algos").glob("*.py"))
    return [path.stem for path in files if re.search(r"^class Config\b", path.read_text(), re.M)]


def module_of(name: str):
    """`onejit.algos.NAME`."""
    return importlib.import_module(f"onejit.algos.{name}")


def escaped(text: str) -> str:
    """Text as it stands in the cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


def first_sentence(text: str | None) -> str:
    """The first paragraph of a docstring."""
    return escaped((text or "").strip().split("\n\n")[0])


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# What the code says.


def target(thing) -> tuple[str, str]:
    """(the identifier of its entry in the API, its docstring) of a function, class, partial of one,
    or what a maker has made.
    """
    while isinstance(thing, functools.partial):
        thing = thing.func
    name = thing.__qualname__.split(".<locals>")[0]
    return f"{thing.__module__}.{name}", inspect.getdoc(thing) or ""


def reference(module, text: str) -> str | None:
    """The identifier of what a name means in a module, or as `losses.…`, if it is a function or
    class of onejit.
    """
    first, *rest = text.split(".")
    losses = importlib.import_module("onejit.losses")
    thing = getattr(module, first, losses if first == "losses" else None)
    for part in rest:
        thing = getattr(thing, part, None)
    if thing is None or not (callable(thing) or isinstance(thing, functools.partial)):
        return None
    identifier, _ = target(thing)
    return identifier if identifier.startswith("onejit.") else None


def with_links(module, markdown: str) -> str:
    """Markdown with links where `names` in code font are functions or classes of onejit."""

    def link(match):
        found = reference(module, match[1])
        return f"[{match[0]}][{found}]" if found else match[0]

    return re.sub(r"(?<!\[)`([A-Za-z_]\w*(?:\.\w+)*)`", link, markdown)


def config_tables(config_class: type) -> str:
    """The fields of a Config: those of the algorithm itself, and those that it shares."""
    own = inspect.get_annotations(config_class)
    rows = {True: [], False: []}
    for field in dataclasses.fields(config_class):
        kind = "static" if field.metadata["static"] else "traced"
        cells = [f"`{field.name}`", f"`{field.default!r}`", kind, escaped(field.metadata["doc"])]
        rows[field.name in own].append(cells)
    head = ["field", "default", "", "what it is"]
    parts = [table(head, rows[True])] if rows[True] else ["It has no field of its own."]
    shared = "\n".join(f"    {line}" for line in table(head, rows[False]).splitlines())
    fold = "???" if rows[True] else "???+"  # open where there is nothing else
    parts.append(f'{fold} note "{len(rows[False])} fields that it shares with others"\n\n{shared}')
    return "\n\n".join(parts)


def preset_table(name: str) -> str:
    """The presets of an algorithm: environment and what differs from the defaults."""
    presets = importlib.import_module("onejit.algos.host.presets").PRESETS.get(name, {})
    if not presets:
        return "There are none: the scripts take the defaults everywhere."
    rows = [
        [f"`{env_id}`", ", ".join(f"`{key}={value!r}`" for key, value in preset.items())]
        for env_id, preset in presets.items()
    ]
    return table(["environment", "what differs from the defaults"], rows)


def command(name: str) -> str:
    """The command that the script's docstring gives."""
    docstring = ast.get_docstring(ast.parse((ROOT / "scripts" / f"{name}.py").read_text()))
    return re.search(r"`(python scripts/[^`]+)`", docstring)[1]


def function_table(module) -> str:
    """The public names of an algorithm's module, with a link to each."""
    rows = []
    for name in module.__all__:
        identifier, docstring = target(getattr(module, name))
        rows.append([f"[`{name}`][{identifier}]", first_sentence(docstring)])
    return table(["name", "what it is"], rows)


@functools.cache
def metric_names(name: str) -> tuple[str, ...]:
    """The names of the metrics of a step, by shapes alone."""
    import jax

    module = module_of(name)
    if name in ENVIRONMENTS:
        env = _envs().make(ENVIRONMENTS[name])
    else:
        env = _envs().make("probe/observation", continuous=True)
    offline = importlib.import_module("onejit.algos.off_policy.offline").OfflineConfig
    beside = {"data": _data(env)} if issubclass(module.Config, offline) else {}
    algorithm = module.make(env, module.Config(), **beside)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    return tuple(sorted(jax.eval_shape(algorithm.step, state)[1]))


def _envs():
    return importlib.import_module("onejit.envs")


def _data(env):
    """A few steps of a one-step task, which are all that shapes need."""
    import numpy as np

    size = 8
    obs = np.zeros((size, *env.observation_space.shape), np.float32)
    return importlib.import_module("onejit.algos").dataset.from_arrays(
        env,
        obs=obs,
        action=np.linspace(-1.0, 1.0, size, dtype=np.float32).reshape(-1, 1),
        reward=np.zeros(size, np.float32),
        terminated=np.zeros(size, bool),
        truncated=np.arange(size) == size - 1,
        next_obs=obs,
    )


def metric_texts() -> dict[str, str]:
    """What docs/metrics.md says of each metric."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    return dict(re.findall(r"^\| `((?:charts|losses|eval)/\w+)` \| (.+?) \|$", text, re.M))


# What was measured.


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page of results, or a list's item with a name, which is an intro alone.

    Attributes:
      where: a link to its section, from docs/algorithms/.
      intro: the paragraph before it, which says what was run; "" where there is none.
      head: its first row.
      rows: the others.
      figures: the images that follow it.
    """

    where: str
    intro: str
    head: list[str]
    rows: list[list[str]]
    figures: list[str]


@functools.cache
def result_tables() -> list[Table]:
    """All tables of the pages of results, with their links as from docs/algorithms/."""
    found = []
    for page in MEASURED:
        text = (ROOT / "docs" / f"{page}.md").read_text()
        page_title = text.split("\n")[0].removeprefix("# ")
        for part in re.split(r"^## ", text, flags=re.M)[1:]:
            part = re.sub(r"\]\((?!https?:)", "](../", part)
            section, *blocks = re.split(r"\n\n+", part.strip())
            where = f"[{page_title}: {section}](../{page}.md#{anchor(section)})"
            tables = []
            for before, block in zip([""] + blocks, blocks, strict=False):
                if block.startswith("|"):
                    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
                    cells = [[cell.strip() for cell in line] for line in lines]
                    intro = "" if before.startswith(("|", "!")) else before
                    tables.append(Table(where, intro, cells[0], cells[2:], []))
                elif block.startswith("![") and tables:
                    tables[-1].figures.append(block)
                for item in re.split(r"^\* (?=\*\*)", block, flags=re.M)[1:]:
                    tables.append(Table(where, " ".join(item.split()), [], [], []))
            found += tables
    return found


@functools.cache
def titles() -> dict[str, str]:
    """The title of each algorithm's page."""
    pages = {name: ROOT / "docs" / "algorithms" / f"{name}.md" for name in papers()}
    return {
        name: path.read_text().split("\n")[0].removeprefix("# ") for name, path in pages.items()
    }


def is_about(cell: str, title: str) -> bool:
    """Whether the first cell of a row, or of a column, names the algorithm of this title, and not
    one whose title begins with it.
    """
    cell = cell.replace("*", "").removeprefix("drift: ")
    named = [x for x in titles().values() if re.match(rf"{re.escape(x)}(?![\w+-])", cell)]
    return bool(named) and max(named, key=len) == title


def anchor(section: str) -> str:
    """As GitHub and mkdocs both write it."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", section).strip().lower())


def measured(title: str) -> str:
    """The rows, columns and items of the pages of results that are about an algorithm, with what
    was run, a link to the section and its figures; tables whole that are about it first of all.
    """
    parts = []
    for each in result_tables():
        rows, named = [], False
        for row in each.rows:  # a row without a name belongs to the one above it
            named = is_about(row[0], title) if row[0] else named
            rows += [row] if named else []
        head = each.head
        columns = [i for i, cell in enumerate(head) if i and is_about(cell, title)]
        if columns:
            kept = [0, *([1] if head[1] == "its own" else []), *columns]
            rows = [[row[i] for i in kept] for row in each.rows]
            head = [head[i] for i in kept]
        if is_about(each.intro, title):
            head, rows = each.head, each.rows
        if not (rows or is_about(each.intro, title)):
            continue
        if any("arxiv.org" in cell for row in rows for cell in row):
            continue  # a list of papers
        parts += [f"From {each.where}:"] if f"From {each.where}:" not in parts else []
        parts += [each.intro] if each.intro else []
        parts += [table(head, rows)] if rows else []
        parts += [f'??? example "Figure"\n\n    {figure}' for figure in each.figures]
    return "\n\n".join(parts)


def algorithm_page(name: str, markdown: str) -> str:
    """A page of `docs/algorithms/` with what is generated behind what is written by hand."""
    module = module_of(name)
    texts = metric_texts()
    metrics = [[f"`{each}`", texts.get(each, "")] for each in metric_names(name)]
    parts = [
        with_links(module, markdown).rstrip(),
        measured(titles()[name]),
        "## What one step is, and what differs",
        with_links(module, inspect.cleandoc(module.__doc__)),
        "## Command",
        f"```\n{command(name)}\n```",
        f"`onejit {name}` is the same from anywhere; `--help` explains its flags.",
        "## Config",
        config_tables(module.Config),
        "### Presets",
        "What the script takes for an environment unless a flag says otherwise.",
        preset_table(name),
        "## Metrics",
        table(["name", "what it is"], metrics),
        "## Code",
        function_table(module),
        f"::: onejit.algos.{name}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# The API.


def packages() -> dict[str, list[str]]:
    """The modules of each package below losses, envs and algos that are not an algorithm's."""
    found = {}
    for top in ("losses", "envs", "algos"):
        for path in sorted((ROOT / top).rglob("*.py")):
            package = ".".join(path.relative_to(ROOT).parts[:-1])
            found.setdefault(package, [])
            if path.stem[0] != "_" and not (package == "algos" and path.stem in papers()):
                found[package].append(f"onejit.{package}.{path.stem}")
    return found


def api_pages() -> dict[str, str]:
    """The Markdown of the page of each package, by its name."""
    pages = {}
    for package, modules in packages().items():
        docstring = ast.get_docstring(
            ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
        )
        parts = [f"# {package}", docstring or "", *(f"::: {module}" for module in modules)]
        pages[package] = "\n\n".join(parts) + "\n"
    return pages


def undocumented() -> list[str]:
    """Public modules, functions, classes and methods that have no docstring."""
    found = []

    def visit(node, name):
        if not ast.get_docstring(node):
            found.append(name)
        for each in node.body if not isinstance(node, ast.FunctionDef) else ():
            if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name[0] != "_":
                visit(each, f"{name}.{each.name}")

    for top in ("losses", "envs", "algos"):
        for path in sorted((ROOT / top).rglob("*.py")):
            visit(
                ast.parse(path.read_text()), ".".join(path.relative_to(ROOT).with_suffix("").parts)
            )
    return found
