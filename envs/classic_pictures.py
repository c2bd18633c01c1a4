"""Pictures of gymnax's classic control: a state becomes a drawing, an episode a GIF. Pillow is all
that it needs.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

_WIDTH, _HEIGHT = 480, 300
_SMOOTH = 3  # drawn so many times larger, then averaged: Pillow's lines have no soft edges

_PAPER, _SHADE, _GROUND, _WORDS, _INK = "#fbfaf7", "#f3f1ea", "#dfdcd3", "#8b939a", "#33414e"
_WARM, _COOL, _GOAL = "#d9772b", "#3d74a8", "#4f9a63"
_COLOURS = (_PAPER, _SHADE, _GROUND, _WORDS, _INK, _WARM, _COOL, _GOAL)


class _Canvas:
    """A picture in the units of the task: x to the right, y upwards.

    Args:
      centre: the point in the middle of the picture.
      unit: pixels of a unit.
      picture: to go on with; a new one by default.
    """

    def __init__(
        self, centre: tuple[float, float], unit: float, picture: Image.Image | None = None
    ):
        self.picture = picture or Image.new("RGB", (_SMOOTH * _WIDTH, _SMOOTH * _HEIGHT), _PAPER)
        self._draw = ImageDraw.Draw(self.picture)
        self._centre = centre
        self._unit = _SMOOTH * unit

    def copy(self) -> "_Canvas":
        """The same, to draw further on."""
        return _Canvas(self._centre, self._unit / _SMOOTH, self.picture.copy())

    def line(self, points: Sequence[tuple[float, float]], width: float, colour: str) -> None:
        """A line through the points, with round ends."""
        pixels = [self._pixel(point) for point in points]
        width = width * self._unit
        self._draw.line(pixels, colour, max(1, round(width)), joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            self._draw.circle((x, y), width / 2, colour)

    def disc(self, centre: tuple[float, float], radius: float, colour: str) -> None:
        """A filled circle."""
        self._draw.circle(self._pixel(centre), radius * self._unit, colour)

    def shape(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """A filled polygon."""
        self._draw.polygon([self._pixel(point) for point in points], colour)

    def arc(
        self, centre: tuple[float, float], radius: float, start: float, end: float, colour: str
    ) -> None:
        """A thin arrow along a circle, from one angle to another, in radians counterclockwise from
        the right.
        """
        angles = np.linspace(start, end, 40)
        points = [
            (centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles
        ]
        self.line(points, 0.05, colour)
        turn = end + math.copysign(math.pi / 2, end - start)
        x, y = points[-1]
        size = min(0.13, 0.2 * abs(end - start))
        tips = (turn, turn + 2.4, turn - 2.4)
        self.shape([(x + size * math.cos(a), y + size * math.sin(a)) for a in tips], colour)

    def finished(self, words: str) -> Image.Image:
        """The picture in its own size, with words in the corner."""
        picture = self.picture.reduce(_SMOOTH)
        ImageDraw.Draw(picture).text((12, 10), words, _WORDS, ImageFont.load_default(13))
        return picture

    def _pixel(self, point):
        x, y = ((float(a) - b) * self._unit for a, b in zip(point, self._centre, strict=True))
        # Far outside stays outside, within what Pillow takes.
        x, y = (min(max(each, -1e5), 1e5) for each in (x, y))
        return _SMOOTH * _WIDTH / 2 + x, _SMOOTH * _HEIGHT / 2 - y


class _Picture(NamedTuple):
    background: Callable[[Any], _Canvas]  # params -> what stands still
    draw: Callable[[_Canvas, Any, Any], None]  # (canvas, params, state): what moves
    milliseconds: int  # from one state to the next


def _track(params):
    canvas = _Canvas((0.0, 0.75), _WIDTH / (2.0 * params.x_threshold + 0.8))
    end = params.x_threshold
    canvas.line([(-9 * end, 0.0), (9 * end, 0.0)], 0.03, _GROUND)
    for x in (-end, end):
        canvas.line([(x, -0.12), (x, 0.12)], 0.03, _WORDS)
    return canvas


def _cart(canvas, params, state):
    x = state.x
    theta = state.theta
    length = 2.0 * params.length
    for wheel in (x - 0.14, x + 0.14):
        canvas.disc((wheel, 0.08), 0.075, _INK)
    canvas.shape([(x - 0.28, 0.1), (x + 0.28, 0.1), (x + 0.28, 0.32), (x - 0.28, 0.32)], _INK)
    canvas.line(
        [(x, 0.3), (x + length * math.sin(theta), 0.3 + length * math.cos(theta))], 0.1, _WARM
    )
    canvas.disc((x, 0.3), 0.05, _PAPER)


def _axle(params):
    canvas = _Canvas((0.0, 0.0), 0.4 * _HEIGHT / params.l)
    canvas.disc((0.0, 0.0), params.l, _SHADE)
    canvas.line([(0.0, params.l - 0.06), (0.0, params.l + 0.06)], 0.02, _WORDS)
    return canvas


def _pendulum(canvas, params, state):
    tip = (-params.l * math.sin(state.theta), params.l * math.cos(state.theta))
    canvas.line([(0.0, 0.0), tip], 0.13, _WARM)
    canvas.disc((0.0, 0.0), 0.05, _INK)
    torque = float(np.reshape(state.last_u, ())) / params.max_torque
    if abs(torque) > 0.05:
        canvas.arc((0.0, 0.0), 0.3, math.pi / 2, math.pi / 2 + 2.2 * torque, _COOL)


def _height_to_reach(params):
    canvas = _Canvas((0.0, 0.0), 0.45 * _HEIGHT / (params.link_length_1 + params.link_length_2))
    canvas.line([(-9.0, 1.0), (9.0, 1.0)], 0.02, _GOAL)
    return canvas


def _acrobot(canvas, params, state):
    first, second = float(state.joint_angle1), float(state.joint_angle1 + state.joint_angle2)
    elbow = (params.link_length_1 * math.sin(first), -params.link_length_1 * math.cos(first))
    tip = (
        elbow[0] + params.link_length_2 * math.sin(second),
        elbow[1] - params.link_length_2 * math.cos(second),
    )
    canvas.line([(0.0, 0.0), elbow], 0.18, _COOL)
    canvas.line([elbow, tip], 0.18, _WARM)
    for joint in ((0.0, 0.0), elbow):
        canvas.disc(joint, 0.06, _PAPER)


def _hill(x):
    return 0.45 * math.sin(3.0 * x) + 0.55


def _valley(params):
    low = params.min_position
    high = params.max_position
    goal = params.goal_position
    canvas = _Canvas(((low + high) / 2.0, 0.66), 0.94 * _WIDTH / (high - low))
    slope = [(x, _hill(x)) for x in np.linspace(low - 0.2, high + 0.2, 200)]
    canvas.shape([*slope, (high + 0.2, -2.0), (low - 0.2, -2.0)], _GROUND)
    canvas.line(slope, 0.008, _WORDS)
    canvas.line([(goal, _hill(goal)), (goal, _hill(goal) + 0.2)], 0.008, _INK)
    canvas.shape(
        [(goal, _hill(goal) + y) for y in (0.2, 0.11)] + [(goal + 0.1, _hill(goal) + 0.155)], _GOAL
    )
    return canvas


def _car(canvas, params, state):
    del params
    x, y = float(state.position), _hill(float(state.position))
    slope = math.atan(1.35 * math.cos(3.0 * x))

    def place(along, above):
        return (
            x + along * math.cos(slope) - above * math.sin(slope),
            y + along * math.sin(slope) + above * math.cos(slope),
        )

    body = [
        (-0.075, 0.025),
        (0.075, 0.025),
        (0.072, 0.06),
        (0.04, 0.065),
        (0.025, 0.095),
        (-0.03, 0.095),
    ]
    canvas.shape([place(*point) for point in [*body, (-0.045, 0.065), (-0.075, 0.06)]], _WARM)
    for along in (-0.042, 0.042):
        canvas.disc(place(along, 0.025), 0.023, _INK)
        canvas.disc(place(along, 0.025), 0.009, _PAPER)


_PICTURES = {
    "CartPole-v1": _Picture(_track, _cart, 20),
    "Pendulum-v1": _Picture(_axle, _pendulum, 50),
    "Acrobot-v1": _Picture(_height_to_reach, _acrobot, 60),
    "MountainCar-v0": _Picture(_valley, _car, 30),
    "MountainCarContinuous-v0": _Picture(_valley, _car, 30),
}
NAMES = tuple(_PICTURES)


def draw(name: str, params: Any, states: Sequence[Any]) -> list[Image.Image]:
    """A picture of each state.

    Args:
      name: one of `NAMES`.
      params: gymnax's `EnvParams`.
      states: gymnax's states, on the host.
    """
    background = _PICTURES[name].background(params)
    pictures = []
    for number, state in enumerate(states):
        canvas = background.copy()
        _PICTURES[name].draw(canvas, params, state)
        pictures.append(canvas.finished(f"step {number}"))
    return pictures


def render_gif(name: str, params: Any, states: Sequence[Any], path: Path) -> None:
    """Writes an episode as a GIF, about as fast as Gymnasium plays it; arguments as for `draw`."""
    pictures = draw(name, params, states)
    palette = _palette()
    first, *rest = (
        picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures
    )
    first.save(
        path, save_all=True, append_images=rest, duration=_PICTURES[name].milliseconds, loop=0
    )


def _palette() -> Image.Image:
    """All colours, and what soft edges make of two of them: one palette for all pictures."""
    colours = [ImageColor.getrgb(colour) for colour in _COLOURS]
    pairs = itertools.combinations(np.array(colours), 2)
    between = [
        (a + (b - a) * part / 9).round().astype(int) for a, b in pairs for part in range(1, 9)
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.array([*colours, *between], np.uint8).tobytes())
    return palette
