"""Photos of the sample marketplace, drawn with Pillow: a thing, in a room, under some light, by some camera.

Nothing but the shape tells the kind of product: colours, rooms, light, angle, size and clutter are drawn from the
same distributions for all kinds.
"""

import functools
import io
import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sample_marketplace.pen import Colour, Pen, luminance, shade
from sample_marketplace.shapes import SHAPES

COLOURS: dict[str, Colour] = {
    "red": (196, 52, 48),
    "blue": (52, 92, 178),
    "green": (62, 140, 84),
    "yellow": (228, 190, 66),
    "black": (44, 44, 50),
    "white": (232, 232, 228),
    "grey": (136, 140, 146),
    "brown": (132, 90, 58),
    "pink": (220, 134, 164),
    "purple": (122, 74, 148),
    "orange": (226, 128, 52),
    "cream": (232, 216, 178),
    "teal": (46, 138, 142),
    "navy": (42, 52, 104),
}

WORK_SIZE = 560  # longer side of the canvas a photo is painted on, in pixels; larger photos are enlarged from it
EXIF_ORIENTATION = 0x0112
# How the stored pixels are turned for a viewer who follows the EXIF tag to see the photo upright.
ORIENTATIONS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@dataclass(frozen=True)
class PhotoSpec:
    """All that a photo depends on.

    `thing_seed` is one for all photos of a listing (same thing), `photo_seed` is one for each photo (another view).
    """

    image_id: str
    shape: str
    colour: str
    thing_seed: str
    photo_seed: str


def vary(rng: random.Random, colour: Colour, spread: int) -> Colour:
    """A colour near `colour`."""
    return tuple(min(255, max(0, part + rng.randint(-spread, spread))) for part in colour)


@functools.cache
def _noise_tile() -> np.ndarray:
    """One tile of sensor noise with standard deviation 1, float32 (512, 512, 3)."""
    return np.random.default_rng(20).standard_normal((512, 512, 3), dtype=np.float32)


def _distance(first: Colour, second: Colour) -> float:
    """How different two colours look; brightness counts most."""
    parts = sum(abs(a - b) for a, b in zip(first, second, strict=True))
    return abs(luminance(first) - luminance(second)) + 0.25 * parts


def background_tone(rng: random.Random, body: Colour, trim: Colour) -> Colour:
    """The colour of a room that differs enough from the colours of the thing."""
    best: Colour = (128, 128, 128)
    best_distance = -1.0
    for _ in range(16):
        tone = vary(rng, rng.choice(list(COLOURS.values())), 26)
        grey = int(luminance(tone))
        pull = 0.4 + 0.45 * rng.random()  # rooms are duller than things, and most are lighter
        tone = tuple(int(part + (grey - part) * pull) for part in tone)
        if rng.random() < 0.6:
            tone = shade(tone, 1.3 + 0.4 * rng.random())
        distance = min(_distance(tone, body), 1.6 * _distance(tone, trim))
        if distance > 95:
            return tone
        if distance > best_distance:
            best, best_distance = tone, distance
    return best


def paint_background(rng: random.Random, width: int, height: int, tone: Colour) -> Image.Image:
    """A room in the tone given: plain, wall and floor, planks, tiles, stripes or carpet."""
    image = Image.new("RGB", (width, height), tone)
    draw = ImageDraw.Draw(image)
    style = rng.choice(("plain", "floor", "floor", "planks", "tiles", "stripes", "carpet"))
    other = shade(tone, rng.uniform(0.86, 0.95) if rng.random() < 0.5 else rng.uniform(1.06, 1.18))
    if style == "floor":
        line = int(height * rng.uniform(0.5, 0.85))
        draw.polygon([(0, line), (width, line + rng.randint(-25, 25)), (width, height), (0, height)], fill=other)
        if rng.random() < 0.5:
            draw.line([(0, line), (width, line)], fill=shade(tone, 1.3), width=8)
    elif style in ("planks", "stripes"):
        step = rng.randint(40, 110)
        for i, x in enumerate(range(-height, width + height, step)):
            slope = 0 if style == "stripes" else int(height * 0.35)
            fill = shade(tone, rng.uniform(0.94, 1.06)) if style == "planks" else (other if i % 2 else tone)
            draw.polygon([(x, 0), (x + step, 0), (x + step + slope, height), (x + slope, height)], fill=fill)
    elif style == "tiles":
        step = rng.randint(60, 130)
        for x in range(rng.randint(-step, 0), width, step):
            draw.line([(x, 0), (x, height)], fill=other, width=4)
        for y in range(rng.randint(-step, 0), height, step):
            draw.line([(0, y), (width, y)], fill=other, width=4)
    elif style == "carpet":
        for _ in range(260):
            x, y = rng.randrange(width), rng.randrange(height)
            size = rng.randint(4, 16)
            draw.ellipse([x, y, x + size, y + size * 0.6], fill=shade(tone, rng.uniform(0.9, 1.1)))
    return image


