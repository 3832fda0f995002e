"""clean_images.py: the folder of clean photos follows the folder of raw ones, and no photo is cleaned twice."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from photo_samples import clean_photos, cleaning_report, fill_with_photos, jpeg
from PIL import Image
from repository import ROOT, run_script

from marketplace.data_folder import DataFolder
from marketplace.photos import clean_missing_photos, find_photos, read_manifest


def clean(folder: Path, *options: object, size: int = 64) -> dict:
    """Run the script on a data folder; returns its report."""
    result = run_script("clean_images.py", "--data-dir", folder, "--workers", 2, "--size", size, *options)
    assert (result.returncode, result.stderr) == (0, "")
    return cleaning_report(folder, size)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data folder with six photos."""
    (tmp_path / "images").mkdir()
    for number in range(6):
        (tmp_path / "images" / f"photo-{number}.jpg").write_bytes(jpeg(120 + number, 90, seed=number))
    return tmp_path


def test_every_photo_is_cleaned_once(folder):
    report = clean(folder)
    assert (report["in"], report["cleaned"], report["skipped"], report["set_aside"]) == (6, 6, 0, {})
    outputs = folder / "clean_images_64"
    manifest = read_manifest(outputs / "manifest.json")
    assert set(manifest) == set(clean_photos(folder)) == {f"photo-{number}.jpg" for number in range(6)}
    for name, (source, *sizes_and_times) in manifest.items():
        before, after = (folder / "images" / source).stat(), (outputs / name).stat()
        assert sizes_and_times == [before.st_size, before.st_mtime_ns, after.st_size, after.st_mtime_ns]
        with Image.open(outputs / name) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB")
    assert {path.name for path in folder.iterdir()} == {"clean_images_64", "clean_images_64_report.json", "images"}

    times = {path: path.stat().st_mtime_ns for path in outputs.iterdir()}
    report = clean(folder)
    assert (report["in"], report["cleaned"], report["skipped"]) == (6, 0, 6)
    assert {path: path.stat().st_mtime_ns for path in outputs.iterdir()} == times


def test_another_size_another_folder_and_another_number_of_workers(folder):
    clean(folder)
    expected = clean_photos(folder)
    assert clean(folder, size=32)["cleaned"] == 6
    with Image.open(folder / "clean_images_32" / "photo-0.jpg") as image:
        assert image.size == (32, 32)
    elsewhere = folder / "link"
    (folder / "images").rename(folder / "raw photos")
    elsewhere.symlink_to(folder / "raw photos")
    assert clean(folder / "data", "--images", elsewhere, "--workers", 1)["cleaned"] == 6
    assert clean_photos(folder) == clean_photos(folder / "data") == expected


def test_only_what_is_not_right_is_done_again(folder):
    clean(folder)
    expected = clean_photos(folder)
    outputs = folder / "clean_images_64"
    (outputs / "photo-0.jpg").write_bytes(expected["photo-0.jpg"][:500])  # half-written
    (outputs / "photo-1.jpg").write_bytes(b"x" * len(expected["photo-1.jpg"]))  # foreign, of the same size
    (outputs / "photo-2.jpg").unlink()
    os.utime(folder / "images" / "photo-3.jpg", ns=(0, 10**18))
    changed = folder / "images" / "photo-4.jpg"
    times = changed.stat()
    changed.write_bytes(jpeg(90, 120, seed=44))  # another photo with the old time
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    report = clean(folder)
    assert (report["cleaned"], report["skipped"]) == (5, 1)
    again = clean_photos(folder)
    assert again.pop("photo-4.jpg") != expected.pop("photo-4.jpg")
    assert again == expected
    assert clean(folder)["skipped"] == 6


def test_without_a_good_manifest_all_photos_are_cleaned_again(folder):
    clean(folder)
    expected = clean_photos(folder)
    path = DataFolder(folder).clean_images_manifest(64)
    for manifest in ("", "{", "[]", '{"version": 2}', '{"version": 1, "photos": {}}', '{"version": 2, "photos": [7]}'):
        path.write_text(manifest)
        assert read_manifest(path) == {}
    strange = dict(zip(expected, ([], ["x"] * 5, "x", {"a": 1}, [1, 2, 3], ["photo-5.jpg"] * 5), strict=True))
    path.write_text(json.dumps({"version": 2, "photos": strange}))
    for name in expected:
        (path.parent / name).write_bytes(b"no photo")
    assert clean(folder)["cleaned"] == 6
    assert clean_photos(folder) == expected


