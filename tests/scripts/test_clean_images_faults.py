"""clean_images.py: every fault is made for real, and ends in a reason in the report or in one sentence."""

import os
import pwd
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from photo_samples import clean_photos, cleaning_report, content, fill_with_photos, jpeg, picture, png
from PIL import Image
from repository import ROOT, run_script

from marketplace.data_folder import DataFolder, UserError
from marketplace.photos import CleaningJob, clean_folder, read_manifest

SCRIPT = [sys.executable, "clean_images.py"]


def clean(folder: Path, *options: object, **keywords) -> subprocess.CompletedProcess:
    return run_script("clean_images.py", "--data-dir", folder, "--workers", 2, *options, **keywords)


def leftovers(folder: Path) -> list[str]:
    """Files in the data folder that no run should leave."""
    expected = {".jpg", ".json"}
    return [path.name for path in folder.rglob("*") if path.is_file() and path.suffix not in expected]


def one_sentence(result: subprocess.CompletedProcess, *words: str) -> None:
    """It failed with status 1 and one sentence, which holds these words."""
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    for word in words:
        assert word in result.stderr, result.stderr


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A folder with 400 photos of 700 pixels, which take a second or so to clean."""
    images = tmp_path_factory.mktemp("many") / "images"
    fill_with_photos(images, 400, 700, 500)
    return images


@pytest.fixture(scope="module")
def expected(many, tmp_path_factory) -> dict[str, bytes]:
    """The clean photos of a run without faults."""
    folder = tmp_path_factory.mktemp("expected")
    assert clean(folder, "--images", many).returncode == 0
    return clean_photos(folder)


def test_faulty_photos_are_set_aside_each_with_its_reason(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    good = jpeg(120, 90)
    faults = {
        "empty file": {"zero.jpg": b""},
        "broken": {
            "truncated.jpg": good[: len(good) // 2],
            "header only.jpg": good[:300],
            "truncated png.jpg": content(picture(90, 60), "PNG")[:2000],
            "truncated gif.jpg": content(picture(90, 60), "GIF")[:900],
            "truncated webp.jpg": content(picture(90, 60), "WEBP")[:500],
        },
        "broken (wrong checksum)": {"damaged png.jpg": png(8, 8, 8, 0, bytes(72)).replace(b"IDAT", b"IDAT\0", 1)},
        "broken or unusual header": {"very short.jpg": good[:20]},
        "not a JPEG, PNG, WebP or GIF": {
            "text.jpg": b"There was no photo, I am sorry.\n",
            "page.jpg": b"<!DOCTYPE html><title>404</title>",
            "postscript.jpg": content(picture(40, 40), "EPS"),
            "tiff.jpg": content(picture(40, 40), "TIFF"),
        },
        "too many pixels": {
            "bomb.jpg": png(60_000, 60_000, 8, 2, b""),
            "bomb too.jpg": good.replace(struct.pack(">HH", 90, 120), struct.pack(">HH", 65_000, 65_000), 1),
            "zip bomb.jpg": png(20_000, 20_000, 1, 0, bytes(2501) * 20_000),
        },
    }
    for named in faults.values():
        for name, photo in named.items():
            (images / name).write_bytes(photo)
    with open(images / "huge.jpg", "wb") as file:
        file.write(good)
        file.truncate(10**9)  # takes no room: the rest is a hole
    (images / "folder.jpg").mkdir()
    os.mkfifo(images / "pipe.jpg")
    (tmp_path / "outside.jpg").write_bytes(good)
    (images / "link out.jpg").symlink_to(tmp_path / "outside.jpg")
    (images / "link away.jpg").symlink_to("../outside.jpg")
    (images / "link to nothing.jpg").symlink_to("nothing.jpg")
    (images / "good.jpg").write_bytes(good)
    (images / "link inside.jpg").symlink_to("good.jpg")

    result = clean(tmp_path, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    reasons = {reason: sorted(named) for reason, named in faults.items()} | {
        "too many bytes": ["huge.jpg"],
        "not a file": ["folder.jpg", "pipe.jpg"],
        "link out of the folder": ["link away.jpg", "link out.jpg"],
        "cannot be read": ["link to nothing.jpg"],
    }
    assert cleaning_report(tmp_path)["set_aside"] == reasons
    assert sorted(clean_photos(tmp_path)) == ["good.jpg", "link inside.jpg"]
    assert cleaning_report(tmp_path)["in"] == 2 + sum(map(len, reasons.values()))
    assert not leftovers(tmp_path / "clean_images_64")
    again = clean(tmp_path, timeout=60)
    assert again.returncode == 0 and cleaning_report(tmp_path)["set_aside"] == reasons
    assert cleaning_report(tmp_path)["skipped"] == 2


# Root may read every file. So the script first cleans a folder as root, which loads all modules from wherever they are
# installed, and then the folder of the test as an ordinary user.
AS_ORDINARY_USER = """
import os, sys, clean_images
from marketplace import command_line, data_folder, photo_cleaning
user, first, folder = int(sys.argv[1]), *sys.argv[2:]
os.chdir(folder)
if os.geteuid() == 0:
    sys.argv[1:] = ["--data-dir", first]
    clean_images.main()
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
sys.argv[1:] = ["--data-dir", "."]
command_line.run(clean_images.main)
"""


def ordinary_user() -> int:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()


def as_ordinary_user(folder: Path, first: Path) -> subprocess.CompletedProcess:
    (first / "images").mkdir()
    (first / "images" / "photo.jpg").write_bytes(jpeg(90, 60))
    return run_script("-c", AS_ORDINARY_USER, ordinary_user(), first, folder)


def test_files_that_may_not_be_read_are_set_aside(tmp_path, tmp_path_factory):
    user, images = ordinary_user(), tmp_path / "images"
    images.mkdir()
    for name in ("good.jpg", "secret.jpg"):
        (images / name).write_bytes(jpeg(90, 60))
    for path in (tmp_path, images, *images.iterdir()):
        os.chown(path, user, -1)
    (images / "secret.jpg").chmod(0)
    result = as_ordinary_user(tmp_path, tmp_path_factory.mktemp("first"))
    assert (result.returncode, result.stderr) == (0, "")
    assert cleaning_report(tmp_path)["set_aside"] == {"may not be read": ["secret.jpg"]}
    assert sorted(clean_photos(tmp_path)) == ["good.jpg"]


@pytest.mark.parametrize("closed", ["images", "clean_images_64"])
def test_folders_that_may_not_be_used(tmp_path, tmp_path_factory, closed):
    user = ordinary_user()
    for folder in (tmp_path / "images", tmp_path / "clean_images_64"):
        folder.mkdir()
    (tmp_path / "images" / "good.jpg").write_bytes(jpeg(90, 60))
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, user, -1)
    (tmp_path / closed).chmod(0o500 if closed == "clean_images_64" else 0)
    try:
        result = as_ordinary_user(tmp_path, tmp_path_factory.mktemp("first"))
    finally:
        (tmp_path / closed).chmod(0o700)
    one_sentence(result, closed, "check the path and its permissions")
    assert not leftovers(tmp_path)


def test_folders_without_raw_photos(tmp_path):
    folder = DataFolder(tmp_path)
    clean_already = folder.clean_images(64)

    def refused(images: Path, words: str) -> None:
        with pytest.raises(UserError, match=words):
            clean_folder(images, folder, 64, workers=1)

    refused(folder.images, "images is missing or no folder: .* --images")
    refused(ROOT / "README.md", "no folder")
    folder.images.mkdir()
    (folder.images / "notes.txt").write_text("no photo")
    refused(folder.images, "holds no .jpg or .jpeg")
    assert not clean_already.exists()
    fill_with_photos(clean_already, 2, 64, 64)
    before = clean_photos(tmp_path)
    refused(clean_already, "clean already: .* --images")
    assert clean_photos(tmp_path) == before


def test_nothing_usable_left(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "text.jpg").write_bytes(b"no photo")
    one_sentence(clean(tmp_path), "none of the 1 photos", "clean_images_64_report.json")
    assert cleaning_report(tmp_path)["set_aside"] == {"not a JPEG, PNG, WebP or GIF": ["text.jpg"]}


@pytest.mark.parametrize("options", [("--size", "big"), ("--size", 100_000), ("--workers", 0)])
def test_wrong_arguments(tmp_path, options):
    result = clean(tmp_path, *options)
    assert result.returncode == 2 and "usage:" in result.stderr


# saves the manifest often, so that a run which is killed within a second has saved it
SAVING_OFTEN = (
    "import clean_images; from marketplace import photo_folder; from marketplace.command_line import run; "
    "photo_folder.SAVE_SECONDS = 0.02; run(clean_images.main)"
)


def start(folder: Path, images: Path) -> subprocess.Popen:
    """Start the script in a process group of its own and wait until it has written 150 photos."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAVING_OFTEN, "--data-dir", folder, "--images", images, "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(list((folder / "clean_images_64").glob("*.jpg"))) >= 150:
            break
        time.sleep(0.005)
    return process


