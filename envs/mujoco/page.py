"""An interactive page of a trajectory of a MuJoCo model, which opens without internet access.

Its three.js is the copy inside the package trimesh, which comes with mujoco-mjx.
"""

import base64
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .renderer import RenderError

_TEMPLATE = Path(__file__).with_name("page.html")
_FRAMES_PER_SECOND = 50
_TYPES = ("plane", "sphere", "capsule", "ellipsoid", "cylinder", "box", "mesh")
_DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)  # of a geom whose model says nothing: its material counts
_VISIBLE_GROUPS = 3  # MuJoCo's own viewer shows the groups 0 to 2


def render_html(model: Any, qpos: np.ndarray, step_seconds: float) -> str:
    """The page: play, pause, speed, a slider over time, and a camera that follows and can be
    turned.

    Args:
      model: a `mujoco.MjModel`. Height fields, tendons and textures are not drawn.
      qpos: generalised positions of the trajectory, `[T, nq]`.
      step_seconds: simulated seconds between two of them.

    Raises:
      RenderError: trimesh has no three.js.
    """
    import mujoco

    data = mujoco.MjData(model)
    stride = max(1, round(1.0 / (_FRAMES_PER_SECOND * step_seconds)))
    poses = []
    for positions in qpos[::stride]:
        data.qpos[:] = positions
        mujoco.mj_kinematics(model, data)
        poses.append(np.concatenate([data.xpos, data.xquat], axis=1))
    followed = int(np.argmax(model.body_subtreemass[1:])) + 1 if model.nbody > 1 else 0
    geoms = _geoms(model)
    episode = {
        "poses": _packed(poses, "<f4"),
        "num_bodies": model.nbody,
        "frame_seconds": stride * step_seconds,
        "geoms": geoms,
        "meshes": {geom["mesh"]: _mesh(model, geom["mesh"]) for geom in geoms if "mesh" in geom},
        "follow": followed,
        "reach": float(np.clip(model.stat.extent, 0.1, 2.0)),
    }
    page = _TEMPLATE.read_text(encoding="utf-8").replace("/*EPISODE*/", json.dumps(episode))
    return page.replace("/*THREE*/", _three())


def _geoms(model):
    """What is to be drawn, each in the frame of its body."""
    import mujoco

    names = {int(getattr(mujoco.mjtGeom, f"mjGEOM_{name.upper()}")): name for name in _TYPES}
    geoms = []
    for i in range(model.ngeom):
        material = model.geom_matid[i]
        own = model.geom_rgba[i]
        rgba = (
            model.mat_rgba[material] if material >= 0 and np.allclose(own, _DEFAULT_RGBA) else own
        )
        name = names.get(int(model.geom_type[i]))
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
            geom["mesh"] = int(model.geom_dataid[i])
        geoms.append(geom)
    return geoms


def _mesh(model, number):
    """The corners `[V, 3]` and the triangles `[F, 3]` of a mesh."""
    mesh = model.mesh(number)
    vertices = model.mesh_vert[mesh.vertadr[0] : mesh.vertadr[0] + mesh.vertnum[0]]
    faces = model.mesh_face[mesh.faceadr[0] : mesh.faceadr[0] + mesh.facenum[0]]
    return {"vertices": _packed(vertices, "<f4"), "faces": _packed(faces, "<u4")}


def _packed(array, dtype):
    """The numbers of an array as text: a robot's meshes have a million."""
    return base64.b64encode(np.asarray(array, dtype).tobytes()).decode()


def _three():
    """three.js with its TrackballControls: the scripts of trimesh's own page, without what it does
    with them.
    """
    import trimesh

    archive = Path(trimesh.__file__).parent / "resources" / "templates" / "viewer.zip"
    try:
        page = zipfile.ZipFile(archive).read("viewer.html.template").decode()
        return page[
            page.index("<script>") + len("<script>") : page.index("var camera,controls,scene")
        ]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RenderError(
            f"the page needs the three.js of trimesh 4 or 5, {archive} has none ({error})"
        ) from error