def test_outputs_follow_their_sources(folder):
    clean(folder)
    outputs = folder / "clean_images_64"
    (folder / "images" / "photo-0.jpg").unlink()
    (folder / "images" / "photo-1.jpg").write_bytes(b"no photo any more")
    (outputs / "mine.jpg").write_bytes(b"keep me")
    (outputs / ".0123456789abcdef.partial").write_bytes(b"of another run")
    report = clean(folder)
    assert report["removed"] == 1
    assert report["set_aside"] == {"not a JPEG, PNG, WebP or GIF": ["photo-1.jpg"]}
    assert report["foreign_files"] == ["mine.jpg"]
    assert set(clean_photos(folder)) == {"mine.jpg", *(f"photo-{number}.jpg" for number in range(2, 6))}
    assert (outputs / ".0123456789abcdef.partial").exists()
    assert len(read_manifest(outputs / "manifest.json")) == 4


def test_names_of_all_kinds(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    photo = jpeg(50, 40)
    names = ["a b.jpg", "Ünïcødé 写真 📷.jpg", "UPPER.JPG", "long.jpeg", "two.dots.JpEg", "-n.jpg", "it's; $(x).jpg"]
    for name in [*names, "n" * 251 + ".jpg"]:
        (images / name).write_bytes(photo)
    for name, file_content in ((b"bad\xff\xfe.jpg", photo), (b"worse\xff.jpg", b"no photo")):  # not valid UTF-8
        with open(os.fsencode(images) + b"/" + name, "wb") as file:
            file.write(file_content)
    for name in ("notes.txt", "photo.png", "jpg", ".jpg"):
        (images / name).write_bytes(b"ignored")
    report = clean(tmp_path)
    assert (report["in"], report["cleaned"]) == (10, 9)
    assert report["set_aside"] == {"not a JPEG, PNG, WebP or GIF": ["worse\udcff.jpg"]}
    assert {"a b.jpg", "UPPER.jpg", "long.jpg", "two.dots.jpg", "n" * 251 + ".jpg"} <= clean_photos(tmp_path).keys()
    assert clean(tmp_path)["skipped"] == 9


def test_of_names_that_differ_in_case_or_ending_the_first_is_taken(tmp_path):
    for name in ("b.jpg", "b.jpeg", "a.jpg", "A.jpeg", "A.JPG"):
        (tmp_path / name).write_bytes(b"x")
    photos, set_aside = find_photos(tmp_path)
    assert {output: source for output, (source, *_) in photos.items()} == {"A.jpg": "A.JPG", "b.jpg": "b.jpeg"}
    assert set_aside == {"same name as another, ignoring case": ["A.jpeg", "a.jpg", "b.jpg"]}


def test_no_control_characters_in_a_pipe_and_a_bar_on_a_terminal(folder):
    result = run_script("clean_images.py", "--data-dir", folder)
    assert not [c for c in result.stdout + result.stderr if ord(c) < 32 and c != "\n"]
    assert "cleaned: 6" in result.stdout

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "clean_images.py", "--data-dir", folder / "again", "--images", folder / "images"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # on Linux this means that the other end is closed
        pass
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert b"cleaning photos" in shown and b"6/6" in shown


def test_memory_does_not_grow_with_the_number_of_photos(tmp_path):
    # the peak of this process from Linux, for `getrusage` starts at what the process was before it became Python
    code = (
        "import resource, clean_images; clean_images.main()\n"
        "peak = open('/proc/self/status').read().split('VmHWM:')[1].split()[0]\n"
        "print(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    peaks = []
    for count in (100, 1500):
        fill_with_photos(tmp_path / f"{count}" / "images", count, 80, 60)
        result = run_script("-c", code, "--data-dir", tmp_path / f"{count}", "--workers", 2)
        assert result.returncode == 0 and f"cleaned: {count}" in result.stdout
        peaks.append([int(peak) / 1024 for peak in result.stdout.splitlines()[-1].split()])
    (few_self, few_workers), (many_self, many_workers) = peaks
    assert many_workers - few_workers < 10 and many_self - few_self < 15, f"megabytes: {peaks}"


def test_the_output_may_be_read_by_a_pipe_that_closes(folder):
    line = f"{sys.executable} clean_images.py --data-dir {folder} | true"
    result = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stderr == "" and len(clean_photos(folder)) == 6


def test_a_missing_size_is_cleaned_once_and_only_from_raw_photos(folder, capsys):
    clean_missing_photos(DataFolder(folder), 32)
    assert capsys.readouterr().out.startswith("6 photos cleaned to 32 pixels in ")
    outputs = folder / "clean_images_32"
    (outputs / "photo-0.jpg").write_bytes(b"mine")
    clean_missing_photos(DataFolder(folder), 32)
    assert (outputs / "photo-0.jpg").read_bytes() == b"mine" and capsys.readouterr().out == ""
    (folder / "images").rename(folder / "elsewhere")
    clean_missing_photos(DataFolder(folder), 48)
    assert not (folder / "clean_images_48").exists()
