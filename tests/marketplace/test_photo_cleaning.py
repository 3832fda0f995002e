"""photo_cleaning.py: a photo comes out square, RGB, upright and on black, or is set aside with a reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photo_samples import chunk, content, jpeg, picture, png, png_bands
from PIL import Image, ImageOps

from marketplace.data_folder import UserError
from marketplace.photos import PhotoError, clean_file, clean_files, clean_photo, encoded, fitted_size, load_query_photo

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


def upright(colour: tuple[int, int, int] = (200, 100, 50), size: tuple[int, int] = (40, 80)) -> Image.Image:
    return Image.new("RGB", size, colour)


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (64, 64), (300, 300), (20, 30), (501, 333)])
def test_photos_of_any_shape_become_square_centred_on_black(size):
    image = cleaned(content(upright(size=size)))
    assert (image.size, image.mode) == ((SIZE, SIZE), "RGB")
    width, height = fitted_size(*size, SIZE)
    left, top = (SIZE - width) // 2, (SIZE - height) // 2
    inside = pixels(image)[top : top + height, left : left + width]
    assert np.abs(inside - (200, 100, 50)).max() < 6
    outside = pixels(image)
    outside[top : top + height, left : left + width] = 0
    assert outside.max() == 0


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("size", [(384, 512), (600, 601), (144, 108), (1023, 130)])
def test_looks_like_the_full_decode_with_lanczos(size, side):
    photo = jpeg(*size)
    assert difference(cleaned(photo, side), straightforward(photo, side)) < 4
    saved = Image.open(io.BytesIO(encoded(cleaned(photo, side))))
    assert difference(saved, straightforward(photo, side)) < 4


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"progressive": True}, {"subsampling": 2, "quality": 60}])
def test_large_photos_look_the_same_too(options):
    photo = jpeg(1600, 1200, **options)
    assert difference(cleaned(photo), straightforward(photo)) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(600, 400), (40, 60)])
def test_exif_orientation_is_applied(orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = jpeg(*size, exif=exif)
    result = cleaned(photo)
    assert difference(result, straightforward(photo)) < 4
    if orientation > 1:  # without it the photo looks different
        assert difference(result, straightforward(jpeg(*size))) > 10


def test_orientation_of_other_formats_and_of_broken_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    for file_format in ("PNG", "WEBP"):
        for mode in ("RGB", "RGBA"):
            photo = content(picture(90, 60).convert(mode), file_format, exif=exif)
            assert difference(cleaned(photo), straightforward(photo)) < 4
    for broken in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(20)):
        assert difference(cleaned(jpeg(90, 60, exif=broken)), straightforward(jpeg(90, 60))) < 4
    exif[0x0112] = 99
    assert difference(cleaned(jpeg(90, 60, exif=exif)), straightforward(jpeg(90, 60))) < 4


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF"])
def test_formats_beside_jpeg(file_format):
    photo = content(picture(300, 200), file_format)
    assert difference(cleaned(photo), straightforward(photo)) < 4


@pytest.mark.parametrize("file_format", ["EPS", "TIFF", "BMP", "PPM", "PDF", "ICO", "TGA"])
def test_other_formats_are_not_even_tried(file_format):
    with pytest.raises(PhotoError, match="not a JPEG, PNG, WebP or GIF"):
        cleaned(content(picture(48, 48), file_format))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_greyscale_and_cmyk(mode):
    for size in ((400, 300), (50, 40)):
        photo = content(picture(*size).convert(mode), quality=90)
        assert difference(cleaned(photo), straightforward(photo)) < 4


def test_bilevel_and_palette():
    for mode in ("1", "P", "L"):
        photo = content(picture(80, 60).convert(mode), "PNG")
        assert difference(cleaned(photo), straightforward(photo)) < 4


@pytest.mark.parametrize(
    "file_format, mode", [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("PNG", "P"), ("GIF", "P")]
)
def test_transparent_parts_become_black(file_format, mode):
    image = upright(size=(64, 64)).convert("RGBA")
    image.paste((255, 255, 255, 0), (0, 0, 32, 64))  # transparent white
    options = {"transparency": 0} if mode == "P" else {}
    if mode == "P":
        image = Image.new("P", (64, 64), 0)
        image.putpalette([255, 255, 255, 200, 100, 50])
        image.paste(1, (32, 0, 64, 64))
    else:
        image = image.convert(mode)
    result = pixels(cleaned(content(image, file_format, **options)))
    assert result[:, :30].max() < 8
    assert result[:, 34:].mean() > 90


def test_half_transparent_is_half_as_bright():
    image = Image.new("RGBA", (64, 64), (200, 100, 50, 128))
    assert np.abs(pixels(cleaned(content(image, "PNG"))) - (100, 50, 25)).max() < 2


def grey(*levels: int) -> list[tuple[int, int, int]]:
    return [(level,) * 3 for level in levels]


BITS_16 = [0, 0x0180, 40_000, 65_535]
PALETTE = chunk(b"PLTE", bytes([200, 100, 50, 0, 255, 0, 0, 0, 255, 90, 90, 90]))
OF_PALETTE = [(200, 100, 50), (0, 255, 0), (0, 0, 255), (90, 90, 90)]


@pytest.mark.parametrize(
    "bits, colour_type, samples, transparent, expected",
    [
        (1, 0, [0, 1, 0, 1], None, grey(0, 255, 0, 255)),
        (1, 0, [0, 1, 0, 1], [1], grey(0, 0, 0, 0)),
        (2, 0, [0, 1, 2, 3], None, grey(0, 85, 170, 255)),
        (2, 0, [0, 1, 2, 3], [2], grey(0, 85, 0, 255)),
        (4, 0, [1, 5, 10, 15], None, grey(17, 85, 170, 255)),
        (4, 0, [1, 5, 10, 15], [5], grey(17, 0, 170, 255)),
        (4, 0, [1, 5, 10, 15], [15], grey(17, 85, 170, 0)),
        (8, 0, [1, 5, 200, 255], [200], grey(1, 5, 0, 255)),
        (16, 0, BITS_16, None, grey(0, 1, 156, 255)),
        (16, 0, BITS_16, [65_535], grey(0, 1, 156, 0)),
        (
            16,
            0,
            [65_535, 65_534, 65_500, 40_000],
            [65_534],
            grey(255, 0, 255, 156),
        ),  # all but the last are 255 of 8 bits
        (8, 2, [(9, 0, 0), (9, 8, 7), (9, 8, 6), (1, 1, 1)], [9, 8, 7], [(9, 0, 0), (0, 0, 0), (9, 8, 6), (1, 1, 1)]),
        (16, 2, [(v, v, v) for v in BITS_16], None, grey(0, 1, 156, 255)),
        (16, 2, [(v, v, v) for v in BITS_16], [40_000] * 3, grey(0, 1, 0, 255)),
        (
            16,
            2,
            [(0xC8C8, 0, 7), (0xC8C8, 0, 8), (200, 0, 7), (1, 1, 1)],
            [0xC8C8, 0, 7],
            [(0,) * 3, (200, 0, 0), *grey(0, 0)],
        ),
        (16, 2, [(0xC8C8, 0, 0), (200, 0, 0), (1, 1, 1), (0, 0, 0)], [200, 0, 0], [(200, 0, 0), *grey(0, 0, 0)]),
        (16, 4, [(40_000, 65_535), (40_000, 32_896), (40_000, 0), (65_535, 65_535)], None, grey(156, 78, 0, 255)),
        (
            16,
            6,
            [(v, v, v, a) for v, a in [(40_000, 65_535), (40_000, 32_896), (9, 9), (65_535, 0)]],
            None,
            grey(156, 78, 0, 0),
        ),
        (2, 3, [0, 1, 2, 3], None, OF_PALETTE),
        (4, 3, [0, 1, 2, 3], b"\xff\0", [OF_PALETTE[0], (0, 0, 0), *OF_PALETTE[2:]]),
        (2, 3, [0, 1, 2, 3], b"\x80\xff\0", [(100, 50, 25), OF_PALETTE[1], (0, 0, 0), OF_PALETTE[3]]),
        (1, 3, [0, 1, 0, 1], b"\0\x80", [(0, 0, 0), (0, 128, 0)] * 2),
    ],
)
def test_samples_of_any_depth_are_scaled_with_their_transparency(bits, colour_type, samples, transparent, expected):
    """The transparent colour is compared in the depth of the file."""
    samples = [sample if isinstance(sample, tuple) else (sample,) for sample in samples]
    between = [PALETTE] if colour_type == 3 else []
    if transparent is not None:
        body = transparent if colour_type == 3 else struct.pack(f">{len(transparent)}H", *transparent)
        between.append(chunk(b"tRNS", body))
    result = pixels(cleaned(png_bands(bits, colour_type, samples, *between)))
    assert np.abs(result - np.repeat(expected, 16, axis=0)).max() <= 1


ORIENTATION = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
TOO_LONG = zlib.compress(bytes(2_000_000))


@pytest.mark.parametrize("place", ["before the pixels", "after the pixels"])
@pytest.mark.parametrize(
    "faulty",
    [
        chunk(b"pHYs", bytes(9), checksum=1),
        chunk(b"tEXt", b"Title\0chair", checksum=1),
        chunk(b"eXIf", ORIENTATION, checksum=1),
        chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
        chunk(b"iCCP", b"profile\0\0" + TOO_LONG),
        chunk(b"iCCP", b""),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + TOO_LONG),
        chunk(b"zTXt", b"Comment\0\0" + TOO_LONG),
        chunk(b"gAMA", b"\0"),
        chunk(b"acTL", bytes(8)) + chunk(b"fcTL", bytes(26), checksum=1),
        chunk(b"fdAT", b""),
        chunk(b"\1\2\3\4", b"no name of a chunk"),
    ],
    ids=lambda faulty: faulty[4:8].decode("latin-1"),
)
def test_faults_of_metadata_do_not_spoil_a_png(faulty, place):
    good = content(picture(48, 32), "PNG")
    cut = 33 if place.startswith("before") else -12
    assert difference(cleaned(good[:cut] + faulty + good[cut:]), cleaned(good)) == 0


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_wrong_checksum_of_the_picture_is_named(name):
    photo = bytearray(content(picture(48, 32).convert("P"), "PNG"))
    end = photo.index(name) + 4 + int.from_bytes(photo[photo.index(name) - 4 : photo.index(name)], "big")
    photo[end] ^= 1
    with pytest.raises(PhotoError, match=r"^broken \(wrong checksum\)$"):
        cleaned(bytes(photo))


def test_damaged_pixels_of_a_png_are_not_shown():
    photo = bytearray(content(picture(48, 32), "PNG"))
    photo[len(photo) // 2] ^= 0x10  # Pillow alone decodes it to another picture
    with pytest.raises(PhotoError, match="checksum"):
        cleaned(bytes(photo))


def test_the_reason_tells_a_broken_photo_from_another_format():
    for photo in (jpeg(48, 32)[:4], content(picture(48, 32), "PNG")[:20], b"GIF89a", b"RIFF\x40\0\0\0WEBPVP8 "):
        with pytest.raises(PhotoError, match=r"^broken"):
            cleaned(photo)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(file_format):
    frames = [upright(colour) for colour in ((200, 100, 50), (0, 0, 255), (0, 255, 0))]
    photo = content(frames[0], file_format, save_all=True, append_images=frames[1:], duration=50)
    assert np.abs(pixels(cleaned(photo))[32, 32] - (200, 100, 50)).max() < 6


def test_a_decompression_bomb_is_refused_by_its_header():
    claims = jpeg(64, 64).replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 60_000, 60_000), 1)
    for bomb in (png(12_000, 12_000, 1, 0, b""), png(60_000, 60_000, 8, 2, b""), claims):
        with pytest.raises(PhotoError, match="too many pixels"):  # "broken" would mean that decoding was tried
            cleaned(bomb)


def test_metadata_is_not_carried_over():
    """Comments, profiles and thumbnails of the raw photo are not carried over."""
    photo = jpeg(64, 64, comment=b"where I live", icc_profile=b"profile" * 20)
    saved = Image.open(io.BytesIO(encoded(cleaned(photo))))
    assert not saved.info.keys() & {"comment", "icc_profile", "exif"}


GOOD = [
    jpeg(48, 32),
    jpeg(40, 60, progressive=True),
    content(picture(30, 30).convert("CMYK")),
    content(picture(30, 20), "PNG"),
    content(picture(30, 20).convert("P"), "GIF"),
    content(picture(30, 20), "WEBP"),
    jpeg(32, 32, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
]
STARTS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x40\0\0\0WEBPVP8 ", b"%!PS-Adobe", b"II*\0"]


@st.composite
def mutated_photo(draw) -> bytes:
    photo = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(photo)))
        match draw(st.sampled_from(["change", "remove", "insert", "cut"])):
            case "change":
                photo[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "remove":
                del photo[place : place + draw(st.integers(1, 40))]
            case "insert":
                photo[place:place] = draw(st.binary(min_size=1, max_size=20))
            case "cut":
                del photo[place:]
    return bytes(photo)


random_bytes = st.builds(lambda start, rest: start + rest, st.sampled_from(STARTS), st.binary(max_size=400))


@given(st.lists(st.one_of(random_bytes, mutated_photo()), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_bytes_are_cleaned_or_set_aside(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "out").mkdir()
    names = [(f"{number}.jpg", f"{number}.jpg") for number in range(len(photos))]
    for (name, _), photo in zip(names, photos, strict=True):
        (folder / name).write_bytes(photo)
    results = clean_files(folder, folder / "out", names, SIZE)
    written = {entry.name for entry in (folder / "out").iterdir()}
    assert written == {output for (_, output), reason in zip(names, results, strict=True) if reason is None}
    for name in written:
        with Image.open(folder / "out" / name) as image:
            assert (image.size, image.mode, image.format) == ((SIZE, SIZE), "RGB", "JPEG")
    reasons = {"empty file", "not a JPEG, PNG, WebP or GIF", "too many pixels"}
    reasons |= {"broken", "broken (wrong checksum)", "broken or unusual header"}
    assert set(results) - {None} <= reasons


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


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("broken.jpg", r"the photo broken\.jpg cannot be read \(broken\): give a JPEG, PNG, WebP or GIF of at most"),
        ("empty.jpg", r"the photo empty\.jpg cannot be read \(empty file\): give a JPEG"),
        ("bomb.jpg", r"the photo bomb\.jpg cannot be read \(too many pixels\): .* at most 120 megapixels"),
        ("hole.jpg", r"the photo hole\.jpg cannot be read \(too many bytes\): .* and 100 MB"),
        ("missing.jpg", r"the photo missing\.jpg cannot be opened \(No such file or directory\): give the path"),
        ("a: b.jpg", r"the photo a: b\.jpg cannot be opened \(No such file or directory\)"),
        ("photos", r"the photo photos cannot be opened \(Is a directory\): give the path of a file, not a folder"),
        ("", r"the photo \. cannot be opened \(Is a directory\)"),
        (
            "https://example.com/a.jpg",
            r"the photo https:/example\.com/a\.jpg cannot be opened \(No such file or directory\): give the path",
        ),
        (
            "file:///tmp/a.jpg",
            r"the photo file:/tmp/a\.jpg cannot be opened \(No such file or directory\): .* or a link",
        ),
        (
            "data:image/png;base64," + "A" * 300,
            r"the photo data:\S+ cannot be opened \(.*\): .* or a link",
        ),
    ],
)
def test_a_query_photo_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch, name, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "broken.jpg").write_bytes(jpeg()[:500])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "bomb.jpg").write_bytes(png(60_000, 60_000, 8, 2, b""))
    with open(tmp_path / "hole.jpg", "wb") as file:
        file.write(jpeg())
        file.truncate(10**9)  # takes no room
    with pytest.raises(UserError, match=rf"^{sentence}[^\n]*\.$"):
        load_query_photo(Path(name), SIZE)
