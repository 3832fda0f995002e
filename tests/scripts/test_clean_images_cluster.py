"""clean_images.py --scheduler: a real Dask scheduler and workers, as processes, that die when they should not."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from photo_samples import jpeg
from repository import ROOT, run_script

from marketplace.data_folder import DataFolder

# `dask` where this package cannot be imported, as on a machine without this repository
DASK = "import sys; sys.modules['marketplace'] = None; from dask.__main__ import main; main()"
# bounds of a minute or two are right for a cluster, and too long for a test
IN_A_HURRY = (
    "import clean_images; from marketplace import command_line, photo_workers; photo_workers.CLUSTER_SECONDS = 2; "
    "photo_workers.SILENCE_SECONDS = 2; command_line.run(clean_images.main)"
)


COUNT = 400


class Cluster:
    """A scheduler and some workers on this machine, each a process."""

    def __init__(self, folder: Path, workers: int):
        self.folder = folder
        file = folder / "scheduler.json"  # appears when the scheduler listens
        local = ("--host", "127.0.0.1", "--no-dashboard")
        self.scheduler = self._start("scheduler", *local, "--port", "0", "--scheduler-file", str(file))
        self._wait_for(file.exists)
        self.address = json.loads(file.read_text())["address"]
        # without a nanny, which would put another worker into the place of one that is killed
        options = (*local, "--no-nanny", "--nthreads", "1", "--local-directory", str(folder))
        self.workers = [self._start("worker", self.address, *options) for _ in range(workers)]
        self._wait_for(lambda: (folder / "log").read_bytes().count(b"Register worker") == workers)

    def _start(self, *arguments: str) -> subprocess.Popen:
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen([sys.executable, "-c", DASK, *arguments], cwd=self.folder, stdout=log, stderr=log)

    def _wait_for(self, condition) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextlib.contextmanager
def cluster_of(workers: int, folder: Path) -> Iterator[Cluster]:
    folder.mkdir()
    cluster = Cluster(folder, workers)
    try:
        yield cluster
    finally:
        cluster.stop()


def photos(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "clean_images_64").glob("*.jpg")}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """400 photos that take a machine some seconds, and one that is none."""
    images = tmp_path_factory.mktemp("images")
    for number in range(COUNT):
        if number < 4:
            (images / f"{number}.jpg").write_bytes(jpeg(1400, 1000 + number, seed=number))
        else:
            os.link(images / f"{number % 4}.jpg", images / f"{number}.jpg")
    (images / "text.jpg").write_bytes(b"no photo")
    return images


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory) -> dict[str, bytes]:
    """What this machine alone makes of them."""
    folder = tmp_path_factory.mktemp("alone")
    assert run_script("clean_images.py", "--data-dir", folder, "--images", images).returncode == 0
    return photos(folder)


def start(folder: Path, images: Path, address: str, in_a_hurry: bool = False) -> subprocess.Popen:
    """Start the script on the cluster, and wait until a part of the photos is done."""
    options = ["--data-dir", folder, "--images", images, "--scheduler", address]
    command = [sys.executable, *(("-c", IN_A_HURRY) if in_a_hurry else ("clean_images.py",)), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while done(folder) < 60:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    return process


def done(folder: Path) -> int:
    return len(list((folder / "clean_images_64").glob("*.jpg")))


def is_told(status: int, errors: str) -> None:
    """The script ended with status 1 and one sentence about the cluster."""
    print(errors)
    assert status == 1 and errors.startswith("error: the Dask cluster at tcp://127.0.0.1:"), errors
    assert "workers are alive" in errors and errors.count("\n") == 1, errors


def test_workers_that_die(tmp_path, images, expected):
    """When one of them is left all photos are there; when none is, that is told and what is done is kept."""
    folder = tmp_path / "data"
    with cluster_of(3, tmp_path / "cluster") as cluster:
        process = start(folder, images, cluster.address)
        cluster.workers[0].send_signal(signal.SIGKILL)
        assert done(folder) < COUNT, "it was too late"
        output, errors = process.communicate(timeout=90)
        assert (process.returncode, errors) == (0, "")
        assert f"cleaned: {COUNT}" in output
        assert photos(folder) == expected
        assert {path.name for path in (folder / "clean_images_64").iterdir()} == {*expected, "manifest.json"}
        report = json.loads(DataFolder(folder).report("clean_images_64").read_text())
        assert report["set_aside"] == {"not a JPEG, PNG, WebP or GIF": ["text.jpg"]}
        again = run_script("clean_images.py", "--data-dir", folder, "--images", images)
        assert f"skipped: {COUNT}" in again.stdout, "the manifest of the cluster holds on this machine"

        process = start(tmp_path / "second", images, cluster.address, in_a_hurry=True)
        for worker in cluster.workers[1:]:
            worker.send_signal(signal.SIGKILL)
        assert done(tmp_path / "second") < COUNT, "it was too late"
        errors = process.communicate(timeout=90)[1]
        is_told(process.returncode, errors)
        assert all(expected[name] == photo for name, photo in photos(tmp_path / "second").items())

        options = ("--data-dir", tmp_path / "third", "--images", images, "--scheduler", cluster.address)
        result = run_script("-c", IN_A_HURRY, *options, timeout=60)
        is_told(result.returncode, result.stderr)


def test_a_scheduler_that_dies(tmp_path, images, expected):
    folder = tmp_path / "data"
    with cluster_of(2, tmp_path / "cluster") as cluster:
        process = start(folder, images, cluster.address)
        cluster.scheduler.send_signal(signal.SIGKILL)
        assert done(folder) < COUNT, "it was too late"
        errors = process.communicate(timeout=90)[1]
    is_told(process.returncode, errors)
    again = run_script("clean_images.py", "--data-dir", folder, "--images", images)
    assert again.returncode == 0 and photos(folder) == expected


@pytest.mark.parametrize(
    "address, words",
    [
        ("tcp://127.0.0.1:1", "failed"),
        ("tcp://nowhere.invalid:8786", "failed"),
        ("127.0.0.1:8786", "failed"),
        ("tcp://127.0.0.1", "failed"),
    ],
)
def test_addresses_where_no_scheduler_is(tmp_path, images, address, words):
    options = ("--data-dir", tmp_path, "--images", images, "--scheduler", address)
    result = run_script("-c", IN_A_HURRY, *options, timeout=60)
    print(result.stderr)
    assert result.returncode == 1 and words in result.stderr
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr


def test_without_dask_a_sentence_names_the_requirements(tmp_path, images):
    code = f"import sys; sys.modules['distributed'] = None; {IN_A_HURRY}"
    options = ("--data-dir", tmp_path, "--images", images, "--scheduler", "tcp://127.0.0.1:8786")
    result = run_script("-c", code, *options)
    assert result.returncode == 1 and "requirements-cluster.txt" in result.stderr
    assert (ROOT / "requirements-cluster.txt").exists()
