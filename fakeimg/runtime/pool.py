"""Work on many images over several processes, in order, with progress, and without orphans.

Workers import what their function needs and nothing else: no jax, no GPU memory.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

from fakeimg.console import SILENT, Console
from fakeimg.errors import UserError

Task = TypeVar('Task')
Result = TypeVar('Result')

_worker: dict[str, Any] = {}  # in a worker process: what `tick` needs


class Stopped(Exception):
    """Raised by `tick` in a worker when the main process wants to leave."""


def default_workers() -> int:
    """One process a core that this process may use."""
    return len(os.sched_getaffinity(0))


def tick(count: int) -> None:
    """Reports, from a worker, `count` more images done. Some microseconds, so not for every single one."""
    if _worker:
        with _worker['done'].get_lock():
            _worker['done'].value += count
        if _worker['stop'].value:
            raise Stopped


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    workers: int,
    total: int,
    title: str,
    console: Console = SILENT,
) -> Generator[Result, None, None]:
    """Yields `function(task)` for each task, in order, while showing progress over `total` images.

    Only a few tasks are taken ahead, so memory does not grow with their number.

    Args:
        function: importable by name; it should call `tick` as it goes.
        tasks: cheap to pickle.
        workers: processes.
        total: images in all tasks.
        title: what is being done, for the progress bar.
        console: shows the progress.

    Raises:
        UserError: a worker was killed.
        Exception: whatever `function` raises.
    """
    context = multiprocessing.get_context('spawn')
    # Without a lock where the main process looks: a worker that is killed never lets go of one.
    done, stop = context.Value('q', 0), context.RawValue('b', 0)
    others = set(multiprocessing.active_children())
    executor = concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=_start_worker, initargs=(done, stop, os.getpid())
    )
    pending: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        counter = done.get_obj()
        with console.watch(title, total, lambda: counter.value):
            for task in tasks:
                with _interrupts_held():
                    pending.append(executor.submit(function, task))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # the executor forgets, and then waits for, one that was just starting
        raise UserError(
            'a worker process was killed, by lack of memory perhaps; run it again with fewer workers.'
        ) from None
    finally:
        stop.value = 1
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C goes to all processes, and the main one decides: those that it starts here never see one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(done, stop, parent: int) -> None:
    _worker.update(done=done, stop=stop)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
