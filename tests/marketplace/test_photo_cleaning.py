"""photos.py: a photo comes out square, RGB, upright and on black, or is rejected with a reason."""

import io
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photo_samples import content, jpeg, picture, png
from PIL import Image, ImageOps, PngImagePlugin

from marketplace.data_folder import UserError
from marketplace.photos import (
    MAX_PHOTO_BYTES,
    PhotoError,
    clean_file,
    clean_files,
    clean_photo,
    encoded,
    fitted_size,
    is_photo,
    load_query_photo,
    photo_files,
)

SIZE = 64


def cleaned(photo: bytes, size: int = SIZE) -> Image.Image:
    return clean_photo(io.BytesIO(photo), size)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float)


def straightforward(photo: bytes, size: int = SIZE) -> Image.Image:
    """The reference: the whole photo decoded, turned upright, resized by Lanczos, pasted on black."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).convert("RGB")
    width, height = fitted_size(*image.size, size)
    square = Image.new("RGB", (size, size))
    square.paste(image.resize((width, height), Image.Resampling.LANCZOS), ((size - width) // 2, (size - height) // 2))
    return square


def difference(first: Image.Image, second: Image.Image) -> float:
    return float(np.abs(pixels(first) - pixels(second)).mean())


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (64, 64), (300, 300), (501, 333)])
def test_photos_of_any_shape_become_square_centred_on_black(size):
    image = cleaned(content(Image.new("RGB", size, (200, 100, 50))))
    assert (image.size, image.mode) == ((SIZE, SIZE), "RGB")
    width, height = fitted_size(*size, SIZE)
    left, top = (SIZE - width) // 2, (SIZE - height) // 2
    outside = pixels(image)
    assert np.abs(outside[top : top + height, left : left + width] - (200, 100, 50)).max() < 6
    outside[top : top + height, left : left + width] = 0
    assert outside.max() == 0


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize(
    "photo",
    [
        jpeg(384, 512),
        jpeg(1023, 130, progressive=True),
        jpeg(1600, 1200, subsampling=0),
        *(content(picture(300, 200), file_format) for file_format in ("PNG", "WEBP", "GIF")),
        *(content(picture(400, 300).convert(mode), quality=90) for mode in ("L", "CMYK")),
        *(content(picture(300, 200).convert(mode), "PNG") for mode in ("1", "P", "L")),
    ],
)
def test_looks_like_the_full_decode_with_lanczos(photo, side):
    assert difference(cleaned(photo, side), straightforward(photo, side)) < 4
    saved = Image.open(io.BytesIO(encoded(cleaned(photo, side))))
    assert difference(saved, straightforward(photo, side)) < 4


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = jpeg(600, 400, exif=exif)
    assert difference(cleaned(photo), straightforward(photo)) < 4
    assert difference(cleaned(photo), straightforward(jpeg(600, 400))) > 10, "without it the photo looks different"


@pytest.mark.parametrize("kind", ["eXIf", "zTXt", "XMP"])
def test_orientation_in_a_png_is_applied(kind):
    exif, texts = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112] = 6
    if kind == "zTXt":
        texts.add_text("Raw profile type exif", f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n", zip=True)
    if kind == "XMP":
        texts.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>', zip=True)
    options = {"exif": exif} if kind == "eXIf" else {}
    photo = content(picture(600, 400), "PNG", pnginfo=texts, **options)
    assert difference(cleaned(photo), straightforward(photo)) < 4
    assert difference(cleaned(photo), straightforward(jpeg(600, 400))) > 10, "without it the photo looks different"


def test_broken_exif_does_not_spoil_a_photo():
    for broken in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(20)):
        assert difference(cleaned(jpeg(90, 60, exif=broken)), straightforward(jpeg(90, 60))) < 4


@pytest.mark.parametrize("file_format, mode", [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("GIF", "RGBA")])
def test_transparent_parts_become_black(file_format, mode):
    image = Image.new("RGBA", (64, 64), (200, 100, 50, 255))
    image.paste((255, 255, 255, 0), (0, 0, 32, 64))  # transparent white
    result = pixels(cleaned(content(image.convert(mode), file_format)))
    assert result[:, :30].max() < 8
    assert result[:, 34:].mean() > 90


def test_half_transparent_is_half_as_bright():
    image = Image.new("RGBA", (64, 64), (200, 100, 50, 128))
    assert np.abs(pixels(cleaned(content(image, "PNG"))) - (100, 50, 25)).max() < 2


def test_samples_of_16_bits_are_scaled_to_8():
    levels = np.repeat(np.array([0, 0x0180, 40_000, 65_535], np.uint16), 16)
    grey = content(Image.fromarray(np.tile(levels, (64, 1))), "PNG")
    row = b"\0" + np.repeat(levels, 3).astype(">u2").tobytes()
    for photo in (grey, png(64, 64, 16, 2, row * 64)):
        assert np.abs(pixels(cleaned(photo))[0, ::16] - [[0] * 3, [1] * 3, [156] * 3, [255] * 3]).max() <= 1


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(file_format):
    frames = [Image.new("RGB", (40, 80), colour) for colour in ((200, 100, 50), (0, 0, 255), (0, 255, 0))]
    photo = content(frames[0], file_format, save_all=True, append_images=frames[1:], duration=50)
    assert np.abs(pixels(cleaned(photo))[32, 32] - (200, 100, 50)).max() < 6


def test_metadata_is_not_carried_over():
    """Comments, profiles and thumbnails of the raw photo are not carried over."""
    photo = jpeg(64, 64, comment=b"where I live", icc_profile=b"profile" * 20)
    saved = Image.open(io.BytesIO(encoded(cleaned(photo))))
    assert not saved.info.keys() & {"comment", "icc_profile", "exif"}


GOOD = jpeg(120, 90)


@pytest.mark.parametrize(
    "reason, photo",
    [
        ("empty file", b""),
        ("not a JPEG, PNG, WebP or GIF", b"<!DOCTYPE html><title>404</title>"),
        ("not a JPEG, PNG, WebP or GIF", content(picture(48, 48), "TIFF")),
        ("broken", GOOD[: len(GOOD) // 2]),
        ("broken", GOOD[:20]),
        ("broken", content(picture(90, 60), "PNG")[:2000]),
        ("broken", content(picture(90, 60), "GIF")[:900]),
        ("broken", content(picture(90, 60), "WEBP")[:500]),
        ("too many bytes", GOOD + bytes(MAX_PHOTO_BYTES)),
        ("too many pixels", png(12_000, 12_000, 1, 0, b"")),
        ("too many pixels", png(60_000, 60_000, 8, 2, b"")),
        ("too many pixels", GOOD.replace(struct.pack(">HH", 90, 120), struct.pack(">HH", 65_000, 65_000), 1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_why_a_photo_is_rejected(reason, photo):
    """A decompression bomb is refused by its header: "broken" would mean that decoding was tried."""
    with pytest.raises(PhotoError, match=f"^{reason}$"):
        cleaned(photo)


def test_photos_by_their_first_bytes():
    assert all(is_photo(content(picture(9, 9), kind)) for kind in ("JPEG", "PNG", "WEBP", "GIF"))
    assert not any(is_photo(content(picture(9, 9), kind)) for kind in ("TIFF", "BMP", "EPS"))


def test_photos_by_their_names(tmp_path):
    names = ("b.jpeg", "b.jpg", "b.png", "UPPER.JPG", "two.dots.JpEg", "Ünïcødé 📷.jpg", "notes.txt", "c.jpe", ".jpg")
    for name in (*names, "d.jfif", "e.PNG", "f.webp"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nothing.jpg")
    files = photo_files(tmp_path)
    assert {stem: path.name for stem, path in files.items()} == {
        "UPPER": "UPPER.JPG",
        "b": "b.jpg",
        "c": "c.jpe",
        "d": "d.jfif",
        "e": "e.PNG",
        "f": "f.webp",
        "two.dots": "two.dots.JpEg",
        "Ünïcødé 📷": "Ünïcødé 📷.jpg",
    }
    assert photo_files(tmp_path / "missing") == {}


@st.composite
def mutated_photo(draw) -> bytes:
    kinds = [GOOD, content(picture(30, 20), "PNG"), content(picture(30, 20), "WEBP"), content(picture(9, 9), "GIF")]
    photo = bytearray(draw(st.sampled_from(kinds)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(photo)))
        photo[place : place + draw(st.integers(0, 40))] = draw(st.binary(max_size=20))
    return bytes(photo)


@given(st.lists(mutated_photo(), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_bytes_are_cleaned_or_rejected(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "out").mkdir()
    sources = [folder / f"{number}.jpeg" for number in range(len(photos))]
    for source, photo in zip(sources, photos, strict=True):
        source.write_bytes(photo)
    results = clean_files(sources, folder / "out", SIZE)
    written = {path.stem for path in (folder / "out").iterdir()}
    assert written == {source.stem for source, reason in zip(sources, results, strict=True) if reason is None}
    for path in (folder / "out").iterdir():
        with Image.open(path) as image:
            assert (image.size, image.mode, image.format) == ((SIZE, SIZE), "RGB", "JPEG")


def test_a_query_photo_has_the_pixels_of_the_clean_file(tmp_path):
    """The clean photos are JPEG files, and a query is compared with what is read from them."""
    for file_format in ("JPEG", "PNG"):
        raw = tmp_path / "raw"
        raw.write_bytes(content(picture(300, 200), file_format))
        assert clean_file(raw, tmp_path / "clean.jpg", SIZE) is None
        with Image.open(tmp_path / "clean.jpg") as clean:
            pixels_of_file = np.asarray(clean)
        query = load_query_photo(raw, SIZE)
        assert query.dtype == np.uint8 and np.array_equal(query, pixels_of_file)
        assert not np.array_equal(cleaned(raw.read_bytes()), pixels_of_file), "without compression they differ"


def test_a_query_photo_that_is_rejected_is_one_sentence(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(GOOD[:500])
    with pytest.raises(UserError, match=r"broken\.jpg cannot be read \(broken\): .* 120 megapixels and 20 MB\.$"):
        load_query_photo(broken, SIZE)
    with pytest.raises(FileNotFoundError):
        load_query_photo(tmp_path / "missing.jpg", SIZE)
