"""Photos for the tests of the cleaner, made in memory as the bytes of a file, and what the cleaner leaves."""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from marketplace.data_folder import DataFolder


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture with broad colours, edges and fine texture; no symmetry."""
    generator = np.random.default_rng(seed)

    def colours(rows: int, columns: int, resample: Image.Resampling) -> Image.Image:
        cells = generator.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        return Image.fromarray(cells).resize((width, height), resample)

    broad = colours(5, 4, Image.Resampling.BICUBIC)
    edges = colours(9, 11, Image.Resampling.NEAREST)
    fine = colours(max(1, height // 8), max(1, width // 8), Image.Resampling.BILINEAR)
    return Image.blend(Image.blend(broad, edges, 0.35), fine, 0.25)


def content(image: Image.Image, file_format: str = "JPEG", **options) -> bytes:
    """The bytes of a file of this picture."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def jpeg(width: int = 200, height: int = 150, seed: int = 0, **options) -> bytes:
    return content(picture(width, height, seed), "JPEG", **({"quality": 88} | options))


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG from its parts, for what Pillow does not write itself."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def clean_photos(folder: Path, size: int = 64) -> dict[str, bytes]:
    """The clean photos in a data folder: file name -> content."""
    return {path.name: path.read_bytes() for path in DataFolder(folder).clean_images(size).glob("*.jpg")}


def cleaning_report(folder: Path, size: int = 64) -> dict:
    """The report of clean_images.py in a data folder."""
    return json.loads(DataFolder(folder).report(f"clean_images_{size}").read_text(encoding="utf-8"))


def fill_with_photos(images: Path, count: int, width: int, height: int) -> None:
    """Write `count` photos of four kinds, most of them as hard links."""
    images.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        if number < 4:
            (images / f"{number:03}.jpg").write_bytes(jpeg(width, height + number, seed=number))
        else:
            os.link(images / f"{number % 4:03}.jpg", images / f"{number:03}.jpg")
