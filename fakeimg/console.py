"""All that fakeimg tells its user: sentences, warnings, tables, and the progress of long work."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, TypeVar

import rich.console
import rich.progress
import rich.table
import rich.text

from fakeimg.streams import Stream

Item = TypeVar('Item')
LINE_EVERY = 10.0  # seconds between lines of progress where there is no terminal
QUIET = 30.0  # seconds without a line, after the first LINE_EVERY, that make a person wonder
_REFRESH = 0.2  # seconds between looks at a counter, for a bar
_PLAIN_WIDTH = 120  # columns of a table where there is no terminal


class Console:
    """Writes to one stream; `SILENT` writes nowhere.

    A stream that is gone (a closed pipe, terminal or descriptor) is given up silently: it must not stop the work.

    Args:
        stream: sys.stdout, for example; None is silent.
    """

    def __init__(self, stream: IO[str] | None):
        self._stream = None if stream is None else Stream(stream)
        self._rich = None
        if self._stream:
            width = None if self._stream.isatty() else _PLAIN_WIDTH  # else rich takes 80 columns
            self._rich = rich.console.Console(file=self._stream, highlight=False, width=width)  # pyright: ignore
        self._bar: rich.progress.Progress | None = None
        self._work: Progress | None = None  # under way
        self._lines_said = 0

    def say_when_quiet(self) -> None:
        """From now on, a line says that work goes on whenever there was none for LINE_EVERY, later QUIET seconds."""
        began = since = time.monotonic()
        lines = self._lines_said

        def look() -> None:
            nonlocal since, lines
            now = time.monotonic()
            if self._bar is not None or lines != self._lines_said:
                since, lines = now, self._lines_said
            elif now - since >= (QUIET if lines else LINE_EVERY):
                what = self._work.state if self._work is not None else 'at work'
                self.say(f'... {what}, {format_seconds(now - began)} since the start')

        if self._stream:
            threading.Thread(target=_every, args=(min(1.0, QUIET / 4), look), daemon=True).start()

    @property
    def has_bars(self) -> bool:
        """Whether progress is a bar that moves; else it is a line now and then."""
        return bool(self._stream and self._stream.isatty() and os.environ.get('TERM') not in ('dumb', 'unknown'))

    def _beside(self, text: str) -> None:
        assert self._bar is not None
        self._bar.update(self._bar.task_ids[0], description=text)

    def say(self, text: str) -> None:
        """Writes a line."""
        self._lines_said += 1
        if self._bar is not None:
            self._bar.console.print(text, markup=False, soft_wrap=True)
        elif self._stream:
            self._stream.write(f'{text}\n')
            self._stream.flush()

    def warn(self, sentence: str) -> None:
        """Writes a warning; `sentence` comes without its full stop."""
        if self._bar is not None:
            self._bar.console.print(f'!! {sentence}.', markup=False, soft_wrap=True, style='bold red')
        else:
            self.say(f'!! {sentence}.')

    def table(self, table: rich.table.Table, width: int | None = None) -> None:
        """Writes a table of at most `width` columns; None takes the terminal's width."""
        if self._rich:
            self._rich.print(table, width=width)

    def track(self, items: Iterable[Item], title: str, total: int, each: int = 1) -> Iterator[Item]:
        """Yields the items, and shows how many of `total` are done, with an ETA; an item counts as `each`."""
        if self._bar is not None:  # within longer work, whose bar shows the title
            for done, item in enumerate(items):
                self._beside(f'{title}, {done:,}/{total:,}')
                yield item
            return
        with self.progress(title, total * each) as progress:
            for done, item in enumerate(items):
                progress.update(done * each)
                yield item

    @contextlib.contextmanager
    def watch(self, title: str, total: int, done: Callable[[], int]) -> Iterator[None]:
        """Shows, while the block runs, what `done()` says of `total`."""
        with self.progress(title, total) as progress:
            every = _REFRESH if self.has_bars else LINE_EVERY
            with _repeat(every, lambda: progress.update(done())):
                yield

    @contextlib.contextmanager
    def progress(
        self, title: str, total: int | None, completed: int = 0, *, lines: bool = True
    ) -> Iterator['Progress']:
        """A bar on a terminal, from `completed` to `total`; elsewhere a line every LINE_EVERY seconds, if `lines`.

        Without a `total`, for work whose end nobody knows, there is no ETA.
        """
        if not self.has_bars:
            before = self._work
            self._work = Progress(self, None, title, total, completed, lines)
            try:
                yield self._work
            finally:
                self._work = before
            return
        assert self._rich is not None
        bar = rich.progress.Progress(
            _Count(rich.table.Column(no_wrap=True)),
            rich.progress.BarColumn(bar_width=10),
            _Description(rich.table.Column(no_wrap=False)),  # the only one that may shrink
            console=self._rich,
            transient=lines,
        )
        with bar:
            self._bar = bar
            try:
                yield Progress(self, bar, title, total, completed, lines)
            finally:
                self._bar = None


