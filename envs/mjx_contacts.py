"""Where mujoco-mjx 3.17 orients contacts otherwise than MuJoCo 3.17 does.

The first tangent of a contact between a plane and a capsule is the capsule's axis, laid into the plane. For a capsule
within 30 degrees of the plane's normal, MJX takes a fixed direction instead. Friction cones are pyramids, whose edges
turn with the tangent: an ant's or a person's foot slides otherwise than in MuJoCo.
"""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from mujoco.mjx._src import collision_driver, collision_primitive, math
from mujoco.mjx._src.types import GeomType

_PAIR = (GeomType.PLANE, GeomType.CAPSULE)


@contextlib.contextmanager
def as_in_mujoco() -> Iterator[None]:
    """What is traced inside has MuJoCo's contact frames."""
    original = collision_driver._COLLISION_FUNC[_PAIR]
    collision_driver._COLLISION_FUNC[_PAIR] = _plane_capsule
    try:
        yield
    finally:
        collision_driver._COLLISION_FUNC[_PAIR] = original


@collision_primitive.collider(ncon=2)
def _plane_capsule(plane, capsule):
    """The contacts of a capsule's two ends: distance, position, and frame (normal and tangents)."""
    normal, axis = plane.mat[:, 2], capsule.mat[:, 2]
    tangent = axis - normal * (normal @ axis)
    length = jnp.sqrt(jnp.sum(tangent**2))
    tangent = jnp.where(length < 1e-6, math.orthogonals(normal)[0], tangent / jnp.maximum(length, 1e-6))
    frame = jnp.stack([normal, tangent, jnp.cross(normal, tangent)])

    def end(offset):
        return *collision_primitive._plane_sphere(normal, plane.pos, capsule.pos + offset, capsule.size[0]), frame

    half = axis * capsule.size[1]
    return jax.tree.map(lambda *x: jnp.stack(x), end(half), end(-half))
