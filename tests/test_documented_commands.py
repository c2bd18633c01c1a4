"""What README and docs/ tell their reader to type: each page in a folder of its own, from top to
bottom, as printed but for flags behind it that make it small.
"""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from onejit import __main__ as command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BEGINS = r"(?:python scripts/\S+\.py|onejit \w+|make \w+)"

RUN = ["--eval_episodes=4", "--num_evals=1", "--num_logs=1", "--norecord"]
ON_POLICY = [*RUN, "--num_envs=4", "--num_steps=8", "--num_minibatches=1", "--hidden_sizes=8"]
OFF_POLICY = [*RUN, "--batch_size=8", "--actor_hidden_sizes=8", "--critic_hidden_sizes=8"]
OFF_POLICY += ["--learning_starts=50", "--buffer_size=400"]
SHORT = ["--total_steps=64"]
SWEEP = [*ON_POLICY[:1], *ON_POLICY[2:3], *ON_POLICY[4:], "--num_seeds=2", "--total_steps=320"]
TOKENS = [*RUN[:3], "--env_options=depth=1", "--num_prompts=4", "--hidden_size=8"]
TOKENS += ["--num_seeds=1", "--total_steps=128"]
# These are better than a random policy, as an expert must be.
POLICY = [*RUN, "--num_seeds=3", "--num_envs=8", "--num_steps=64", "--hidden_sizes=16"]
POLICY += ["--learning_rate=3e-3", "--total_steps=15000"]
EXPERT = [*RUN, "--batch_size=64", "--actor_hidden_sizes=32,32", "--critic_hidden_sizes=32,32"]
EXPERT += ["--learning_starts=500", "--learning_rate=3e-3", "--gamma=0.95", "--total_steps=4000"]
DATA = ["--episodes=8", "--steps=64", "--envs=4"]
CERTIFY = ["--env_options=max_steps_in_episode=8", "--sigmas=0.2", "--num_frames=2", "--budgets=0"]
CERTIFY += ["--changes=total_steps=2048", "--changes=hidden_sizes=(8,)", "--attack_budgets=0.2"]
CERTIFY += ["--strengths=0", "--episodes=50", "--attack_episodes=4"]

# What a command gets behind it, by how it begins; the first that fits. None: it needs what a test
# does not have, so that its flags alone are looked at.
SMALL = [
    ("python scripts/ppo.py --resume", ["--total_steps=128", *RUN]),
    ("python scripts/ppo.py --env=playground", None),  # a robot's model
    ("python scripts/fast_td3.py --env=playground", None),
    ("python scripts/fast_sac.py --env=playground", None),
    ("python scripts/ppo.py --out=/shared", None),  # several hosts: tests/algos/host
    ("python scripts/ppo.py --env=brax", [*ON_POLICY, *SHORT, "--env_options=episode_length=10"]),
    ("python scripts/ppo.py", [*ON_POLICY, *SHORT]),
    ("python scripts/sac.py --total_steps", EXPERT),
    ("python scripts/sac.py", [*OFF_POLICY, "--total_steps=96"]),
    ("python scripts/td3_bc.py", [*OFF_POLICY[:-2], "--num_updates=4", "--total_steps=16"]),
    ("python scripts/dataset.py --mix", []),
    ("python scripts/dataset.py", DATA),
    ("python scripts/sweep.py --algorithm=sac", [*OFF_POLICY, "--total_steps=96"]),
    ("python scripts/sweep.py", SWEEP),
    ("python scripts/tokens.py", TOKENS),
    ("python scripts/export.py", []),
    ("python scripts/to_onnx.py", None),  # an environment of its own
    ("python scripts/evidence/mujoco_table.py --table", []),
    ("python scripts/evidence", None),  # tests/scripts/evidence
    ("onejit sweep", SWEEP),
    ("onejit dataset", DATA),
    ("onejit certify", CERTIFY),
    ("onejit", []),
    ("make", None),
]


def blocks(page):
    """The commands in the blocks of a page, in their order."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for kind, fence in fences if not kind for line in fence.splitlines()]
    found = [re.search(rf"{BEGINS}.*", line) for line in lines]
    # In another program's argument a command ends with the quote that it began with.
    typed = [each[0] if each.start() == 0 else each[0].rstrip('"') for each in found if each]
    return [shlex.join(shlex.split(line, comments=True)) for line in typed]


def mentioned(page):
    """The commands in the sentences of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = re.findall(rf"`({BEGINS}[^`]*)`", re.sub(r"\s*\n\s*", " ", text))
    return [each for each in found if "…" not in each]


def smaller(line):
    """What the command gets behind it, or None."""
    return next(more for begins, more in SMALL if line.startswith(begins))


def run(line, monkeypatch):
    """The exit code of a command, in this process."""
    first, *words = shlex.split(line)
    if first == "onejit":
        call, argv = command.main, ["onejit", *words]
    else:
        call = lambda: runpy.run_path(str(ROOT / words[0]), run_name="__main__")  # noqa: E731
        argv = words
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as caught:
        call()
    return caught.value.code or 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_of_scripts_and_flags_that_there_are(page):
    for line in blocks(page) + mentioned(page):
        first, name, *words = shlex.split(line)
        if first == "make":
            assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
            continue
        if first == "onejit":
            assert name in command.ALGORITHMS | command.OTHERS, line
            continue
        source = (ROOT / name).read_text()
        assert name.startswith("scripts/"), line
        if "/evidence/" not in name:
            continue
        for word in words:
            flag = re.match(r"--(?:no)?(\w+)", word)
            assert flag is None or f'"{flag[1]}"' in source or f'"no{flag[1]}"' in source, line


def follow(page, folder, monkeypatch):
    """Types the commands of a page's blocks in an empty folder."""
    monkeypatch.chdir(folder)
    if page.name in ("guide.md", "export.md"):  # which begin with a run that is there
        assert run(shlex.join(["onejit", "ppo", *POLICY]), monkeypatch) == 0
    first_run = next(Path("runs").glob("*"), None)
    for line in blocks(page):
        more = smaller(line)
        if more is None:
            continue
        if "runs/FOLDER" in line:
            line = line.replace("runs/FOLDER", f"runs/{first_run.name}")
        assert run(shlex.join([*shlex.split(line), *more]), monkeypatch) == 0, line
        first_run = first_run or next(Path("runs").glob("*"), None)


# Of docs/devices.md where there are several: tests/algos/core/forced_devices.py.
@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if page.name != "devices.md" and any(smaller(line) is not None for line in blocks(page))
    ],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_commands_of_blocks_run(page, tmp_path, monkeypatch):
    follow(page, tmp_path, monkeypatch)
