"""The house in numbers: `python scripts/evidence/house.py CHECKOUT`, this one by default.

Prints how many files each folder has and its longest, how many imports go from paper to paper and
from one folder of algos/ to another, and in how many lines of code siblings differ: docstrings,
imports and `__all__` left out, formatted to 100 characters, lines that only the first has and lines
that only the second has.
"""

import ast
import difflib
import subprocess
import sys
from pathlib import Path

PAPERS = [
    "ppo",
    "spo",
    "mdpo",
    "ppo_ewma",
    "td3",
    "fast_td3",
    "sac",
    "fast_sac",
    "mdpo_off_policy",
    "staq",
]
SIBLINGS = [("ppo", "spo"), ("td3", "fast_td3"), ("sac", "fast_sac"), ("sac", "mdpo_off_policy")]
FOLDERS = ("losses", "envs", "algos", "scripts")


def code(path: Path) -> list[str]:
    """The lines of a module that are an algorithm's own."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    exports = "__all__ = "
    tree.body = [
        node
        for node in tree.body
        if not isinstance(node, ast.Import | ast.ImportFrom)
        and not ast.unparse(node).startswith(exports)
    ]
    command = [sys.executable, "-m", "ruff", "format", "--line-length=100", "-"]
    formatted = subprocess.run(
        command, input=ast.unparse(tree), capture_output=True, text=True, check=True
    ).stdout
    return [line for line in formatted.splitlines() if line.strip()]


def relative_imports(root: Path, path: Path):
    """The modules, as parts from the root, that the relative imports of a file lead to."""
    folder = path.relative_to(root).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) - node.level + 1]
            module = tuple(node.module.split(".")) if node.module else ()
            for alias in node.names:
                target = (*base, *module, alias.name)
                is_module = root.joinpath(*target).with_suffix(".py").is_file()
                yield target if is_module else target[:-1]


def main(root: Path) -> None:
    """Prints the numbers."""
    print("| folder | files | longest, lines |\n|---|---|---|")
    for top in FOLDERS:
        for folder in sorted({path.parent for path in (root / top).rglob("*.py")}):
            lengths = [len(path.read_text().splitlines()) for path in folder.glob("*.py")]
            print(f"| {folder.relative_to(root)} | {len(lengths)} | {max(lengths)} |")
    to_papers = rooms = 0
    for path in (root / "algos").rglob("*.py"):
        here = path.relative_to(root).with_suffix("").parts
        for target in set(relative_imports(root, path)):
            is_paper = len(here) == 2 and here[1] in PAPERS
            to_papers += is_paper and target in {("algos", each) for each in PAPERS}
            rooms += target[:1] == ("algos",) and target[:-1] != here[:-1]
    print(f"\nimports from paper to paper: {to_papers}; between folders of algos/: {rooms}\n")
    print("| siblings | lines | only the first | only the second |\n|---|---|---|---|")
    for pair in SIBLINGS:
        first, second = (code(root / "algos" / f"{name}.py") for name in pair)
        changed = list(difflib.unified_diff(first, second, n=0, lineterm=""))[2:]
        minus, plus = (sum(line.startswith(sign) for line in changed) for sign in "-+")
        print(f"| {', '.join(pair)} | {len(first)}, {len(second)} | {minus} | {plus} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2])
