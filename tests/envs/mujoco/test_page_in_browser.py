"""The page in a browser without a screen: it draws every mesh of a robot, and asks for nothing.
Skipped where there is none; the variable BROWSER_FOR_TESTS names a Chromium that is not in PATH.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess

import mujoco
import numpy as np
import pytest

from onejit import envs
from onejit.envs.mujoco.menagerie import MissingModelError
from onejit.envs.mujoco.page import render_html

pytestmark = pytest.mark.slow

NAMES = (os.environ.get("BROWSER_FOR_TESTS"), "chromium", "google-chrome", "chrome")
BROWSER = next((path for name in NAMES if name and (path := shutil.which(name))), None)
FLAGS = ["--headless", "--no-sandbox", "--single-process", "--no-zygote", "--ignore-gpu-blocklist"]
FLAGS += ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS += ["--in-process-gpu", "--remote-debugging-pipe"]
LOOK = """(() => {
  let corners = 0;
  const count = (each) => each.isMesh ? each.geometry.attributes.position.count : 0;
  scene.traverse((each) => { corners += count(each); });
  renderer.render(scene, camera);
  return { corners, triangles: renderer.info.render.triangles };
})()"""


@contextlib.contextmanager
def browser():
    """(method, **params) -> result of Chrome's DevTools protocol, and the list of its events."""
    (reads, to_it), (from_it, writes) = os.pipe(), os.pipe()
    # Where the browser looks for the pipes.
    shell = f'exec "$@" 3</dev/fd/{reads} 4>/dev/fd/{writes}'
    process = subprocess.Popen(
        ["sh", "-c", shell, "sh", BROWSER, *FLAGS],
        pass_fds=(reads, writes),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for each in (reads, writes):
        os.close(each)
    numbers, events, buffer = itertools.count(1), [], bytearray()

    def next_message():
        while b"\0" not in buffer:
            piece = os.read(from_it, 1 << 20)
            assert piece, "the browser is gone"
            buffer.extend(piece)
        message, _, buffer[:] = bytes(buffer).partition(b"\0")
        return json.loads(message)

    def call(method, session=None, **params):
        number = next(numbers)
        asked = {"id": number, "method": method, "params": params}
        asked |= {"sessionId": session} if session else {}
        os.write(to_it, json.dumps(asked).encode() + b"\0")
        message = {}
        while message.get("id") != number:
            events.append(message := next_message())
        return events.pop()["result"]

    try:
        yield call, events
    finally:
        process.kill()
        process.wait()
        for each in (to_it, from_it):
            os.close(each)


@pytest.mark.skipif(BROWSER is None, reason="there is no browser")
@pytest.mark.parametrize("name", ["Op3Joystick", "G1JoystickFlatTerrain"])
def test_every_mesh_of_a_robot_is_drawn_and_nothing_is_asked_for(name, tmp_path):
    try:
        model = envs.make(f"playground/{name}").mj_model
    except MissingModelError as error:
        pytest.skip(str(error))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    path = tmp_path / "episode.html"
    path.write_text(render_html(model, np.stack([data.qpos] * 3), 0.02), encoding="utf-8")
    with browser() as (call, events):
        target = call("Target.createTarget", url="about:blank")["targetId"]
        session = call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Runtime", "Page"):
            call(f"{domain}.enable", session)
        call("Page.navigate", session, url=path.as_uri())
        loaded = "new Promise((done) => document.readyState == 'complete' ? done()"
        loaded += " : addEventListener('load', done))"
        call("Runtime.evaluate", session, expression=loaded, awaitPromise=True)
        found = call("Runtime.evaluate", session, expression=LOOK, returnByValue=True)
    found = found["result"]["value"]
    methods = [event["method"] for event in events]
    assert "Network.loadingFailed" not in methods
    assert "Runtime.exceptionThrown" not in methods
    asked = [e["params"]["request"]["url"] for e in events if "requestWillBeSent" in e["method"]]
    assert {url for url in asked if not url.startswith("data:")} <= {path.as_uri()}
    shown = [i for i in range(model.ngeom) if model.geom_group[i] < 3]
    meshes = [model.geom_dataid[i] for i in shown if model.geom_dataid[i] >= 0]
    assert meshes
    assert found["corners"] >= sum(model.mesh_vertnum[i] for i in meshes)
    assert found["triangles"] >= sum(model.mesh_facenum[i] for i in meshes)
