"""clean_images.py: every fault is made for real, and ends in a reason in the report or in one sentence."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from photo_samples import clean_photos, cleaning_report, content, fill_with_photos, jpeg
from PIL import Image
from repository import ROOT, run_script

from marketplace.data_folder import DataFolder, UserError
from marketplace.photos import clean_folder, read_manifest

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


def test_faulty_photos_are_rejected_and_named(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    good = jpeg(120, 90)
    for name, photo in {"good": good, "zero": b"", "cut": good[:900], "half": good[:1500], "page": b"<html>"}.items():
        (images / f"{name}.jpg").write_bytes(photo)
    with open(images / "huge.jpg", "wb") as file:
        file.write(good)
        file.truncate(10**9)  # takes no room: the rest is a hole
    for name in ("good.png", "notes.txt"):
        (images / name).write_bytes(good)
    os.mkfifo(images / "pipe.jpg")  # to open it would never end

    for _ in range(2):
        result = clean(tmp_path, timeout=60)
        assert (result.returncode, result.stderr) == (0, "")
        assert cleaning_report(tmp_path)["rejected"] == {
            "broken": ["cut.jpg", "half.jpg"],
            "too many bytes": ["huge.jpg"],
            "not a JPEG, PNG, WebP or GIF": ["page.jpg"],
            "empty file": ["zero.jpg"],
        }
        assert cleaning_report(tmp_path)["files not used"] == ["good.png", "notes.txt", "pipe.jpg"]
        assert cleaning_report(tmp_path)["in"] == 6 and list(clean_photos(tmp_path)) == ["good.jpg"]
        assert not leftovers(tmp_path / "clean_images_64")
    assert cleaning_report(tmp_path)["skipped"] == 1


def test_folders_without_raw_photos(tmp_path):
    folder = DataFolder(tmp_path)
    clean_already = folder.clean_images(64)
    folder.images.mkdir()
    (folder.images / "notes.txt").write_text("no photo")
    for images in (folder.images, ROOT / "README.md", tmp_path / "missing"):
        with pytest.raises(UserError, match=r"holds no \.jpg, \.png or other photo: .* --images"):
            clean_folder(images, folder, 64, workers=1)
    assert not clean_already.exists()
    fill_with_photos(clean_already, 2, 64, 64)
    before = clean_photos(tmp_path)
    with pytest.raises(UserError, match=r"clean already: .* --images"):
        clean_folder(clean_already, folder, 64, workers=1)
    assert clean_photos(tmp_path) == before


def test_nothing_usable_left(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "text.jpg").write_bytes(b"no photo")
    one_sentence(clean(tmp_path), "none of the 1 photos", "clean_images_64_report.json")
    assert cleaning_report(tmp_path)["rejected"] == {"not a JPEG, PNG, WebP or GIF": ["text.jpg"]}


def start(folder: Path, images: Path) -> subprocess.Popen:
    """Start the script in a process group of its own and wait until it has written 150 photos."""
    process = subprocess.Popen(
        [*SCRIPT, "--data-dir", folder, "--images", images, "--workers", "2"],
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


def processes(column: str, number: int) -> list[int]:
    """Ids of the processes with this number in a column of `ps`, without zombies."""
    listed = subprocess.run(["ps", "-A", "-o", f"pid=,{column}=,stat="], capture_output=True, text=True, check=True)
    rows = map(str.split, listed.stdout.splitlines())
    return [int(pid) for pid, value, state in rows if int(value) == number and not state.startswith("Z")]


def group_is_gone(group: int, seconds: float = 30) -> bool:
    """Whether every process of the group has ended, within some seconds."""
    deadline = time.monotonic() + seconds
    while processes("pgid", group) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not processes("pgid", group)


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
    assert clean(tmp_path, "--images", many).returncode == 0
    assert clean_photos(tmp_path) == expected
    assert young.exists() and not old.exists()


def test_ctrl_c_keeps_finished_work_and_ends_the_workers(tmp_path, many, expected):
    process = start(tmp_path, many)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Ctrl-C" in errors and errors.count("\n") == 1, errors
    assert group_is_gone(process.pid)
    done = clean_photos(tmp_path)
    assert 0 < len(done) < 400 and all(expected[name] == photo for name, photo in done.items())
    assert not leftovers(tmp_path)
    manifest = read_manifest(DataFolder(tmp_path).clean_images_manifest(64))
    assert len(manifest) > 0 and clean(tmp_path, "--images", many).returncode == 0
    assert cleaning_report(tmp_path)["skipped"] == len(manifest)
    assert clean_photos(tmp_path) == expected


def test_a_worker_that_is_killed(tmp_path, many, expected):
    process = start(tmp_path, many)
    children = processes("ppid", process.pid)
    workers = [worker for child in children for worker in processes("ppid", child)]
    os.kill(workers[0], signal.SIGKILL)
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
    copy = folder.with_name(folder.name + ".copy")
    for unshare in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        words = [*unshare, "sh", "-c", steps, "sh"]
        usable = subprocess.run([*words, "true"], capture_output=True).returncode == 0
        shutil.rmtree(copy, ignore_errors=True)
        if usable:
            return words
    return None


def test_a_full_disk_leaves_whole_files_only(tmp_path, many, expected):
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = small_disk(folder, kilobytes=400)
    if not mounted:
        pytest.skip("nobody may mount a small disk here")
    command = [*mounted, *SCRIPT, "--data-dir", str(folder), "--images", str(many), "--workers", "2"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    one_sentence(result, "No space left on device")
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
