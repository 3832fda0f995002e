"""A pen that draws a thing in its own coordinates, whatever way the thing is turned in the photo.

A shape is drawn in a square from -1 to 1, x to the right and y down. The pen turns, tilts and stretches the points
into pixels, so that a shape function says only what the thing looks like.
"""

import math
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw

Colour = tuple[int, ...]  # red, green, blue; 0 to 255
Point = tuple[float, float]

BLACK: Colour = (24, 24, 28)
WHITE: Colour = (240, 240, 236)


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor < 1) or lighten towards white (factor > 1, at most 2) a colour."""
    if factor <= 1:
        return tuple(int(part * factor) for part in colour)
    return tuple(int(part + (255 - part) * (factor - 1)) for part in colour)


def luminance(colour: Colour) -> float:
    """Perceived brightness from 0 to 255 (ITU-R BT.601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


class Pen:
    """Draws on one layer with a fixed view of the thing.

    `rng` gives the thing's own proportions: two photos of one listing use the same, so they show the same thing.
    `body` and `trim` are the thing's colours; `dark`, `light` and `metal` are shades for its parts.
    """

    def __init__(
        self, layer: Image.Image, matrix: Sequence[float], rng: random.Random, body: Colour, trim: Colour
    ) -> None:
        self.draw = ImageDraw.Draw(layer)
        self.matrix = matrix
        self.rng = rng
        self.body = body
        self.trim = trim
        grey = rng.randint(30, 75)
        self.dark: Colour = (grey, grey, grey + rng.randint(-6, 10))
        pale = rng.randint(205, 245)
        self.light: Colour = (pale, pale, pale - rng.randint(0, 14))
        steel = rng.randint(140, 190)
        self.metal: Colour = (steel, steel, steel + 6)
        self.unit = math.sqrt(abs(matrix[0] * matrix[4] - matrix[1] * matrix[3]))  # pixels of one unit of length

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def place(self, x: float, y: float) -> Point:
        """Pixel position of a point; the last two numbers of the matrix give it a little perspective."""
        a, b, c, d, e, f, g, h = self.matrix
        depth = 1 + g * x + h * y
        return (a * x + b * y) / depth + c, (d * x + e * y) / depth + f

    def poly(self, points: Sequence[Point], fill: Colour, edge: float = 0.025) -> None:
        """A filled polygon with an edge in a darker shade; `edge` is its width in units, 0 for none."""
        pixels = [self.place(x, y) for x, y in points]
        self.draw.polygon(pixels, fill=fill)
        if edge:
            width = max(1, round(edge * self.unit))
            self.draw.line([*pixels, pixels[0], pixels[1]], fill=shade(fill, 0.55), width=width, joint="curve")

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0.0, edge: float = 0.025
    ) -> None:
        if radius <= 0:
            self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, edge)
            return
        radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
        corners = [
            (x1 - radius, y0 + radius, -90),
            (x1 - radius, y1 - radius, 0),
            (x0 + radius, y1 - radius, 90),
            (x0 + radius, y0 + radius, 180),
        ]
        points = [
            (cx + radius * math.cos(math.radians(start + step)), cy + radius * math.sin(math.radians(start + step)))
            for cx, cy, start in corners
            for step in (0, 30, 60, 90)
        ]
        self.poly(points, fill, edge)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour, depth: float = 0.18, radius: float = 0.0
    ) -> None:
        """A cuboid seen a little from above and the right: its front is the rectangle given."""
        dx, dy = depth, -depth * 0.6
        self.poly([(x1, y0), (x1 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1, y1)], shade(fill, 0.68))
        self.poly([(x0, y0), (x0 + dx, y0 + dy), (x1 + dx, y0 + dy), (x1, y0)], shade(fill, 1.35))
        self.rect(x0, y0, x1, y1, fill, radius)

    def oval(self, cx: float, cy: float, rx: float, ry: float, fill: Colour, edge: float = 0.025) -> None:
        self.poly(self.arc_points(cx, cy, rx, ry, 0, 360), fill, edge)

    def disc(self, cx: float, cy: float, radius: float, fill: Colour, edge: float = 0.025) -> None:
        self.oval(cx, cy, radius, radius, fill, edge)

    def ring(self, cx: float, cy: float, radius: float, width: float, fill: Colour, ry: float | None = None) -> None:
        points = self.arc_points(cx, cy, radius, radius if ry is None else ry, 0, 380)
        self.line(points, width, fill)

    def arc(
        self, cx: float, cy: float, rx: float, ry: float, start: float, end: float, width: float, fill: Colour
    ) -> None:
        """A curved stroke; angles in degrees, 0 to the right and growing clockwise."""
        self.line(self.arc_points(cx, cy, rx, ry, start, end), width, fill)

    def pie(self, cx: float, cy: float, rx: float, ry: float, start: float, end: float, fill: Colour) -> None:
        """The part of an oval between two angles, closed by a straight cut."""
        self.poly(self.arc_points(cx, cy, rx, ry, start, end), fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        pixels = [self.place(x, y) for x, y in points]
        across = max(1, round(width * self.unit))
        self.draw.line(pixels, fill=fill, width=across, joint="curve")
        if across > 4:
            for x, y in (pixels[0], pixels[-1]):
                self.draw.ellipse([x - across / 2, y - across / 2, x + across / 2, y + across / 2], fill=fill)

    def tube(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A stroke with a darker edge, for frames, legs and handles."""
        self.line(points, width + 0.04, shade(fill, 0.5))
        self.line(points, width, fill)

    @staticmethod
    def arc_points(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
        steps = max(6, int(abs(end - start) / 9))
        angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
        return [(cx + rx * math.cos(angle), cy + ry * math.sin(angle)) for angle in angles]
