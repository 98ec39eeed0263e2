"""What users see: bars on a terminal, lines elsewhere, and nothing that could stop the work."""

import io
import os
import pty
import re
import time
from collections.abc import Iterator
from typing import IO

import pytest
import rich.table

from fakeimg import console as console_lib
from fakeimg.console import SILENT, Console, format_seconds

NAMES = ('лицо 人.jpg', 'broken \udcff.jpg', '[/bold] [red]x.jpg')


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[IO[str], int]]:
    """A pseudo-terminal: the stream of a program on it, and the descriptor to read from."""
    monkeypatch.setenv('TERM', 'xterm')
    master, slave = pty.openpty()
    with open(slave, 'w', encoding='utf-8') as stream:
        yield stream, master
    os.close(master)


def shown(master: int) -> str:
    """What is on its way to the terminal; all of it was written before."""
    os.set_blocking(master, False)
    parts = []
    try:
        while part := os.read(master, 65536):
            parts.append(part)
    except BlockingIOError:
        pass
    return b''.join(parts).decode()


def work(console: Console) -> None:
    """Everything that a console can be asked for."""
    with console.progress('training', 10) as bar:
        bar.update(5)
        console.say('half of it')
        bar.update(10)
        assert list(console.track('ab', 'scoring test[:10]', 2)) == ['a', 'b']
    assert list(console.track([1, 2, 3], 'reading [/x]', 3)) == [1, 2, 3]
    with console.watch('decoding', 4, lambda: 4):
        pass
    console.warn('no validation split')
    for name in NAMES:
        console.say(name)
    table = rich.table.Table('rate')
    table.add_row('12')
    console.table(table)


def test_a_terminal_has_a_bar_with_lines_above_it(terminal: tuple[IO[str], int]) -> None:
    stream, master = terminal
    console = Console(stream)
    assert console.has_bars
    work(console)
    text = shown(master)
    assert '10/10' in text and '━' in text
    assert re.search(r'half of it\s*\r\n', text)
    assert '!! no validation split.' in text
    assert 'broken \\udcff.jpg' in text and NAMES[0] in text and NAMES[2] in text
    assert 'rate' in text


@pytest.mark.parametrize('columns', ['30', '80'])
def test_a_narrow_terminal_cuts_the_text_not_the_count(
    terminal: tuple[IO[str], int], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv('COLUMNS', columns)
    stream, master = terminal
    with Console(stream).progress('training', 1_000_000, lines=False) as bar:
        bar.update(123_456, 'ETA 7:25:12  loss 0.6845  auc 0.5625  479 images/s/device  input waits 12 %')
    text = shown(master)
    assert '123,456/1,000,000' in text and 'ETA' in text and 'waits' not in text


def test_a_table_in_a_file_is_wider_than_80_columns() -> None:
    stream, table = io.StringIO(), rich.table.Table()
    for number in range(10):
        table.add_column(f'column{number}')
    Console(stream).table(table)
    assert 'column9' in stream.getvalue() and '…' not in stream.getvalue()


@pytest.mark.parametrize('kind', ['dumb', 'unknown'])
def test_a_terminal_without_movement_has_lines(
    terminal: tuple[IO[str], int], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv('TERM', kind)
    monkeypatch.setattr(console_lib, 'LINE_EVERY', 0.5)  # every update
    stream, master = terminal
    console = Console(stream)
    assert not console.has_bars
    work(console)
    text = shown(master)
    assert '\x1b' not in text
    assert re.search(r'training: 5 of 10, [\d,]+/s, \d:\d\d left\r\n', text)


def test_elsewhere_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))  # seconds, four for each look
    monkeypatch.setattr(console_lib.time, 'monotonic', lambda: next(clock))
    stream = io.StringIO()
    assert list(Console(stream).track(range(9), 'reading', 9)) == list(range(9))
    lines = stream.getvalue().splitlines()
    done = [(2, '0.17', '0:42'), (5, '0.21', '0:19'), (8, '0.22', '0:04')]
    assert lines == [f'reading: {count} of 9, {rate}/s, {left} left' for count, rate, left in done]


def test_a_reader_that_left_is_given_up_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = open(writer, 'w')
    work(Console(stream))
    stream.close()  # flushes; must not raise either
    work(Console(stream))  # a closed file


def test_a_terminal_that_goes_away_under_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TERM', 'xterm')
    master, slave = pty.openpty()
    with open(slave, 'w') as stream:
        console = Console(stream)
        with console.progress('training', 10) as bar:
            bar.update(1)
            os.close(master)
            for step in range(2, 10):
                bar.update(step)
                console.say('on')
        assert not console.has_bars
        work(console)


def test_names_that_an_encoding_lacks_are_escaped() -> None:
    raw = io.BytesIO()
    console = Console(io.TextIOWrapper(raw, encoding='ascii'))
    work(console)
    lines = raw.getvalue().decode('ascii').splitlines()
    assert '\\u043b\\u0438\\u0446\\u043e \\u4eba.jpg' in lines and 'broken \\udcff.jpg' in lines
    assert '[/bold] [red]x.jpg' in lines


def test_silence() -> None:
    work(SILENT)
    assert not SILENT.has_bars


def test_seconds() -> None:
    assert [format_seconds(value) for value in (None, 0.4, 75, 4000)] == ['-', '0:00', '1:15', '1:06:40']


def test_a_quiet_console_says_now_and_then_that_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_lib, 'LINE_EVERY', 0.6)
    monkeypatch.setattr(console_lib, 'QUIET', 0.9)
    stream = io.StringIO()
    console = Console(stream)
    console.say_when_quiet()
    time.sleep(1.1)
    with console.progress('training', 9, lines=False) as bar:
        bar.update(4)
        time.sleep(1.5)
    first, second, *others = stream.getvalue().splitlines()
    assert re.fullmatch(r'\.\.\. at work, 0:0\d since the start', first)
    assert re.fullmatch(r'\.\.\. training, 4 of 9, 0:0\d since the start', second)
    assert len(others) <= 1
