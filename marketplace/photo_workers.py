"""Who cleans the photos: the processes of this machine, or the workers of a Dask cluster.

Both take the same work and give its results, chunk by chunk, in the order in which they are finished.
"""

import concurrent.futures
import contextlib
import itertools
import logging
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import marketplace
from marketplace.data_folder import UserError
from marketplace.photo_cleaning import Cleaned, clean_files

CLUSTER_SECONDS = 10  # to reach a scheduler, and for its first worker to appear
CLUSTER_SILENCE_SECONDS = 120  # a chunk takes seconds

Chunk = list[tuple[str, str]]


class CleaningJob(NamedTuple):
    """What there is to do: chunks of (source name, output name), from one folder into another."""

    images: Path
    outputs: Path
    size: int
    chunks: list[Chunk]


Results = contextlib.AbstractContextManager[Iterator[list[Cleaned]]]


def default_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Prepare a worker: when the parent is gone, even by SIGKILL, it ends too."""

    def watch():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def on_this_machine(work: CleaningJob, workers: int) -> Iterator[Iterator[list[Cleaned]]]:
    """Give an iterator over the results of chunks, as they are finished by `workers` processes.

    Only a few chunks wait at a time, so that memory does not grow with the number of photos. Raises UserError when a
    worker is killed.
    """
    # fork starts a worker in milliseconds, and no thread runs here yet; elsewhere the platform knows best
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(work.chunks)), context, end_with_parent)
    waiting = iter(work.chunks)

    def submit(count: int) -> set[concurrent.futures.Future]:
        chunks = itertools.islice(waiting, count)
        return {pool.submit(clean_files, work.images, work.outputs, chunk, work.size) for chunk in chunks}

    def results(running):
        while running:
            done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            running |= submit(len(done))
            for future in done:
                yield future.result()

    try:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is the parent's business
        try:
            running = submit(2 * workers)
        finally:
            signal.signal(signal.SIGINT, handler)
        yield results(running)
    except BaseException as error:  # Ctrl-C above all: nobody waits for photos that nobody wants any more
        for process in multiprocessing.active_children():
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a worker process was killed, perhaps for want of memory: what is finished is kept, "
                "run the command again, with fewer --workers."
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def on_cluster(work: CleaningJob, scheduler: str) -> Iterator[Iterator[list[Cleaned]]]:
    """Give an iterator over the results of chunks, as they are finished by the workers of a Dask cluster.

    All of them must see the two folders under the same path. Dask gives the chunks of a worker that dies to another;
    to a cluster of one thread joblib hands nothing, but works here.
    Raises UserError when Dask is not installed, or the cluster cannot be reached, has no worker or falls silent.
    """
    if not re.fullmatch(r"(tcp|tls)://[^/]+:[0-9]{1,5}", scheduler):
        raise UserError(f"{scheduler!r} is no address of a scheduler: give one like tcp://127.0.0.1:8786.")
    try:
        import cloudpickle
        import distributed
        import joblib
    except ImportError:
        raise UserError("--scheduler needs Dask: pip install -r requirements-cluster.txt, then run it again.") from None
    logging.disable(logging.CRITICAL)  # what goes wrong is told in a sentence of ours
    try:
        client = distributed.Client(scheduler, timeout=CLUSTER_SECONDS)
    except (OSError, ValueError):
        raise UserError(
            f"no Dask scheduler answers at {scheduler}: check the address, or start one with `dask scheduler`."
        ) from None
    images, outputs = work.images.resolve(), work.outputs.resolve()
    try:
        cloudpickle.register_pickle_by_value(marketplace)  # so that a worker needs Pillow only, not this package
        with joblib.parallel_config(backend="dask", client=client, wait_for_workers_timeout=CLUSTER_SECONDS):
            parallel = joblib.Parallel(return_as="generator_unordered", timeout=CLUSTER_SILENCE_SECONDS)
            tasks = (joblib.delayed(clean_files)(images, outputs, chunk, work.size) for chunk in work.chunks)
            yield (seen_from_here(result, outputs) for result in parallel(tasks))
    except Exception as error:
        of_a_disk = isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError)
        if of_a_disk or isinstance(error, UserError):
            raise  # a full disk is told as it is without a cluster
        raise UserError(
            f"the Dask cluster at {scheduler} does not answer ({type(error).__name__}): see whether its scheduler and "
            "workers are alive; what is finished is kept, run the command again."
        ) from None
    finally:
        client.close()
        logging.disable(logging.NOTSET)


def seen_from_here(result: list[Cleaned], outputs: Path) -> list[Cleaned]:
    """What a worker wrote, with sizes and times as this machine sees them.

    Raises UserError when the worker's folder is not this machine's.
    """
    seen = []
    for photo in result:
        if photo.reason is None:
            try:
                status = os.stat(outputs / photo.output)
            except FileNotFoundError:
                raise UserError(
                    f"a worker wrote into a {outputs} of its own: let all machines share this folder under this path."
                ) from None
            photo = photo._replace(output_size=status.st_size, output_mtime_ns=status.st_mtime_ns)
        seen.append(photo)
    return seen
