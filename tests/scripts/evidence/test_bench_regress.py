"""bench_regress.py: pairs in turns, an interval worked by hand, and the verdict."""

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "evidence" / "bench_regress.py"
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")
# Says the seconds of its commit, shaken by the seed, and writes down that it was run.
STUB = """
import json, pathlib, sys

case, seed = (word.split("=")[1] for word in sys.argv[1:])
with pathlib.Path({log!r}).open("a") as file:
    file.write({name!r} + seed + " ")
shaken = 1.0 + 0.01 * (int(seed) % 3)
seconds = {{"compile_s": {compile_s} * shaken, "run_s": 2.0 / shaken, "cpu_s": 3.0 * shaken}}
print("talk")
print(json.dumps({{"case": case, "seed": int(seed), **seconds}}))
"""


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_regress", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_regress"] = module
    spec.loader.exec_module(module)
    return module


def commit(repository, files, name):
    for path, text in files.items():
        path = repository / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run([*GIT, "-C", repository, "add", "--all"], check=True)
    subprocess.run([*GIT, "-C", repository, "commit", "--quiet", "-m", name], check=True)
    subprocess.run([*GIT, "-C", repository, "tag", name], check=True)


@pytest.fixture
def repository(tmp_path):
    """Commits "first", "second", of which compiling takes 10 % longer, and "third", as fast as the
    second; and the file that says what was run.
    """
    folder = tmp_path / "repository"
    folder.mkdir()
    subprocess.run([*GIT, "init", "--quiet", folder], check=True)
    for name, compile_s in (("first", 10.0), ("second", 11.0), ("third", 11.0)):
        stub = STUB.format(log=str(tmp_path / "log"), name=name, compile_s=compile_s)
        commit(folder, {"scripts/evidence/bench_train.py": stub}, name)
    return folder, tmp_path / "log"


def regress(repository, out, *arguments):
    command = [sys.executable, SCRIPT, f"--repository={repository}", f"--out={out}", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_an_interval_by_hand(bench):
    # log-ratios ln 1.1 and ln 1.3: mean ln √1.43 = ln 1.19583, standard deviation
    # ln(1.3 / 1.1) / √2, half an interval t · that / √2 = t · 0.0835270. With one degree of freedom
    # the 75 % point of Student's t is tan(π/4) = 1: the level is 0.5.
    found = bench.change([1.0, 10.0], [1.1, 13.0], 0.5)
    assert found.ratio == pytest.approx(math.sqrt(1.43))
    assert found.low == pytest.approx(1.1) and found.high == pytest.approx(1.3)
    assert found.verdict == "slower"
    assert bench.change([1.1, 13.0], [1.0, 10.0], 0.5).verdict == "faster"
    # At level 0.05 the quantile is tan(0.475 π) = 12.7062, and nothing is shown.
    wide = bench.change([1.0, 10.0], [1.1, 13.0], 0.05)
    assert wide.low == pytest.approx(math.sqrt(1.43) * math.exp(-12.7062 * 0.0835270), rel=1e-4)
    assert wide.verdict == "within noise"


def test_pairs_are_of_one_seed_and_the_level_is_shared(bench):
    def line(side, seed, seconds, case="a"):
        return {"case": case, "side": side, "seed": seed} | dict.fromkeys(bench.MEASURES, seconds)

    lines = [line("before", 0, 1.0), line("after", 1, 20.0), line("before", 1, 10.0)]
    lines += [line("after", 0, 2.1), line("before", 2, 5.0), line("before", 0, 1.0, "alone")]
    # 2.1 and 2, not 20 and 0.21; the seed 2 and the case "alone" have no neighbour.
    found = bench.changes(lines)
    assert set(found) == {("a", measure) for measure in bench.MEASURES}
    assert found["a", "run_s"] == bench.change([1.0, 10.0], [2.1, 20.0], 0.05 / 3)


@pytest.mark.slow
def test_a_slower_commit_is_told_once_and_for_all(repository, tmp_path):
    folder, log = repository
    out = tmp_path / "regress.jsonl"
    done = regress(folder, out, "first", "second", "--cases=toy", "--repeats=5")
    assert done.returncode == 1, done.stderr
    assert "| toy | compile_s | 10.1 | 11.11 | 1.100 | 1.100 to 1.100 | slower |" in done.stdout
    assert done.stdout.count("within noise") == 2
    assert done.stdout.endswith("slower beyond noise: toy (compile_s)\n")
    # In turns, and who comes first changes.
    ran = "first0 second0 second1 first1 first2 second2 second3 first3 first4 second4 "
    assert log.read_text() == ran
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["side"] for line in lines[:3]] == ["before", "after", "after"]
    assert all(re.fullmatch("[0-9a-f]{7,}", each) for each in lines[0]["commits"].values())
    again = regress(folder, out, "first", "second", "--cases=toy", "--repeats=5")
    assert (again.returncode, again.stdout) == (1, done.stdout)
    assert log.read_text() == ran


@pytest.mark.slow
def test_equals_are_equal_and_head_is_after(repository, tmp_path):
    done = regress(repository[0], tmp_path / "out", "second", "--cases=toy", "--repeats=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("slower beyond noise: nothing\n")
    assert "third0" in repository[1].read_text()


@pytest.mark.slow
def test_what_is_no_commit_is_refused(repository, tmp_path):
    done = regress(repository[0], tmp_path / "out", "nowhere")
    assert done.returncode == 1 and done.stderr == "nowhere: is no commit of repository\n"
    assert regress(repository[0], tmp_path / "out").returncode == 1


@pytest.mark.slow
def test_two_commits_train(tmp_path):
    """The package as it is here, twice, with a short case."""
    folder = tmp_path / "repository"
    folder.mkdir()
    subprocess.run([*GIT, "init", "--quiet", folder], check=True)
    files = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "*.py"], check=True, capture_output=True, text=True
    ).stdout.split()
    sources = {name: (ROOT / name).read_text() for name in files if not name.startswith("tests/")}
    name = "scripts/evidence/bench_train.py"
    long = '"ppo_cartpole": Case("gymnax/CartPole-v1", 499_712)'
    assert sources[name].count(long) == 1
    sources[name] = sources[name].replace(long, long.replace("499_712", "4_096"))
    commit(folder, sources, "first")
    commit(folder, {"notes": "nothing else"}, "second")
    out = tmp_path / "out"
    done = regress(folder, out, "first", "--cases=ppo_cartpole", "--repeats=2")
    assert "| ppo_cartpole | compile_s |" in done.stdout, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["side"], line["seed"]) for line in lines] == [
        *(("before", 0), ("after", 0)),
        *(("after", 1), ("before", 1)),
    ]
    assert {line["steps"] for line in lines} == {4_096}
    assert lines[0]["final_return"] == lines[1]["final_return"]
    assert lines[0]["versions"]["device"] and lines[0]["command"].startswith("python scripts/")
