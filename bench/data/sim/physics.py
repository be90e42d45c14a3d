"""Moves an object: elastic joints, outside forces, and a check that nothing blows up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from bench.data.sim.body import STATIC
from bench.data.sim.exact import cross, quantise
from bench.data.sim.mjcf import TIME_STEP, model_xml
from bench.data.sim.scene import Pose, Scene
from metrics.errors import DataError

FRAME_RATE = 10.0
"""Frames per second of every clip."""
STEPS_PER_FRAME = round(1 / FRAME_RATE / TIME_STEP)
STEPS_PER_CONTROL = 4
"""Forces are set anew every 20 ms."""
FASTEST = 150.0
"""Largest joint speed, rad/s or m/s, that is taken for motion and not for a blow-up."""

_log = logging.getLogger(__name__)


class UnstableError(DataError):
    """The simulation of a scene blew up under the forces asked for."""


@dataclass(frozen=True)
class State:
    """Where the joints are, how fast they move, and the time in seconds."""

    positions: np.ndarray
    velocities: np.ndarray
    time: float


class Driver(Protocol):
    """Something that acts on the object over time."""

    def act(self, world: World, time: float) -> None:
        """Adds forces with `World.push`, or sets where springs pull with `World.aim`."""


class World:
    """The physics of one scene. Body i of the scene is body i of the engine.

    Raises:
        DataError: the engine does not take the model.
    """

    def __init__(self, scene: Scene) -> None:
        engine = _engine()
        self.engine, self.scene = engine, scene
        try:
            self.model: Any = engine.MjModel.from_xml_string(model_xml(scene))
        except ValueError as error:
            raise DataError(f"MuJoCo {engine.__version__} refuses the model of a {scene.kind}: {error}") from error
        self.data: Any = engine.MjData(self.model)
        engine.mj_forward(self.model, self.data)
        self._tune()
        self.rest_angles = np.array(self.model.qpos_spring)
        self.mass = float(self.model.body_mass[1:].sum())
        self.restore(self.rest_state())

    def _tune(self) -> None:
        """Stiffness and damping of every joint from its frequency and damping ratio, and the mass it carries.

        For a joint with inertia I (the diagonal of the mass matrix at rest), k = I w^2 and c = 2 z w I.
        """
        model, data = self.model, self.data
        inertia, basis, product = (np.zeros(model.nv) for _ in range(3))
        for dof in range(model.nv):
            basis[dof] = 1.0
            self.engine.mj_mulM(model, data, product, basis)
            inertia[dof] = product[dof]
            basis[dof] = 0.0
        joints = [joint for body in self.scene.bodies for joint in body.joints]
        omega = np.array([2 * np.pi * joint.elastic.frequency for joint in joints])
        ratio = np.array([joint.elastic.damping for joint in joints])
        self.stiffness = inertia * omega * omega
        _first_column(model.jnt_stiffness)[:] = self.stiffness
        _first_column(model.dof_damping)[:] = 2 * ratio * omega * inertia

    def rest_state(self) -> State:
        """All joints relaxed and still."""
        return State(np.array(self.model.qpos0), np.zeros(self.model.nv), 0.0)

    def state(self) -> State:
        """The present state."""
        return State(np.array(self.data.qpos), np.array(self.data.qvel), float(self.data.time))

    def restore(self, state: State) -> None:
        """Puts the object into `state`, free of forces."""
        self.engine.mj_resetData(self.model, self.data)
        self.model.qpos_spring[:] = self.rest_angles
        self.data.qpos[:] = state.positions
        self.data.qvel[:] = state.velocities
        self.data.time = state.time
        self.engine.mj_forward(self.model, self.data)

    def run(self, drivers: Sequence[Driver], frames: int, start: State | None = None) -> Pose:
        """Poses `[frames + 1]`: at `start` (or the present state) and after each of `frames` frame intervals.

        Raises:
            UnstableError: a joint became faster than FASTEST.
        """
        if start is not None:
            self.restore(start)
        model, data, engine = self.model, self.data, self.engine
        began = float(data.time)
        positions, rotations = [np.array(data.xpos)], [np.array(data.xmat)]
        control = STEPS_PER_CONTROL * TIME_STEP
        for frame in range(frames):
            for tick in range(STEPS_PER_FRAME // STEPS_PER_CONTROL):
                now = began + frame / FRAME_RATE + tick * control
                data.xfrc_applied[:] = 0
                for driver in drivers:
                    driver.act(self, now)
                engine.mj_step(model, data, STEPS_PER_CONTROL)
            engine.mj_kinematics(model, data)
            if not float(np.abs(data.qvel).max()) < FASTEST:  # also catches NaN
                raise UnstableError(
                    f"the simulated {self.scene.kind} (seed {self.scene.seed}) became unstable after "
                    f"{now:.2f} s; use smaller forces"
                )
            positions.append(np.array(data.xpos))
            rotations.append(np.array(data.xmat))
        data.xfrc_applied[:] = 0
        bodies = len(self.scene.bodies)
        return Pose(quantise(np.stack(positions)), quantise(np.stack(rotations).reshape(frames + 1, bodies, 3, 3)))

    def push(self, body: int, point: np.ndarray, force: np.ndarray) -> None:
        """Adds an outside `force` (N, world) at `point` (in the frame of `body`)."""
        data = self.data
        arm = data.xpos[body] + data.xmat[body].reshape(3, 3) @ point - data.xipos[body]
        data.xfrc_applied[body, :3] += force
        data.xfrc_applied[body, 3:] += cross(arm, force)

    def aim(self, change: np.ndarray) -> None:
        """Lets every joint's spring pull to its rest angle plus `change [joints]`."""
        self.model.qpos_spring[:] = self.rest_angles + change

    def jacobian(self, body: int, point: np.ndarray) -> np.ndarray:
        """How `point` (in the frame of `body`) now moves in the world with each joint, `[3, joints]`."""
        found = np.zeros((3, self.model.nv))
        data = self.data
        place = data.xpos[body] + data.xmat[body].reshape(3, 3) @ point
        self.engine.mj_jac(self.model, data, found, None, place, body)
        return found

    def give(self) -> np.ndarray:
        """Static response of the joints to joint torques at rest, `[joints, joints]`: the inverse stiffness.

        Where feet are planted the response is that of the constrained springs:
        K^-1 - K^-1 A^T (A K^-1 A^T)^-1 A K^-1 with the Jacobian A of the planted points.
        """
        soft = np.diag(1 / self.stiffness)
        if not self.scene.anchors:
            return soft
        planted = np.concatenate([self.jacobian(a.body, np.array(a.point)) for a in self.scene.anchors])
        across = soft @ planted.T
        inner = planted @ across
        return soft - across @ np.linalg.pinv(inner, rcond=1e-9) @ across.T


def body_sizes(scene: Scene) -> np.ndarray:
    """Largest extent of each body's solids in metres, `[B]`; 0 for the static body."""
    sizes = np.zeros(len(scene.bodies))
    for index, body in enumerate(scene.bodies):
        if index != STATIC and body.solids:
            sizes[index] = max(2 * max(s.size) for s in body.solids)
    return sizes


def _first_column(field: np.ndarray) -> np.ndarray:
    """The linear coefficients of a joint property; some versions of the engine hold further ones beside them."""
    return field if field.ndim == 1 else field[:, 0]


def _quiet(message: str) -> None:
    _log.debug("MuJoCo: %s", message)


_warned: list[Callable[[str], None]] = []


def _engine() -> ModuleType:
    """MuJoCo, with a warning handler: without one it writes a log file into the working folder."""
    import mujoco

    if not _warned and hasattr(mujoco, "set_mju_user_warning"):
        mujoco.set_mju_user_warning(_quiet)
        _warned.append(_quiet)
    return mujoco
