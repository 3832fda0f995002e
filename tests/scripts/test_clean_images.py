"""clean_images.py: the folder of clean photos mirrors the folder of raw ones, and nothing is done twice."""

import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from photo_samples import content, jpeg, picture
from PIL import Image
from repository import ROOT, run_script

from clean_images import CHUNK_BYTES, CHUNK_PHOTOS, chunked, find_photos, printable, read_manifest
from marketplace.data_folder import DataFolder


def clean(folder: Path, *options: object, size: int = 64) -> dict:
    """Run the script on a data folder; returns its report."""
    result = run_script("clean_images.py", "--data-dir", folder, "--workers", 2, "--size", size, *options)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(DataFolder(folder).report(f"clean_images_{size}").read_text())


def files(folder: Path, size: int = 64) -> dict[str, bytes]:
    """All files in the folder of clean photos, the manifest apart."""
    paths = DataFolder(folder).clean_images(size).iterdir()
    return {path.name: path.read_bytes() for path in paths if path.name != "manifest.json"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data folder with six photos."""
    (tmp_path / "images").mkdir()
    for number in range(6):
        (tmp_path / "images" / f"photo-{number}.jpg").write_bytes(jpeg(120 + number, 90, seed=number))
    return tmp_path


def test_every_photo_is_cleaned_and_reported(folder):
    report = clean(folder)
    assert (report["in"], report["cleaned"], report["skipped"], report["set_aside"]) == (6, 6, 0, {})
    assert sorted(files(folder)) == [f"photo-{number}.jpg" for number in range(6)]
    for path in DataFolder(folder).clean_images(64).glob("*.jpg"):
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB")
    assert sorted(path.name for path in folder.iterdir()) == [
        "clean_images_64",
        "clean_images_64_report.json",
        "images",
    ]


def test_the_manifest_tells_size_and_time_of_source_and_output(folder):
    clean(folder)
    manifest = read_manifest(DataFolder(folder).clean_images_manifest(64), 64)
    assert len(manifest) == 6
    for name, (source, *sizes_and_times) in manifest.items():
        before = (folder / "images" / source).stat()
        after = (folder / "clean_images_64" / name).stat()
        assert sizes_and_times == [before.st_size, before.st_mtime_ns, after.st_size, after.st_mtime_ns]


def test_a_second_run_does_nothing_and_touches_nothing(folder):
    clean(folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "clean_images_64").iterdir()}
    report = clean(folder)
    assert (report["in"], report["cleaned"], report["skipped"]) == (6, 0, 6)
    assert {path: path.stat().st_mtime_ns for path in (folder / "clean_images_64").iterdir()} == before


def test_another_size_has_its_own_folder(folder):
    clean(folder)
    first = files(folder)
    assert clean(folder, size=32)["cleaned"] == 6
    assert files(folder) == first
    with Image.open(folder / "clean_images_32" / "photo-0.jpg") as image:
        assert image.size == (32, 32)


def test_photos_from_another_folder_and_the_folder_may_be_a_link(folder):
    expected = clean(folder) and files(folder)
    elsewhere = folder / "elsewhere"
    (folder / "images").rename(folder / "raw photos")
    elsewhere.symlink_to(folder / "raw photos")
    data = folder / "data"
    assert clean(data, "--images", elsewhere)["cleaned"] == 6
    assert files(data) == expected


def test_only_what_is_not_right_is_done_again(folder):
    clean(folder)
    expected = files(folder)
    outputs = folder / "clean_images_64"
    (outputs / "photo-0.jpg").write_bytes(expected["photo-0.jpg"][:500])  # half-written
    (outputs / "photo-1.jpg").write_bytes(b"x" * len(expected["photo-1.jpg"]))  # foreign, of the same size
    (outputs / "photo-2.jpg").unlink()
    os.utime(folder / "images" / "photo-3.jpg", ns=(0, 10**18))  # touched
    changed = folder / "images" / "photo-4.jpg"
    times = changed.stat()
    changed.write_bytes(jpeg(90, 120, seed=44))  # another photo, made to look as old
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    report = clean(folder)
    assert (report["cleaned"], report["skipped"]) == (5, 1)
    again = files(folder)
    assert again.pop("photo-4.jpg") != expected.pop("photo-4.jpg")
    assert again == expected
    assert clean(folder)["skipped"] == 6


@pytest.mark.parametrize(
    "manifest", ["", "{", "[]", '{"version": 1}', '{"version": 0, "size": 64, "photos": {}}', None]
)
def test_without_a_good_manifest_nothing_counts_as_clean(folder, manifest):
    clean(folder)
    expected = files(folder)
    path = DataFolder(folder).clean_images_manifest(64)
    path.unlink() if manifest is None else path.write_text(manifest)
    for name in expected:
        (path.parent / name).write_bytes(b"no photo")
    assert clean(folder)["cleaned"] == 6
    assert files(folder) == expected


def test_a_manifest_with_strange_entries_is_not_trusted(folder):
    clean(folder)
    path = DataFolder(folder).clean_images_manifest(64)
    manifest = json.loads(path.read_text())
    for name, entry in zip(manifest["photos"], (None, 7, [], ["x"] * 5, {"a": 1}), strict=False):
        manifest["photos"][name] = entry
    path.write_text(json.dumps(manifest))
    assert clean(folder)["cleaned"] == 5


def test_outputs_follow_their_sources(folder):
    clean(folder)
    (folder / "images" / "photo-0.jpg").unlink()
    (folder / "images" / "photo-1.jpg").write_bytes(b"no photo any more")
    (folder / "clean_images_64" / "mine.jpg").write_bytes(b"keep me")
    report = clean(folder)
    assert report["removed"] == 1
    assert report["set_aside"] == {"not a JPEG, PNG, WebP or GIF": ["photo-1.jpg"]}
    assert report["foreign_files"] == ["mine.jpg"]
    assert sorted(files(folder)) == ["mine.jpg", *(f"photo-{number}.jpg" for number in range(2, 6))]
    assert len(read_manifest(DataFolder(folder).clean_images_manifest(64), 64)) == 4


def test_names_of_all_kinds(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    photo = jpeg(50, 40)
    names = ["a b.jpg", "Ünïcødé 写真 📷.jpg", "UPPER.JPG", "long.jpeg", "two.dots.JpEg", "-n.jpg", "it's; $(x).jpg"]
    for name in [*names, "n" * 251 + ".jpg"]:
        (images / name).write_bytes(photo)
    with open(os.fsencode(images) + b"/bad\xff\xfe.jpg", "wb") as file:
        file.write(photo)
    for name in ("notes.txt", "photo.png", "jpg", ".jpg"):
        (images / name).write_bytes(b"not looked at")
    report = clean(tmp_path)
    assert (report["in"], report["cleaned"], report["set_aside"]) == (9, 9, {})
    assert {"a b.jpg", "UPPER.jpg", "long.jpg", "two.dots.jpg", "n" * 251 + ".jpg"} <= files(tmp_path).keys()
    assert clean(tmp_path)["skipped"] == 9


def test_of_names_that_differ_in_case_or_ending_the_first_is_taken(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate(["A.JPG", "A.jpeg", "a.jpg", "b.jpeg", "b.jpg"]):
        (images / name).write_bytes(content(Image.new("RGB", (64, 64), (number * 50, 0, 0))))
    report = clean(tmp_path)
    assert report["set_aside"] == {"same name as another, ignoring case": ["A.jpeg", "a.jpg", "b.jpg"]}
    assert sorted(files(tmp_path)) == ["A.jpg", "b.jpg"]
    for name, red in (("A.jpg", 0), ("b.jpg", 150)):
        with Image.open(tmp_path / "clean_images_64" / name) as image:
            assert abs(image.getpixel((5, 5))[0] - red) < 4


def test_the_same_bytes_whatever_the_number_of_workers(folder):
    for number in range(100):
        shutil.copy(folder / "images" / "photo-0.jpg", folder / "images" / f"copy-{number}.jpg")
    clean(folder)
    for workers in (1, 5):
        data = folder / f"with {workers}"
        assert clean(data, "--images", folder / "images", "--workers", workers)["cleaned"] == 106
        assert files(data) == files(folder)


def test_chunks_are_bounded_in_photos_and_bytes():
    count = 3 * CHUNK_PHOTOS + 5
    small = {f"{number}.jpg": (f"{number}.jpeg", 1000, 0) for number in range(count)}
    assert [len(chunk) for chunk in chunked(small)] == [CHUNK_PHOTOS] * 3 + [5]
    large = {f"{number}.jpg": (f"{number}.jpeg", CHUNK_BYTES // 2, 0) for number in range(5)}
    assert [len(chunk) for chunk in chunked(large)] == [2, 2, 1]
    huge = {f"{number}.jpg": (f"{number}.jpeg", 10 * CHUNK_BYTES, 0) for number in range(3)}
    assert [len(chunk) for chunk in chunked(huge)] == [1, 1, 1]
    assert [pair for chunk in chunked(small) for pair in chunk][:2] == [("0.jpeg", "0.jpg"), ("1.jpeg", "1.jpg")]


def test_the_order_of_the_folder_does_not_matter(tmp_path):
    for name in ("b.jpg", "a.jpeg", "a.JPG"):
        (tmp_path / name).write_bytes(b"x")
    photos, set_aside = find_photos(tmp_path)
    assert {output: source for output, (source, *_) in photos.items()} == {"a.jpg": "a.JPG", "b.jpg": "b.jpg"}
    assert list(set_aside.values()) == [["a.jpeg"]]


def test_printable_names():
    assert printable("é\udcff.jpg") == "é\\udcff.jpg"


def test_no_control_characters_in_a_pipe_and_a_bar_on_a_terminal(folder):
    for number in range(100):
        (folder / "images" / f"more-{number}.jpg").write_bytes(jpeg(300, 300, seed=number % 3))
    result = run_script("clean_images.py", "--data-dir", folder)
    assert not [c for c in result.stdout + result.stderr if ord(c) < 32 and c != "\n"]
    assert "cleaned: 106" in result.stdout

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "clean_images.py", "--data-dir", folder / "again", "--images", folder / "images"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux tells that the other end is closed
        pass
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert b"cleaning photos" in shown and b"106/106" in shown


def test_memory_does_not_grow_with_the_number_of_photos(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "0.jpg").write_bytes(content(picture(640, 480)))
    # the peak of this process from Linux, for `getrusage` starts at what the process was before it became Python
    code = (
        "import resource, clean_images; clean_images.main()\n"
        "peak = open('/proc/self/status').read().split('VmHWM:')[1].split()[0]\n"
        "print(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    peaks = []
    for data, count in (("few", 100), ("many", 1500)):
        for number in range(1, count):
            if not (images / f"{number}.jpg").exists():
                os.link(images / "0.jpg", images / f"{number}.jpg")
        result = run_script("-c", code, "--data-dir", tmp_path / data, "--images", images, "--workers", 2)
        assert result.returncode == 0 and f"cleaned: {count}" in result.stdout
        peaks.append([int(peak) / 1024 for peak in result.stdout.splitlines()[-1].split()])
    (few_self, few_workers), (many_self, many_workers) = peaks
    assert many_workers - few_workers < 20 and many_self - few_self < 30, f"megabytes: {peaks}"


def test_skipping_is_a_matter_of_looking(tmp_path):
    """10,000 clean photos are skipped in less time than it takes to read them, let alone decode them."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "0.jpg").write_bytes(jpeg(40, 30))
    clean(tmp_path)
    outputs = tmp_path / "clean_images_64"
    manifest = json.loads((outputs / "manifest.json").read_text())
    entry = manifest["photos"]["0.jpg"]
    for number in range(1, 10_000):
        os.link(images / "0.jpg", images / f"{number}.jpg")
        os.link(outputs / "0.jpg", outputs / f"{number}.jpg")
        manifest["photos"][f"{number}.jpg"] = [f"{number}.jpg", *entry[1:]]
    (outputs / "manifest.json").write_text(json.dumps(manifest))
    start = time.monotonic()
    assert clean(tmp_path)["skipped"] == 10_000
    assert time.monotonic() - start < 20