def group_is_gone(group: int, seconds: float = 30) -> bool:
    """Whether every process of the group has ended, within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def workers_of(process: subprocess.Popen) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = (map(int, line.split()) for line in listed.splitlines())
    return [pid for pid, parent in pairs if parent == process.pid]


def test_killed_in_the_middle_then_run_again(tmp_path, many, expected):
    process = start(tmp_path, many)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    process.communicate()
    assert group_is_gone(process.pid), "workers outlived the script"
    done = clean_photos(tmp_path)
    assert 0 < len(done) < 400 and all(expected[name] == photo for name, photo in done.items())
    old, young = (tmp_path / "clean_images_64" / name for name in (".0123456789abcdef.partial", ".f.partial"))
    old.write_bytes(b"half a photo")
    os.utime(old, (0, 0))
    young.write_bytes(b"of another run, perhaps")

    result = clean(tmp_path, "--images", many)
    assert (result.returncode, result.stderr) == (0, "")
    assert clean_photos(tmp_path) == expected
    report = cleaning_report(tmp_path)
    assert report["skipped"] > 0 and report["skipped"] + report["cleaned"] == 400 and not report["foreign_files"]
    assert young.exists() and not old.exists()


def test_ctrl_c_ends_soon_with_a_summary(tmp_path, many, expected):
    process = start(tmp_path, many)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 10  # a second or two on an idle machine
    assert process.returncode == 130
    assert "of 400 photos" in errors and "Ctrl-C" in errors and "Traceback" not in errors + output, errors
    assert group_is_gone(process.pid)
    done = clean_photos(tmp_path)
    assert 0 < len(done) < 400 and all(expected[name] == photo for name, photo in done.items())
    assert not leftovers(tmp_path)
    manifest = read_manifest(DataFolder(tmp_path).clean_images_manifest(64))
    assert len(manifest) > 0 and clean(tmp_path, "--images", many).returncode == 0
    assert cleaning_report(tmp_path)["skipped"] == len(manifest)
    assert clean_photos(tmp_path) == expected


INTERRUPTED_AT_THE_START = """
import multiprocessing.popen_fork as popen, signal
import clean_images
from marketplace.command_line import run
launch = popen.Popen._launch
def interrupted(self, process):
    launch(self, process)
    signal.raise_signal(signal.SIGINT)
