"""What mujoco-mjx 3.17 is made to do otherwise while a step is traced: contact frames, and the cost
of deep robots.

Both replace one private entry of MJX's and put it back; tests fail if MJX changes.
"""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from mujoco.mjx._src import collision_driver, collision_primitive, math, scan
from mujoco.mjx._src.types import GeomType

from .third_party import replaced


@contextlib.contextmanager
def contacts_as_in_mujoco() -> Iterator[None]:
    """What is traced inside has MuJoCo's contact frames between planes and capsules.

    The first tangent of such a contact is the capsule's axis, laid into the plane. For a capsule
    within 30 degrees of the plane's normal, MJX takes a fixed direction instead. Friction cones are
    pyramids, whose edges turn with the tangent: an ant's or a person's foot slides otherwise than
    in MuJoCo.
    """
    with replaced(
        collision_driver._COLLISION_FUNC, (GeomType.PLANE, GeomType.CAPSULE), _plane_capsule
    ):
        yield


@contextlib.contextmanager
def bodies_once() -> Iterator[None]:
    """What is traced inside computes each body of a robot once, on a CPU too.

    MJX walks from parents to children without a loop. XLA's compiler for CPUs fuses that and
    computes a parent anew wherever a child needs it, so that the time grows exponentially with the
    depth of the robot. A barrier after each level forbids it. Other platforms' programs are left
    alone.
    """
    walk = scan.body_tree

    def body_tree(model, function, *args, **kwargs):
        return walk(model, lambda *inputs: _barrier(function(*inputs)), *args, **kwargs)

    with replaced(vars(scan), "body_tree", body_tree):
        yield


def _barrier(tree):
    return jax.lax.platform_dependent(
        tree, cpu=jax.lax.optimization_barrier, default=lambda tree: tree
    )


@collision_primitive.collider(ncon=2)
def _plane_capsule(plane, capsule):
    """The contacts of a capsule's two ends: distance, position, and frame (normal and tangents)."""
    normal, axis = plane.mat[:, 2], capsule.mat[:, 2]
    tangent = axis - normal * (normal @ axis)
    length = jnp.sqrt(jnp.sum(tangent**2))
    tangent = jnp.where(
        length < 1e-6, math.orthogonals(normal)[0], tangent / jnp.maximum(length, 1e-6)
    )
    frame = jnp.stack([normal, tangent, jnp.cross(normal, tangent)])

    def end(offset):
        return *collision_primitive._plane_sphere(
            normal, plane.pos, capsule.pos + offset, capsule.size[0]
        ), frame

    half = axis * capsule.size[1]
    return jax.tree.map(lambda *x: jnp.stack(x), end(half), end(-half))
