"""One photo at a time: from a raw file to a square RGB picture on black.

`clean_photo` is the pure part (an open file in, a picture out), `clean_files` applies it to a list of files. This
module needs Pillow only, so that a worker on another machine can run it.
"""

import errno
import io
import os
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

# GIF, JPEG and PNG register themselves here too, so that no photo makes Pillow import all of its fifty formats
from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

from marketplace.data_folder import write_whole

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 120_000_000  # a 108-megapixel telephone passes; what claims more is taken for a decompression bomb
MAX_BYTES = 100_000_000
QUALITY = 95
REDUCING_GAP = 2.0  # libjpeg and the box filter stop at twice the wanted size, Lanczos does the rest
ORIENTATION = 0x0112  # EXIF tag
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PhotoError(Exception):
    """A photo that is set aside; the text is the reason, the same for all photos of the same kind of fault."""


class Cleaned(NamedTuple):
    """What became of one photo: `reason` is None when it is clean, else why it was set aside."""

    source: str
    output: str
    reason: str | None
    source_size: int = 0
    source_mtime_ns: int = 0
    output_size: int = 0
    output_mtime_ns: int = 0


def fitted_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after the longer side has become `size`; the shorter is at least 1 pixel."""
    longer = max(width, height)
    return max(1, round(width * size / longer)), max(1, round(height * size / longer))


def clean_photo(file: BinaryIO, size: int) -> Image.Image:
    """Read a photo and return it as a `size` x `size` RGB picture, centred on black.

    A large JPEG is shrunk by libjpeg while it is decoded, which saves most of the time. First frame of an animation,
    EXIF orientation applied, transparency on black, 16 bits scaled to 8.

    Raises PhotoError with the reason when the content is no JPEG, PNG, WebP or GIF that can be decoded.
    """
    try:
        with warnings.catch_warnings():  # Pillow's, about EXIF above all: the outcome says enough
            warnings.simplefilter("ignore")
            image = Image.open(file, formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise PhotoError("too many pixels")
            return _fitted_on_black(image, size)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("too many pixels") from None
    except Image.UnidentifiedImageError:
        raise PhotoError("not a JPEG, PNG, WebP or GIF") from None
    except Exception:  # these are a stranger's bytes, and Pillow's parsers raise whatever the bytes lead them to
        raise PhotoError("broken") from None


def _fitted_on_black(image: Image.Image, size: int) -> Image.Image:
    width, height = fitted_size(*image.size, size)
    box = None
    if image.format in ("JPEG", "MPO"):
        drafted = image.draft(None, (int(width * REDUCING_GAP), int(height * REDUCING_GAP)))
        box = drafted[1] if drafted else None
    image.load()
    orientation = _orientation(image)
    if image.mode not in ("RGB", "L") or image.has_transparency_data:
        image = _opaque_rgb(image)
    image = image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)
    if orientation in TRANSPOSE:  # of the small picture: the same result for a fraction of the work
        image = image.transpose(TRANSPOSE[orientation])
    square = Image.new("RGB", (size, size))
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF is common, and is no reason to lose the photo
        return 1


def _opaque_rgb(image: Image.Image) -> Image.Image:
    """RGB of any mode; what is transparent becomes black."""
    see_through = image.info.get("transparency")  # PNG: an index, a list of alphas, or the one colour that is no colour
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
        image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
        if see_through is not None:
            image.info["transparency"] = round(see_through / 257)
    elif isinstance(see_through, tuple) and max(see_through) > 255:  # of 16 bits, which Pillow has cut to 8
        image.info["transparency"] = tuple(value >> 8 for value in see_through)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    opaque = Image.new("RGB", image.size)
    opaque.paste(image, mask=image.getchannel("A"))
    return opaque


def encoded(image: Image.Image) -> bytes:
    """The picture as a JPEG; 4:4:4, for at 64 pixels half the colour resolution would be seen."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def clean_file(source: Path, output: Path, size: int) -> Cleaned:
    """Clean one file; the output appears whole or not at all.

    Raises OSError when the output cannot be written. Everything that is wrong with the source is a reason instead.
    """
    try:
        with open(source, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size == 0:
                raise PhotoError("empty file")
            if status.st_size > MAX_BYTES:
                raise PhotoError("too many bytes")
            content = encoded(clean_photo(file, size))
    except PhotoError as error:
        return Cleaned(source.name, output.name, str(error))
    except PermissionError:
        return Cleaned(source.name, output.name, "may not be read")
    except OSError as error:
        reason = "gone while cleaning" if error.errno == errno.ENOENT else "cannot be read"
        return Cleaned(source.name, output.name, reason)
    with write_whole(output, flush=False) as partial:
        partial.write_bytes(content)
    written = os.stat(output)
    return Cleaned(
        source.name,
        output.name,
        None,
        status.st_size,
        status.st_mtime_ns,
        written.st_size,
        written.st_mtime_ns,
    )


def clean_files(images: Path, outputs: Path, names: list[tuple[str, str]], size: int) -> list[Cleaned]:
    """Clean the photos `names` (source name, output name) of folder `images` into folder `outputs`.

    Raises OSError when a folder is missing on this machine or an output cannot be written.
    """
    for folder in (images, outputs):  # else each of the photos would be taken for one that is gone
        os.stat(folder)
    return [clean_file(images / source, outputs / output, size) for source, output in names]
