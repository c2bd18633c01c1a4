"""The site as mkdocs sees it: which files are pages, the navigation, and what is appended to them.

The site has the folders of the repository, README.md at its root, so that links need not be
written anew. What a page of `docs/algorithms/` does not say itself is generated, see `generated`.
"""

import logging
import re
from pathlib import Path

import generated
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "build" / "package" / "onejit"  # where mkdocstrings finds the package by its name
LOG = logging.getLogger("mkdocs.hooks")

# The guides in the order in which they are read. A page that none of these has is found too, and
# stands at the end of "Guides".
SECTIONS = {
    "Start": ["README.md", "docs/guide.md", "docs/coming_from.md", "CHANGELOG.md"],
    "Guides": [
        "docs/policies.md",
        "docs/own_robot.md",
        "docs/truncation.md",
        "docs/metrics.md",
        "docs/performance.md",
        "docs/sweeps.md",
        "docs/devices.md",
        "docs/offline.md",
        "docs/tokens.md",
        "docs/memory.md",
        "docs/certificates.md",
        "docs/reliability.md",
    ],
    "Algorithms": ["docs/algorithms/index.md"],
    "Losses": ["docs/losses.md", "docs/objectives.md"],
    "Results": [
        "docs/results.md",
        "docs/papers.md",
        "docs/speed.md",
        "docs/mujoco.md",
        "docs/gymnasium.md",
        "BUILD_NOTES.md",
    ],
}


def sections() -> dict[str, list[str]]:
    """The paths of the pages by section of the navigation, from the root of the repository."""
    found = {name: [p for p in paths if (ROOT / p).exists()] for name, paths in SECTIONS.items()}
    known = {path for paths in found.values() for path in paths}
    guides = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
    found["Guides"] += [path for path in guides if path not in known]
    found["Algorithms"] += [f"docs/algorithms/{name}.md" for name in generated.papers()]
    found["API"] = [f"api/{name}.md" for name in generated.api_pages()]
    return found


def linked(page: Path) -> set[str]:
    """The files of the repository that a page links or shows and that are no pages, from its root;
    a folder is not one.
    """
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s#]+)", text) + re.findall(r'src="([^"]+)"', text)
    inside = [(page.parent / x).resolve() for x in links if "://" not in x]
    files = [path for path in inside if path.is_file() and path.suffix != ".md"]
    return {path.relative_to(ROOT).as_posix() for path in files}


def on_startup(command, dirty):
    """The package under its own name, which the repository's folder need not have; before
    mkdocstrings looks for what is there.
    """
    del command, dirty
    PACKAGE.mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", "losses", "envs", "algos"):
        (PACKAGE / name).unlink(missing_ok=True)
        (PACKAGE / name).symlink_to(ROOT / name)


def on_config(config):
    """The navigation."""
    config.nav = [{name: paths} for name, paths in sections().items()]
    for problem in generated.undocumented():
        LOG.warning("%s has no docstring", problem)
    return config


def on_files(files, config):
    """All pages, and the files that they lead to."""
    api = generated.api_pages()
    pages = [path for paths in sections().values() for path in paths]
    for path in pages:
        if path.startswith("api/"):
            text = api[Path(path).stem]
            files.append(File.generated(config, path, content=text))
        else:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    texts = [ROOT / path for path in pages if not path.startswith("api/")]
    for path in sorted(set().union(*map(linked, texts))):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """A page of an algorithm with what is generated; in it names of functions are links."""
    path = Path(page.file.src_uri)
    if path.parent.as_posix() == "docs/algorithms" and path.stem in generated.papers():
        return generated.algorithm_page(path.stem, markdown)
    return markdown
