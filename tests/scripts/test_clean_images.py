"""clean_images.py: the folder of clean photos follows the folder of raw ones, and no photo is cleaned twice."""

import fcntl
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
from marketplace.photos import clean_missing_photos, read_manifest


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
    assert (report["in"], report["cleaned"], report["skipped"], report["rejected"]) == (6, 6, 0, {})
    outputs = folder / "clean_images_64"
    manifest = read_manifest(outputs / "manifest.json")
    assert list(manifest) == [f"photo-{number}" for number in range(6)]
    for image_id, source in manifest.items():
        status = (folder / "images" / f"{image_id}.jpg").stat()
        assert source == [status.st_size, status.st_mtime_ns]
        with Image.open(outputs / f"{image_id}.jpg") as image:
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
    (folder / "clean_images_64" / "photo-2.jpg").unlink()
    os.utime(folder / "images" / "photo-3.jpg", ns=(0, 10**18))
    changed = folder / "images" / "photo-4.jpg"
    times = changed.stat()
    changed.write_bytes(jpeg(90, 120, seed=44))  # another photo with the old time
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    report = clean(folder)
    assert (report["cleaned"], report["skipped"]) == (3, 3)
    again = clean_photos(folder)
    assert again.pop("photo-4.jpg") != expected.pop("photo-4.jpg")
    assert again == expected
    assert clean(folder)["skipped"] == 6


@pytest.mark.parametrize(
    "manifest", ["{", "[]", '{"version": 2, "photos": {"photo-0.jpg": ["photo-0.jpg", 1, 2, 3, 4]}}']
)
def test_without_a_good_manifest_all_photos_are_cleaned_again(folder, manifest):
    clean(folder)
    expected = clean_photos(folder)
    DataFolder(folder).clean_images_manifest(64).write_text(manifest)
    for name in expected:
        (folder / "clean_images_64" / name).write_bytes(b"no photo")
    assert clean(folder)["cleaned"] == 6
    assert clean_photos(folder) == expected


def test_outputs_follow_their_sources(folder):
    clean(folder)
    outputs = folder / "clean_images_64"
    (folder / "images" / "photo-0.jpg").unlink()
    (folder / "images" / "photo-1.jpg").write_bytes(b"no photo any more")
    (outputs / "mine.jpg").write_bytes(b"keep me")
    report = clean(folder)
    assert report["removed"] == 1
    assert report["rejected"] == {"not a JPEG, PNG, WebP or GIF": ["photo-1.jpg"]}
    assert set(clean_photos(folder)) == {"mine.jpg", *(f"photo-{number}.jpg" for number in range(2, 6))}
    assert len(read_manifest(outputs / "manifest.json")) == 4


def test_names_that_are_not_utf_8(folder):
    for name, photo in ((b"bad\xff\xfe.jpg", jpeg()), (b"worse\xff.jpg", b"no photo")):
        with open(os.fsencode(folder / "images") + b"/" + name, "wb") as file:
            file.write(photo)
    report = clean(folder)
    assert (report["cleaned"], report["rejected"]) == (7, {"not a JPEG, PNG, WebP or GIF": ["worse\udcff.jpg"]})
    assert clean(folder)["skipped"] == 7


def test_a_bar_on_a_terminal(folder):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "clean_images.py", "--data-dir", folder]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # on Linux this means that the other end is closed
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert b"cleaning photos" in shown and b"6/6" in shown


def test_memory_does_not_grow_with_the_number_of_photos(tmp_path):
    # the peak of this process from Linux, for `getrusage` starts at what the process was before it became Python
    code = (
        "import clean_images; clean_images.main()\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    peaks = []
    for count in (100, 1500):
        fill_with_photos(tmp_path / f"{count}" / "images", count, 80, 60)
        result = run_script("-c", code, "--data-dir", tmp_path / f"{count}", "--workers", 2)
        assert result.returncode == 0 and f"cleaned: {count}" in result.stdout
        peaks.append(int(result.stdout.splitlines()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 15, f"megabytes: {peaks}"


def test_photos_added_later_reach_the_folder_of_another_size(folder, capsys):
    clean_missing_photos(DataFolder(folder), 32)
    assert capsys.readouterr().out.startswith("6 photos cleaned to 32 pixels in ")
    (folder / "images" / "later.jpg").write_bytes(jpeg())
    clean_missing_photos(DataFolder(folder), 32)
    assert capsys.readouterr().out.startswith("1 photos cleaned")
    assert len(clean_photos(folder, 32)) == 7
    clean_missing_photos(DataFolder(folder), 32)
    assert capsys.readouterr().out == ""
    (folder / "images").rename(folder / "elsewhere")
    clean_missing_photos(DataFolder(folder), 32)
    assert len(clean_photos(folder, 32)) == 7, "without raw photos the clean ones stay"
