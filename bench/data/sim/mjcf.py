"""Writes an object as a MuJoCo model (MJCF)."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from bench.data.sim.body import Body
from bench.data.sim.scene import Scene

TIME_STEP = 0.005
"""Seconds of one physics step."""
LEAST_SIZE = 1e-4
AXES = {"x": "1 0 0", "y": "0 1 0", "z": "0 0 1"}
ANCHOR_SOFTNESS = "0.03 1"
"""Time constant (s) and damping ratio with which a planted foot is held."""


def model_xml(scene: Scene) -> str:
    """The object of `scene` without gravity and contacts: its rest pose is where all springs are relaxed."""
    root = Element("mujoco")
    SubElement(root, "compiler", angle="radian", autolimits="true", boundmass="1e-5", boundinertia="1e-8")
    option = SubElement(root, "option", timestep=repr(TIME_STEP), gravity="0 0 0", integrator="implicitfast")
    SubElement(option, "flag", contact="disable", autoreset="disable")
    elements = [SubElement(root, "worldbody")]
    for index, body in enumerate(scene.bodies[1:], start=1):
        elements.append(_body(elements[body.parent], index, body))
    if scene.anchors:
        equality = SubElement(root, "equality")
        for anchor in scene.anchors:
            SubElement(equality, "connect", body1=f"b{anchor.body}", anchor=_text(anchor.point), solref=ANCHOR_SOFTNESS)
    return tostring(root, encoding="unicode")


def _body(parent: Element, index: int, body: Body) -> Element:
    element = SubElement(parent, "body", name=f"b{index}", pos=_text(body.offset), xyaxes=_axes(body.rotation))
    for number, joint in enumerate(body.joints):
        SubElement(element, "joint", name=f"b{index}j{number}", type=joint.kind, axis=AXES[joint.axis])
    if not body.solids:
        SubElement(element, "inertial", pos="0 0 0", mass="1e-3", diaginertia="1e-6 1e-6 1e-6")
    for solid in body.solids:
        SubElement(
            element,
            "geom",
            type=solid.shape,
            size=_text(max(v, LEAST_SIZE) for v in solid.size),
            pos=_text(solid.offset),
            xyaxes=_axes(solid.rotation),
            density=repr(solid.density),
            contype="0",
            conaffinity="0",
        )
    return element


def _text(values: Iterable[float] | np.ndarray) -> str:
    return " ".join(repr(float(v)) for v in values)


def _axes(rotation: np.ndarray) -> str:
    return _text([*rotation[:, 0], *rotation[:, 1]])
