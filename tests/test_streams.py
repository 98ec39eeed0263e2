"""Standard streams whose reader is gone, in processes of their own: the work ends as it would have ended."""

import pathlib
import subprocess
import sys

import pytest

from fakeimg.streams import Stream
from tests.support.verbs import ROOT, verb_environment

# Writes in every way that libraries do, then ends with a code of its own.
WRITES = """
import logging, os, sys, warnings
from fakeimg.streams import guard_standard_streams
guard_standard_streams()
for _ in range(3):
    print('said')
    sys.stdout.buffer if hasattr(sys.stdout, 'buffer') else None
    sys.stderr.write('progress\\r')
    sys.stderr.flush()
    logging.warning('a library warns')
    warnings.warn('and another one')
    print('x' * 100_000, flush=True)
    open(sys.argv[1], 'a').write('worked ')
sys.exit(7)
"""


@pytest.mark.parametrize(
    'streams',
    ['>&-', '2>&-', '<&- >&- 2>&-', '>/dev/full', '2>/dev/full', '>/dev/full 2>&1', '| head -c 1', '2>&1 | true',
     '2>&1 >/dev/full | head -c 3'],
)  # fmt: skip
def test_whatever_writes_the_work_goes_on_and_ends_with_its_own_code(streams: str, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, '-c', WRITES, str(tmp_path / 'done')]
    done = subprocess.run(
        ['bash', '-c', f'"$@" {streams}; exit "${{PIPESTATUS[0]}}"', 'bash', *command],
        env=verb_environment(), cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert (tmp_path / 'done').read_text() == 'worked ' * 3
    assert 'Error' not in done.stderr and 'ignored' not in done.stderr


def test_a_stream_that_is_full_for_the_moment_is_not_given_up() -> None:
    class Slow:
        encoding, is_full, text = 'utf-8', True, ''

        def write(self, text: str) -> int:
            if self.is_full:
                raise BlockingIOError
            self.text += text
            return len(text)

    slow = Slow()
    stream = Stream(slow)  # pyright: ignore[reportArgumentType]
    stream.write('lost ')
    slow.is_full = False
    stream.write('kept')
    assert slow.text == 'kept'


@pytest.mark.parametrize('arguments', [['--help'], ['nothing'], ['audit', 'none']])
def test_verbs_end_with_their_code_though_nobody_reads(arguments: list[str], tmp_path: pathlib.Path) -> None:
    codes = set()
    for streams in ('>/dev/full 2>&1', '>&- 2>&-'):
        command = [sys.executable, '-m', 'fakeimg', *arguments]
        shell = ['bash', '-c', f'"$@" {streams}', 'bash', *command]
        codes.add(subprocess.run(shell, env=verb_environment(), cwd=tmp_path, timeout=60).returncode)
    assert codes == {2 if arguments[-1] in ('nothing', 'none') else 0}
