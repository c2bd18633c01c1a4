"""One of several processes, as `test_processes.py` starts them.

`joined.py FOLDER [--kill=PROCESS] [--signal] FLAGS` runs the script of SAC with these flags. Each
process leaves in FOLDER a file with what its own device has of the State at each save. Before a
save of iteration 4 or later one kills itself; at that of iteration 4 all get a signal.
`joined.py FOLDER --restore` prints what is in the last checkpoint of FOLDER's run, on 1, 2 and 4
devices.
"""

import functools
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np

from onejit import algos, envs
from onejit.algos import sac
from onejit.algos.host import checkpoint, cli, processes, run_folder


def digest(tree):
    """Of the first device's part."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found.update(np.asarray(leaf.addressable_data(0)).tobytes())
    return found.hexdigest()


def run(folder, argv):
    killed = next((each for each in argv if each.startswith("--kill=")), None)
    save = checkpoint.save

    @functools.wraps(save)
    def watched(saves, iteration, state, *args, **kwargs):
        index = jax.process_index()
        found = {"learner": digest(state.learner), "key": digest(state.key)}
        (folder / f"{iteration}-{index}.json").write_text(json.dumps(found))
        if iteration >= 4 and killed == f"--kill={index}":
            os.kill(os.getpid(), signal.SIGKILL)
        if iteration == 4 and "--signal" in argv:
            os.kill(os.getpid(), signal.SIGTERM)
        return save(saves, iteration, state, *args, **kwargs)

    checkpoint.save = watched
    flags = [each for each in argv if each != "--signal" and not each.startswith("--kill")]
    cli.main(sac, ["sac.py", *flags])


def restore(folder):
    [saves] = folder.glob("runs/*/checkpoints")
    run = run_folder.read(saves.parent)
    env = envs.make(run["env"], **run["env_options"])
    algorithm = sac.make(env, sac.Config(**run["config"]))
    like = jax.eval_shape(algorithm.init, jax.random.key(0))
    found = []
    for number in (1, 2, 4):
        shapes = like
        if number > 1:
            shardings = algos.distribute(algorithm, algos.make_mesh(number)).shardings
            shapes = jax.tree.map(
                lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
                like,
                shardings,
            )
        state = checkpoint.restore(run_folder.last_checkpoint(saves), shapes)
        assert len(state.replay.rows.obs.devices()) == number
        replay = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in state.replay.rows.obs))
        found.append([digest(state.learner), digest(state.key), replay.hexdigest()])
    print(json.dumps(found))


if __name__ == "__main__":
    assert not processes.several()
    folder, *argv = sys.argv[1:]
    restore(Path(folder)) if argv == ["--restore"] else run(Path(folder), argv)
