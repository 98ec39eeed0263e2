"""The process in which a detector that is not ours runs, and what can go wrong with it, each in a sentence."""

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fakeimg.errors import UserError
from fakeimg.evaluation import foreign_runner
from fakeimg.evaluation.score_table import to_log_odds

_LOOK = 500  # milliseconds between looks whether the process lives
_GOODBYE = 5.0  # seconds for the process to end by itself


@dataclasses.dataclass(frozen=True)
class ForeignDetector:
    """A function in a Python file, and how to run it.

    Attributes:
        spec: as the user wrote it, for messages.
        file: absolute path.
        function: its name.
        python: the interpreter, an absolute path.
        scale: of the scores, one of `score_table.SCALES`.
        timeout: seconds that the import, and each call, may take.
        batch: images in one call.
    """

    spec: str
    file: str
    function: str
    python: str
    scale: str
    timeout: float
    batch: int


class DetectorProcess:
    """A process that has imported a detector; ended, with all processes that it started, when the block is left.

    What the detector prints goes to a file, which stays where an error's sentence names it.

    Raises:
        UserError: it cannot be started or imported.
    """

    def __init__(self, detector: ForeignDetector):
        self._detector = detector
        self._doing = 'while it was imported'
        self._keep_log = False

    def __enter__(self) -> 'DetectorProcess':
        detector = self._detector
        log, self._log = tempfile.mkstemp(prefix='fakeimg-detector-', suffix='.log')
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        os.set_blocking(self._requests, False)
        self._rest = b''
        arguments = [detector.file, detector.function, *map(str, (os.getpid(), requests, replies))]
        try:
            self._process = subprocess.Popen(
                [detector.python, '-u', foreign_runner.__file__, *arguments],
                cwd=os.path.dirname(detector.file),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(requests, replies),
                start_new_session=True,  # a group of its own, which can be ended as a whole
            )
        except OSError as error:
            self._close()
            raise UserError(f'{detector.python} cannot be started ({error.strerror}); name another python.') from None
        finally:
            for used in (log, requests, replies):
                os.close(used)
        try:
            self._exchange(b'')
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        os.close(self._requests)  # which ends the process
        self._requests = -1
        if kind is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GOODBYE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close()

    def _close(self) -> None:
        for pipe in (self._requests, self._replies):
            if pipe >= 0:
                os.close(pipe)
        if not self._keep_log:
            os.unlink(self._log)

    def predict(self, paths: Sequence[str]) -> list[float | None]:
        """The scores of images, None for those of which the function has none.

        Raises:
            UserError: the function raises, takes too long, dies, or returns something else.
        """
        spec = self._detector.spec
        self._doing = f'for a batch of {len(paths):,} images (first: {paths[0]})'
        scores = self._exchange(json.dumps(paths).encode() + b'\n')
        if len(scores) != len(paths):
            raise UserError(
                f'{spec} returned {len(scores):,} scores for {len(paths):,} paths; it must return one for each, and '
                'None for an image that it cannot read.'
            )
        known = [path for path, value in zip(paths, scores, strict=True) if value is not None]
        values = np.array([value for value in scores if value is not None], np.float64)
        if np.isnan(values).any():
            raise UserError(
                f'{spec} returned NaN for {known[int(np.isnan(values).argmax())]}; it must return P(fake), from 0 to '
                '1, or None for an image that it cannot read.'
            )
        to_log_odds(values, self._detector.scale, lambda row: known[row], spec)
        return scores

    def _exchange(self, request: bytes) -> list[float | None]:
        """Sends a request, if any, and waits for the reply."""
        until = time.monotonic() + self._detector.timeout
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        while b'\n' not in self._rest:
            if time.monotonic() > until:
                raise UserError(
                    f'{self._detector.spec} gave no answer within {self._detector.timeout:g} s {self._doing} and was '
                    f'ended; allow more with timeout{self._logged()}.'
                )
            if request:
                poll.register(self._requests, select.POLLOUT)
            is_over = self._process.poll() is not None
            events = dict(poll.poll(min(_LOOK, 1000 * max(0.0, until - time.monotonic()))))
            if self._requests in events:
                try:
                    request = request[os.write(self._requests, request[: select.PIPE_BUF]) :]
                except BrokenPipeError:
                    request = b''
                poll.unregister(self._requests)
            if self._replies in events:
                data = os.read(self._replies, 1 << 16)
                if not data:
                    raise self._ended()
                self._rest += data
            elif is_over:
                raise self._ended()
        line, _, self._rest = self._rest.partition(b'\n')
        message = json.loads(line)
        if 'error' in message:
            raise self._failed(**message)
        return message['scores']

    def _failed(self, error: str, at: str, kind: str) -> UserError:
        spec, file = self._detector.spec, os.path.basename(self._detector.file)
        if at == 'find':
            return UserError(f'{file} has no function {self._detector.function}; {error.partition(": ")[2]}.')
        if at == 'result' and kind == 'TypeError':
            return UserError(
                f'{spec} returned {error.partition(": ")[2]}; it must return a list or an array with one number for '
                'each path.'
            )
        what, advice = f'raised {error}', ''
        if kind == 'SystemExit':
            what, advice = f'called {error}', '; leave that out'
            if at == 'import':
                advice = '; put what is not for import below if __name__ == "__main__"'
        elif kind == 'ModuleNotFoundError':
            advice = f'; install it for {self._detector.python}, or name a Python that has it (python)'
        return UserError(f'{spec} {what} {self._doing}{advice}{self._logged("the traceback is in")}.')

    def _ended(self) -> UserError:
        try:
            code = self._process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            return UserError(f'{self._detector.spec} closed its connection {self._doing}{self._logged()}.')
        if code >= 0:
            how = f'ended its process (exit code {code})'
        else:
            how = f'was ended by {signal.Signals(-code).name}'
            if -code == signal.SIGKILL:
                how += ', as where memory runs out (try fewer images a batch, batch_size),'
        return UserError(f'{self._detector.spec} {how} {self._doing}{self._logged()}.')

    def _logged(self, words: str = 'what it printed is in') -> str:
        self._keep_log = True
        return f'; {words} {self._log}'