popen.Popen._launch = interrupted
run(clean_images.main)
"""


def test_ctrl_c_while_the_workers_start(tmp_path, many):
    """The first worker runs, the second and the thread that would end them do not yet."""
    options = ("--data-dir", tmp_path, "--images", many, "--workers", "2")
    result = run_script("-c", INTERRUPTED_AT_THE_START, *options, timeout=60)
    assert result.returncode == 130 and "Traceback" not in result.stderr, result.stderr
    assert "of 400 photos" in result.stderr


def test_a_worker_that_is_killed(tmp_path, many, expected):
    process = start(tmp_path, many)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    output, errors = process.communicate(timeout=60)
    one_sentence(subprocess.CompletedProcess([], process.returncode, output, errors), "worker", "run the command again")
    assert group_is_gone(process.pid)
    assert all(expected[name] == photo for name, photo in clean_photos(tmp_path).items())
    assert clean(tmp_path, "--images", many).returncode == 0
    assert clean_photos(tmp_path) == expected


def small_disk(folder: Path, kilobytes: int) -> list[str] | None:
    """Words that run a command with a small tmpfs mounted on `folder`, and copy it to `folder.copy` afterwards.

    The mount is seen by that command only. Root may mount; others may in a user namespace, where the system allows it.
    """
    steps = (
        f"mount -t tmpfs -o size={kilobytes}k,mode=755 none {shlex.quote(str(folder))} || exit 99\n"
        f'"$@"\nstatus=$?\ncp -a {shlex.quote(str(folder))} {shlex.quote(str(folder) + ".copy")}\nexit $status'
    )
    for unshare in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"], ["sudo", "-n", "unshare", "-m"]):
        words = [*unshare, "sh", "-c", steps, "sh"]
        copy = folder.with_name(folder.name + ".copy")
        if shutil.which(unshare[0]) and subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            shutil.rmtree(copy)
            return words
        shutil.rmtree(copy, ignore_errors=True)
    return None


def test_a_full_disk_leaves_whole_files_only(tmp_path, many, expected):
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = small_disk(folder, kilobytes=400)
    if not mounted:
        pytest.skip("nobody may mount a small disk here")
    command = [*mounted, *SCRIPT, "--data-dir", str(folder), "--images", str(many), "--workers", "2"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    one_sentence(result, "no space is left on the disk of", "free some")
    left = folder.with_name("data.copy")
    done = clean_photos(left)
    assert 20 < len(done) < 400 and all(expected[name] == photo for name, photo in done.items())
    assert not leftovers(left)
    assert clean(left, "--images", many).returncode == 0
    assert clean_photos(left) == expected


def test_a_photo_replaced_while_it_is_cleaned_is_seen_next_time(tmp_path, many):
    """The manifest holds size and time of the photo as it was before."""
    images = tmp_path / "images"
    shutil.copytree(many, images)
    process = start(tmp_path, images)
    (images / "399.jpg").write_bytes(content(Image.new("RGB", (80, 80), (255, 0, 0))))
    process.communicate(timeout=60)
    assert clean(tmp_path).returncode == 0
    with Image.open(tmp_path / "clean_images_64" / "399.jpg") as image:
        assert image.getpixel((30, 30))[0] > 240


def test_a_worker_that_does_not_share_the_folder(tmp_path):
    job = CleaningJob(tmp_path, tmp_path, 64, {"a.jpg": ("a.jpg", 1, 2)}, ["a.jpg"], {}, {}, {}, [], [])
    with pytest.raises(UserError, match="share this folder"):
        job.add("a.jpg", None)
    (tmp_path / "a.jpg").write_bytes(b"12345")
    job.add("a.jpg", None)
    assert job.clean == {"a.jpg": ("a.jpg", 1, 2, 5, (tmp_path / "a.jpg").stat().st_mtime_ns)}
