"""Clean a photo: from a raw file to a square RGB picture on black.

`clean_photo` does it in memory, `clean_files` for a list of files. A worker on another machine needs Pillow only.
"""

import contextlib
import functools
import io
import os
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO

# imported so that Pillow does not load its plugins for all fifty formats at the first photo that it cannot identify
from PIL import GifImagePlugin, Image, ImageChops, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

from marketplace.data_folder import write_whole

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 120_000_000  # the largest phone cameras have 108 megapixels; more is refused as a decompression bomb
MAX_BYTES = 100_000_000
QUALITY = 95
REDUCING_GAP = 2.0  # fast reduction (libjpeg, box filter) down to twice the size, then Lanczos


class PhotoError(Exception):
    """A photo that is set aside; the message is the reason, the same for all photos with the same fault."""


def fitted_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after the longer side has become `size`; the shorter is at least 1 pixel."""
    longer = max(width, height)
    return max(1, round(width * size / longer)), max(1, round(height * size / longer))


def is_photo(content: bytes | bytearray) -> bool:
    """Whether the first bytes are those of a JPEG, PNG, GIF or WebP file."""
    beginnings = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
    return content.startswith(beginnings) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def clean_photo(file: BinaryIO, size: int) -> Image.Image:
    """Read a photo and return it as a `size` x `size` RGB picture, centred on black.

    A large JPEG is reduced by libjpeg while it is decoded, which saves most of the time. First frame of an animation,
    EXIF orientation applied, transparency on black, samples of any depth scaled to 8 bits.

    Raises PhotoError when the content is not a JPEG, PNG, WebP or GIF that can be decoded, OSError when the file cannot
    be read.
    """
    content = file.read(MAX_BYTES + 1)
    if not content:
        raise PhotoError("empty file")
    if len(content) > MAX_BYTES:
        raise PhotoError("too many bytes")
    if not is_photo(content):
        raise PhotoError("not a JPEG, PNG, WebP or GIF")
    if content.startswith(b"\x89PNG"):
        content = _without_metadata(content)
    try:
        with warnings.catch_warnings():  # Pillow warns of broken EXIF, and of large pictures, which are refused here
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise PhotoError("too many pixels")
            return _fitted_on_black(image, size, content)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("too many pixels") from None
    except Image.UnidentifiedImageError:
        raise PhotoError("broken or unusual header") from None
    except Exception:  # Pillow's parsers raise exceptions of many types on broken files
        raise PhotoError("broken") from None


def _without_metadata(png: bytes) -> bytes:
    """The chunks of a PNG that hold the picture and its orientation; Pillow would refuse it for faults in the others.

    Raises PhotoError for a wrong checksum of the picture; Pillow does not compare that of the pixels.
    """
    view = memoryview(png)  # whose slices are no copies
    kept, start, name = [view[:8]], 8, b""
    while start < len(png) and name != b"IEND":
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        name, chunk = png[start + 4 : start + 8], view[start:end]
        right = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT") or (name == b"eXIf" and right):
            if not right and end <= len(png):
                raise PhotoError("broken (wrong checksum)")
            kept.append(chunk)
        start = end
    return b"".join(kept)


def _fitted_on_black(image: Image.Image, size: int, content: bytes) -> Image.Image:
    width, height = fitted_size(*image.size, size)
    box = None
    if image.format in ("JPEG", "MPO"):
        drafted = image.draft(None, (int(width * REDUCING_GAP), int(height * REDUCING_GAP)))
        box = drafted[1] if drafted else None
    image.load()
    if image.mode not in ("RGB", "L") or image.has_transparency_data:
        image = _opaque_rgb(image, content)
    image = image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)
    with contextlib.suppress(Exception):  # broken EXIF is common and does not spoil the photo
        ImageOps.exif_transpose(image, in_place=True)
    square = Image.new("RGB", (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def _opaque_rgb(image: Image.Image, content: bytes) -> Image.Image:
    """RGB of any mode; transparent parts become black.

    Pillow scales the samples of a PNG to 8 bits, but not the transparent colour.
    """
    depth = content[24] if image.format == "PNG" else 8
    colour = image.info.get("transparency")
    if image.mode == "L" and colour is not None:
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    elif image.mode == "I;16":  # Pillow's own conversion would clip at 255
        samples = image.convert("I")
        image = samples.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        if colour is not None:
            image.putalpha(samples.point([255 * (value != colour) for value in range(65536)], "L"))
    elif image.mode == "RGB" and depth == 16 and colour is not None:
        low = Image.open(io.BytesIO(content), formats=FORMATS)
        low.tile = [low.tile[0]._replace(args="RGB;16L")]  # reads the low byte of each sample instead of the high one
        parts = (image, tuple(value >> 8 for value in colour)), (low, tuple(value & 255 for value in colour))
        differences = [ImageChops.difference(part, Image.new("RGB", image.size, value)) for part, value in parts]
        differing = functools.reduce(ImageChops.lighter, ImageChops.lighter(*differences).split())
        image.putalpha(differing.point(lambda value: 255 * (value > 0)))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    opaque = image.convert("RGB")
    opaque.paste("black", mask=ImageChops.invert(image.getchannel("A")))
    return opaque


def encoded(image: Image.Image) -> bytes:
    """The picture as a JPEG file; without chroma subsampling, which would show at 64 pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def clean_file(source: Path, output: Path, size: int) -> str | None:
    """Clean one file; the output appears whole or not at all.

    Returns the reason why the photo is set aside, None when it is clean. Raises OSError when the output cannot be
    written.
    """
    try:
        with open(source, "rb") as file:
            content = encoded(clean_photo(file, size))
    except PhotoError as error:
        return str(error)
    except PermissionError:
        return "may not be read"
    except OSError:
        return "cannot be read"
    with write_whole(output, flush=False) as partial:
        partial.write_bytes(content)
    return None


def clean_files(images: Path, outputs: Path, names: list[tuple[str, str]], size: int) -> list[str | None]:
    """Clean photos, given as (source name, output name), from folder `images` into folder `outputs`.

    Returns what `clean_file` returns for each. Raises OSError when a folder is missing on this machine or an output
    cannot be written.
    """
    for folder in (images, outputs):
        os.stat(folder)  # else, on a worker that does not share it, every photo would only seem unreadable
    return [clean_file(images / source, outputs / output, size) for source, output in names]
