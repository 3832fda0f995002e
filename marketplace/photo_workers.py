"""Cleans photos with the processes of this machine or with the workers of a Dask cluster.

Both are context managers that give an iterator over the results.
"""

import collections
import contextlib
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path

import marketplace
from marketplace.data_folder import UserError, first_line
from marketplace.photo_cleaning import clean_files

CLUSTER_SECONDS = 10  # to reach a scheduler, and for its first worker to appear
SILENCE_SECONDS = 120  # of a cluster; a task takes seconds
Task = tuple[Path, Path, list[tuple[str, str]], int]  # the arguments of `clean_files`
Results = Iterator[str | None]  # of all photos of all tasks, in their order


def default_workers() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def submit(executor: Executor, function: Callable, tasks: list[Task], seconds: float | None) -> Results:
    """Submit all tasks and return an iterator over their results; each task is waited for at most `seconds`."""
    futures = collections.deque(executor.submit(function, *task) for task in tasks)
    return itertools.chain.from_iterable(futures.popleft().result(seconds) for _ in tasks)


def prepare_worker() -> None:
    """Leave Ctrl-C to the parent process, and end when that has ended, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with, args=[multiprocessing.parent_process()], daemon=True).start()


def end_with(parent: BaseProcess) -> None:
    """End this process as soon as `parent` has ended."""
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def on_this_machine(tasks: list[Task], workers: int) -> Iterator[Results]:
    """Clean with processes; joblib's loky would take half a second longer to start.

    Leaving the context early, as Ctrl-C does, waits for the few tasks that workers have begun.
    Raises UserError when a worker is killed.
    """
    # fork is the fastest way to start; the default of other systems is used there
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, prepare_worker)
    try:
        # Ctrl-C waits until all workers have started: in between it would leave workers that nobody ends
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results = submit(pool, clean_files, tasks, None)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield results
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory: finished photos are kept, "
            "run the command again with fewer --workers."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def on_cluster(tasks: list[Task], scheduler: str) -> Iterator[Results]:
    """Clean with the workers of a Dask cluster, which see the folders under the same paths as this machine.

    Dask gives the tasks of a worker that dies to another. Raises UserError when Dask is not installed, or when the
    cluster cannot be reached, has no worker or stops answering.
    """
    try:
        import cloudpickle
        import distributed
    except ImportError:
        raise UserError("--scheduler needs Dask: pip install -r requirements-cluster.txt, then run it again.") from None
    cloudpickle.register_pickle_by_value(marketplace)  # so that workers need Pillow only, not this package
    logging.disable(logging.CRITICAL)  # Dask logs every lost connection; one sentence is enough
    try:
        with distributed.Client(scheduler, timeout=CLUSTER_SECONDS) as client:
            client.wait_for_workers(1, CLUSTER_SECONDS)
            absolute = [(images.absolute(), outputs.absolute(), names, size) for images, outputs, names, size in tasks]
            # a lambda, for Dask would pickle a function with a name by that name
            yield submit(client.get_executor(pure=False), lambda *task: clean_files(*task), absolute, SILENCE_SECONDS)
    except Exception as error:
        of_a_disk = isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError)
        if of_a_disk or isinstance(error, UserError):
            raise
        raise UserError(
            f"the Dask cluster at {scheduler} failed ({first_line(error)}): check the address, and that scheduler and "
            "workers are alive; finished photos are kept, run the command again."
        ) from None
    finally:
        logging.disable(logging.NOTSET)
