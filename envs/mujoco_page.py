"""An interactive page of a trajectory of a MuJoCo model, which opens without internet access.

Its three.js is the copy inside the package trimesh, which comes with mujoco-mjx.
"""

import base64
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_TEMPLATE = Path(__file__).with_name("mujoco_page.html")
_FRAMES_PER_SECOND = 50
_TYPES = ("plane", "sphere", "capsule", "ellipsoid", "cylinder", "box", "mesh")
_VISIBLE_GROUPS = 3  # MuJoCo's own viewer shows the groups 0 to 2


def render_html(model: Any, qpos: np.ndarray, step_seconds: float) -> str:
    """The page: play, pause, speed, a slider over time, and a camera that follows and can be turned.

    Args:
      model: a `mujoco.MjModel`. Height fields, tendons and textures are not drawn.
      qpos: generalised positions of the trajectory, `[T, nq]`.
      step_seconds: simulated seconds between two of them.
    """
    import mujoco

    data = mujoco.MjData(model)
    stride, poses = max(1, round(1.0 / (_FRAMES_PER_SECOND * step_seconds))), []
    for positions in qpos[::stride]:
        data.qpos[:] = positions
        mujoco.mj_kinematics(model, data)
        poses.append(np.concatenate([data.xpos, data.xquat], axis=1))
    followed = int(np.argmax(model.body_subtreemass[1:])) + 1 if model.nbody > 1 else 0
    episode = {
        "poses": base64.b64encode(np.asarray(poses, "<f4").tobytes()).decode(),
        "num_bodies": model.nbody,
        "frame_seconds": stride * step_seconds,
        "geoms": _geoms(model),
        "follow": followed,
        "reach": float(np.clip(model.stat.extent, 0.1, 2.0)),
    }
    page = _TEMPLATE.read_text().replace("/*EPISODE*/", json.dumps(episode))
    return page.replace("/*THREE*/", _three())


def _geoms(model):
    """What is to be drawn, each in the frame of its body."""
    geoms = []
    for i in range(model.ngeom):
        material = model.geom_matid[i]
        rgba = model.geom_rgba[i] if material < 0 else model.mat_rgba[material]
        kind = model.geom(i).type.item()
        name = next((name for name in _TYPES if kind == _geom_type(name)), None)
        if name is None or model.geom_group[i] >= _VISIBLE_GROUPS or rgba[3] == 0:
            continue
        geom = {
            "body": int(model.geom_bodyid[i]),
            "type": name,
            "size": model.geom_size[i].tolist(),
            "rgba": np.round(rgba, 3).tolist(),
            "pose": np.concatenate([model.geom_pos[i], model.geom_quat[i]]).round(6).tolist(),
        }
        if name == "mesh":
            mesh = model.mesh(model.geom_dataid[i])
            vertices = model.mesh_vert[mesh.vertadr[0] : mesh.vertadr[0] + mesh.vertnum[0]]
            faces = model.mesh_face[mesh.faceadr[0] : mesh.faceadr[0] + mesh.facenum[0]]
            geom |= {"vertices": vertices.round(5).ravel().tolist(), "faces": faces.ravel().tolist()}
        geoms.append(geom)
    return geoms


def _geom_type(name):
    import mujoco

    return getattr(mujoco.mjtGeom, f"mjGEOM_{name.upper()}")


def _three():
    """three.js with its TrackballControls: the scripts of trimesh's own page, without what it does with them."""
    import trimesh

    archive = Path(trimesh.__file__).parent / "resources" / "templates" / "viewer.zip"
    page = zipfile.ZipFile(archive).read("viewer.html.template").decode()
    scripts, found, _ = page.partition("<script>")[2].partition("var camera,controls,scene")
    if not found:
        raise RuntimeError(f"{archive} is not as expected: the page needs the three.js of trimesh 4 or 5")
    return scripts