def paint_clutter(rng: random.Random, image: Image.Image, tone: Colour) -> None:
    """A few things at the edges that have nothing to do with what is sold."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        grey = rng.choice(list(COLOURS.values()))
        fill = tuple(int(0.65 * a + 0.35 * b) for a, b in zip(tone, grey, strict=True))
        size = rng.uniform(0.1, 0.3) * min(width, height)
        if rng.random() < 0.5:
            x, y = rng.choice((0.0, 1.0)) * width, rng.random() * height
        else:
            x, y = rng.random() * width, rng.choice((0.0, 1.0)) * height
        if rng.random() < 0.4:
            draw.ellipse([x - size, y - size, x + size, y + size], fill=fill)
        else:
            turn = rng.random() * math.pi
            corners = [
                (x + size * math.cos(turn + i * math.pi / 2), y + size * math.sin(turn + i * math.pi / 2) * 1.3)
                for i in range(4)
            ]
            draw.polygon(corners, fill=fill)


def view_matrix(rng: random.Random, width: int, height: int) -> list[float]:
    """A random view of the thing: turned, stretched, sometimes mirrored, with a little perspective; see Pen.place."""
    half = min(width, height) / 2
    scale = half * rng.uniform(0.8, 0.98)
    angle = math.radians(rng.gauss(0, 7) if rng.random() < 0.9 else rng.uniform(-30, 30))
    stretch, shear = rng.uniform(0.9, 1.1), rng.uniform(-0.08, 0.08)
    mirror = rng.choice((-1, 1))
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    a, b = cos * mirror * stretch, -sin + cos * shear
    d, e = sin * mirror * stretch, cos + sin * shear
    x = width / 2 + rng.uniform(-0.07, 0.07) * half + rng.uniform(-0.5, 0.5) * max(0, width - height) * 0.3
    y = height / 2 + rng.uniform(-0.07, 0.07) * half + rng.uniform(-0.5, 0.5) * max(0, height - width) * 0.3
    return [a, b, x, d, e, y, rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)]


def expose(rng: random.Random, image: Image.Image) -> Image.Image:
    """Light from one side, a darker rim, the camera's exposure, colour cast, noise and focus."""
    width, height = image.size
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.6)))
    pixels: np.ndarray = np.asarray(image, dtype=np.float32)
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)[None]
    turn, strength = rng.random() * 2 * math.pi, rng.uniform(0, 0.3)
    light = 1 + strength * (math.cos(turn) * x + math.sin(turn) * y) - rng.uniform(0, 0.18) * (x * x + y * y)
    cast = np.array([rng.uniform(0.9, 1.1), 1, rng.uniform(0.88, 1.1)], dtype=np.float32) * rng.uniform(0.8, 1.12)
    pixels = pixels * light[..., None] * cast + rng.uniform(-12, 16)
    tile = _noise_tile()
    offset = rng.randrange(0, 200)
    rows = np.arange(offset, offset + height) % 512
    columns = np.arange(offset // 2, offset // 2 + width) % 512
    pixels += tile[rows][:, columns] * rng.uniform(1, 7)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def photo_size(rng: random.Random) -> tuple[int, int]:
    """Width and height: the longer side from 300 to 1,600 px, landscape, portrait or square."""
    longer = int(300 * (1600 / 300) ** rng.random() ** 1.15)
    ratio = rng.choice((4 / 3, 4 / 3, 4 / 3, 3 / 2, 16 / 9, 1.0, 1.2))
    shorter = max(300, int(longer / ratio))
    return (longer, shorter) if rng.random() < 0.5 else (shorter, longer)


def draw_photo(spec: PhotoSpec) -> Image.Image:
    """Paint one photo, upright RGB."""
    thing, rng = random.Random(spec.thing_seed), random.Random(spec.photo_seed)
    width, height = photo_size(rng)
    ratio = min(1.0, WORK_SIZE / max(width, height))
    canvas = round(width * ratio), round(height * ratio)

    body = vary(thing, COLOURS[spec.colour], 18)
    trim = vary(thing, thing.choice([tone for name, tone in COLOURS.items() if name != spec.colour]), 18)
    background = background_tone(rng, body, trim)
    image = paint_background(rng, *canvas, background)
    paint_clutter(rng, image, background)

    layer = Image.new("RGBA", canvas, (0, 0, 0, 0))
    pen = Pen(layer, view_matrix(rng, *canvas), thing, body, trim)
    SHAPES[spec.shape](pen)
    shadow = layer.getchannel("A").point(lambda alpha: alpha * 0.4)
    shadow = shadow.resize((canvas[0] // 4, canvas[1] // 4)).filter(ImageFilter.GaussianBlur(3)).resize(canvas)
    drift = int(0.05 * pen.unit)
    image.paste((20, 20, 24), (rng.choice((-drift, drift)), drift), shadow)
    image.paste(layer, (0, 0), layer)

    image = expose(rng, image)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def encode_photo(spec: PhotoSpec) -> bytes:
    """JPEG bytes of a photo as a seller uploads it: some greyscale, some CMYK, some turned with an EXIF tag."""
    image = draw_photo(spec)
    rng = random.Random(spec.photo_seed + "/file")
    exif = Image.Exif()
    chance = rng.random()
    if chance < 0.04:
        image = image.convert("L")
    elif chance < 0.07:
        image = image.convert("CMYK")
    elif chance < 0.15:
        orientation = rng.choice((3, 6, 8))
        image = image.transpose(ORIENTATIONS[orientation])
        exif[EXIF_ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=rng.randint(72, 92), exif=exif)
    return buffer.getvalue()