class _Count(rich.progress.ProgressColumn):
    """What is done, of how much where that is known."""

    def render(self, task: rich.progress.Task) -> rich.text.Text:
        total = '' if task.total is None else f'/{int(task.total):,}'
        return rich.text.Text(f'{int(task.completed):,}{total}', no_wrap=True)


class _Description(rich.progress.ProgressColumn):
    """The text beside a bar, cut where the line ends; what is done of how much stays whole."""

    def render(self, task: rich.progress.Task) -> rich.text.Text:
        return rich.text.Text(task.description, no_wrap=True, overflow='ellipsis')


class Progress:
    """Progress of some work, from `Console.progress`."""

    def __init__(
        self,
        console: Console,
        bar: rich.progress.Progress | None,
        title: str,
        total: int | None,
        completed: int,
        lines: bool,
    ):
        self._console, self._bar, self._title, self._lines = console, bar, title, lines
        self._start, self._total, self._completed = completed, total, completed
        self._since = self._last_line = time.monotonic()
        self._task = bar.add_task(title, total=total, completed=completed) if bar else None

    def update(self, completed: int, text: str | None = None) -> None:
        """Moves the bar and shows `text` beside it, by default the title with rate and ETA."""
        now, self._completed = time.monotonic(), completed
        if self._bar is None:
            self._title = text or self._title
        if self._bar is not None and self._task is not None:
            described = self._described(completed, now) if text is None and self._lines else text
            self._bar.update(self._task, completed=completed, description=described)
        elif self._lines and completed > self._start and now - self._last_line >= LINE_EVERY - 0.5:
            self._last_line = now
            self._console.say(f'{self._title}: {self._count}, {self._rates(completed, now)}')

    @property
    def state(self) -> str:
        """What is done of how much."""
        return f'{self._title}, {self._count}'

    @property
    def _count(self) -> str:
        return f'{self._completed:,}' + ('' if self._total is None else f' of {self._total:,}')

    def _described(self, completed: int, now: float) -> str:
        return f'{self._title}, {self._rates(completed, now)}' if completed > self._start else self._title

    def _rates(self, completed: int, now: float) -> str:
        rate = (completed - self._start) / max(now - self._since, 1e-9)
        left = '' if self._total is None else f', {format_seconds((self._total - completed) / rate)} left'
        return f'{rate:{",.0f" if rate >= 10 else ".2g"}}/s{left}'


def format_seconds(seconds: float | None) -> str:
    """`75` -> `1:15`, `4000` -> `1:06:40`; `-` for None."""
    if seconds is None:
        return '-'
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{rest:02}' if hours else f'{minutes}:{rest:02}'


@contextlib.contextmanager
def _repeat(seconds: float, action: Callable[[], Any]) -> Iterator[None]:
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(seconds):
            action()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _every(seconds: float, action: Callable[[], Any]) -> None:
    while True:
        time.sleep(seconds)
        action()


SILENT = Console(None)
