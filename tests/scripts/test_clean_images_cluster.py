"""clean_images.py --scheduler: a real Dask scheduler and workers, as processes that are killed."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from photo_samples import clean_photos, cleaning_report, fill_with_photos
from repository import ROOT, run_script

# `dask` where this repository cannot be imported, as on another machine
DASK = "import sys; sys.modules['marketplace'] = None; from dask.__main__ import main; main()"
# minutes are right for a cluster, and too long for a test
IN_A_HURRY = (
    "import clean_images; from marketplace import command_line, photos; "
    "photos.CLUSTER_SECONDS = photos.SILENCE_SECONDS = 2; command_line.run(clean_images.main)"
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
        # without a nanny, which would replace a worker that is killed
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


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """400 photos that take a machine a second or two, and a file that is no photo."""
    images = tmp_path_factory.mktemp("images")
    fill_with_photos(images, COUNT, 1000, 750)
    (images / "text.jpg").write_bytes(b"no photo")
    return images


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory) -> dict[str, bytes]:
    """The clean photos that this machine makes of them."""
    folder = tmp_path_factory.mktemp("expected")
    assert run_script("clean_images.py", "--data-dir", folder, "--images", images).returncode == 0
    return clean_photos(folder)


def start(folder: Path, images: Path, address: str, in_a_hurry: bool = False) -> subprocess.Popen:
    """Start the script on the cluster, and wait until a part of the photos is clean."""
    options = ["--data-dir", folder, "--images", images, "--scheduler", address]
    command = [sys.executable, *(("-c", IN_A_HURRY) if in_a_hurry else ("clean_images.py",)), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while count_clean(folder) < 60:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    return process


def count_clean(folder: Path) -> int:
    return len(list((folder / "clean_images_64").glob("*.jpg")))


def one_sentence_about_the_cluster(status: int, errors: str) -> None:
    assert status == 1 and errors.startswith("error: the Dask cluster at tcp://127.0.0.1:"), errors
    assert "workers are alive" in errors and errors.count("\n") == 1, errors


def test_workers_that_die(tmp_path, images, expected):
    """While one is left all photos are cleaned; when none is, one sentence says so and finished photos are kept."""
    folder, second, third = tmp_path / "data", tmp_path / "second", tmp_path / "third"
    with cluster_of(2, tmp_path / "cluster") as cluster:
        process = start(folder, images, cluster.address)
        cluster.workers[0].send_signal(signal.SIGKILL)
        assert count_clean(folder) < COUNT, "it was too late"
        output, errors = process.communicate(timeout=90)
        assert (process.returncode, errors) == (0, "")
        assert f"cleaned: {COUNT}" in output and clean_photos(folder) == expected
        report = cleaning_report(folder)
        assert report["rejected"] == {"not a JPEG, PNG, WebP or GIF": ["text.jpg"]}
        again = run_script("clean_images.py", "--data-dir", folder, "--images", images)
        assert f"skipped: {COUNT}" in again.stdout, "the manifest of the cluster is valid on this machine"

        process = start(second, images, cluster.address, in_a_hurry=True)
        cluster.workers[1].send_signal(signal.SIGKILL)
        assert count_clean(second) < COUNT, "it was too late"
        errors = process.communicate(timeout=180)[1]  # at the latest after the silence that is allowed
        one_sentence_about_the_cluster(process.returncode, errors)
        assert all(expected[name] == photo for name, photo in clean_photos(second).items())

        options = ("--data-dir", third, "--images", images, "--scheduler", cluster.address)
        result = run_script("-c", IN_A_HURRY, *options, timeout=60)
        one_sentence_about_the_cluster(result.returncode, result.stderr)


def test_a_scheduler_that_dies(tmp_path, images, expected):
    folder = tmp_path / "data"
    with cluster_of(1, tmp_path / "cluster") as cluster:
        process = start(folder, images, cluster.address)
        cluster.scheduler.send_signal(signal.SIGKILL)
        assert count_clean(folder) < COUNT, "it was too late"
        errors = process.communicate(timeout=180)[1]  # at the latest after the silence that is allowed
    one_sentence_about_the_cluster(process.returncode, errors)
    again = run_script("clean_images.py", "--data-dir", folder, "--images", images)
    assert again.returncode == 0 and clean_photos(folder) == expected


def test_an_address_without_a_scheduler(tmp_path, images):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (1, silent.getsockname()[1]):
            options = ("--data-dir", tmp_path, "--images", images, "--scheduler", f"tcp://127.0.0.1:{port}")
            result = run_script("-c", IN_A_HURRY, *options, timeout=60)
            one_sentence_about_the_cluster(result.returncode, result.stderr)


def test_without_dask_a_sentence_names_the_requirements(tmp_path, images):
    code = f"import sys; sys.modules['distributed'] = None; {IN_A_HURRY}"
    options = ("--data-dir", tmp_path, "--images", images, "--scheduler", "tcp://127.0.0.1:8786")
    result = run_script("-c", code, *options)
    assert result.returncode == 1 and "requirements-cluster.txt" in result.stderr
    assert (ROOT / "requirements-cluster.txt").exists()
