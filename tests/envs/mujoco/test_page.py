"""The interactive page of a trajectory: whole in itself, with each geom and each pose."""

import base64
import json
import re

import mujoco
import numpy as np

from onejit.envs.mujoco.page import render_html

MODEL = """
<mujoco>
  <asset>
    <mesh name="tetrahedron" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/>
    <material name="red" rgba="1 0 0 1"/>
  </asset>
  <worldbody>
    <geom type="plane" size="0 0 1"/>
    <body pos="0 0 1">
      <freejoint/>
      <geom type="capsule" size="0.1 0.4" material="red"/>
      <geom type="mesh" mesh="tetrahedron" material="red" rgba="0 1 0 1"/>
      <geom type="box" size="1 1 1" group="3"/>
      <geom type="sphere" size="1" rgba="1 1 1 0"/>
    </body>
  </worldbody>
</mujoco>
"""


def unpacked(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def test_the_page_holds_geoms_poses_and_its_own_scripts():
    model = mujoco.MjModel.from_xml_string(MODEL)
    qpos = np.tile(model.qpos0, (101, 1))
    qpos[:, 0] = np.arange(101)
    page = render_html(model, qpos, step_seconds=0.01)
    # Nothing is loaded from elsewhere, and three.js is there.
    assert not re.search(r"<script[^>]+src|<link|import\s*\(", page)
    assert "THREE.TrackballControls=" in page.replace(" ", "")
    episode = json.loads(re.search(r"const episode = (.*);", page)[1])
    # Groups above 2 and what is transparent are not shown.
    assert [geom["type"] for geom in episode["geoms"]] == ["plane", "capsule", "mesh"]
    # A geom's own colour goes before that of its material.
    assert [geom["rgba"] for geom in episode["geoms"][1:]] == [
        [1.0, 0.0, 0.0, 1.0],
        [0.0, 1.0, 0.0, 1.0],
    ]
    assert len(unpacked(episode["meshes"]["0"]["vertices"], "<f4")) == 4 * 3
    assert set(unpacked(episode["meshes"]["0"]["faces"], "<u4")) == {0, 1, 2, 3}
    # 100 steps a second are shown as 50.
    poses = unpacked(episode["poses"], "<f4").reshape(51, 2, 7)
    assert episode["frame_seconds"] == 0.02
    np.testing.assert_array_equal(poses[:, 1, 0], np.arange(0, 101, 2))
    np.testing.assert_array_equal(poses[7, 1], [14, 0, 1, 1, 0, 0, 0])
    assert episode["follow"] == 1
