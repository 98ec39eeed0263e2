"""Scores kept on disk while a split is scored, so that the same evaluation goes on from them after a kill."""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import pathlib
from typing import IO, Any

import numpy as np

from fakeimg.data import seen
from fakeimg.data.datasets import Split
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.runtime import parallel

THREADS = 16  # that read again the images that were scored before; most of that time is the disk's


class PartialScores:
    """Context manager: a file with a line of JSON for each scored batch; each process has its own.

    A file of another `key` is replaced. One that cannot be written to, or that another process holds, is done without.

    Args:
        folder: where the file lies until `remove`.
        key: all that the scores depend on, JSON.
        split: what is scored; a prepared or a watched one, of which images that have changed are scored again.
    """

    def __init__(self, folder: pathlib.Path, key: dict[str, Any], split: Split):
        self._index, self._processes = parallel.shard()
        self._path = folder / (f'scores.{self._index}.partial' if self._index else 'scores.partial')
        self._key = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self._split = split
        self._file: IO[bytes] | None = None

    def __enter__(self) -> 'PartialScores':
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, batches: int, batch_size: int, unreadable: UnreadableImages) -> dict[int, tuple[np.ndarray, ...]]:
        """Opens the file, and reads the batches that every process finds in its own.

        Args:
            batches: of the split.
            batch_size: images of each.
            unreadable: gets those images of the batches that could not be read.

        Returns:
            Logits and weights, float32[batch_size] each, by the number of their batch.
        """
        lines = {line['batch']: line for line in self._open()}
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            now = list(pool.map(lambda number: self._digests(self._rows(number, batch_size), again=True), lines))
        same = [number for number, digests in zip(lines, now, strict=True) if digests == lines[number]['digests']]
        kept = np.flatnonzero(parallel.every_process(np.isin(np.arange(batches), same))).tolist()
        for number in kept:
            for name, reason in lines[number]['reasons'].items():
                unreadable.add(name, reason)
        return {
            number: tuple(np.array(lines[number][name], np.float32) for name in ('logits', 'weights'))
            for number in kept
        }

    def add(self, number: int, logits: np.ndarray, weights: np.ndarray, unreadable: UnreadableImages) -> None:
        """Appends a batch, float32[batch_size] each."""
        if self._file is None:
            return
        rows = self._rows(number, len(logits))
        reasons = {} if np.all(weights) else unreadable.reasons
        names = [self._split.names[row] for row in rows] if reasons else []
        line = {
            'batch': number,
            'logits': logits.tolist(),  # as JSON, decimals that give the same bits again
            'weights': weights.tolist(),
            'digests': self._digests(rows),
            'reasons': {name: reasons[name] for name in names if name in reasons},
        }
        # A disk that has no room for this may have it for the results.
        with contextlib.suppress(OSError):
            self._file.write(json.dumps(line).encode() + b'\n')

    def remove(self) -> None:
        """Removes the file, for the results are written."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)

    def _open(self) -> list[dict[str, Any]]:
        """The lines of the file, which stays open to append to; none of another key, nor what a kill cut short."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self._path, 'a+b', buffering=0)  # what is written outlives the process
        except OSError:
            return []
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return []
        except OSError:
            pass  # a file system without locks
        self._file = file
        file.seek(0)
        head, found = f'{self._key}\n'.encode(), []
        first, *lines = file.read().splitlines(keepends=True) or [b'']
        whole = len(head) if first == head else 0
        for line in lines if whole else ():
            try:
                found.append(json.loads(line[: line.index(b'\n')]))
            except ValueError:
                break
            whole += len(line)
        with contextlib.suppress(OSError):
            file.truncate(whole)
            file.write(head[whole:])
        return found

    def _rows(self, number: int, batch_size: int) -> np.ndarray:
        """The images of a batch that this process reads."""
        share = batch_size // self._processes
        start = number * batch_size + self._index * share
        return np.arange(start, min(start + share, len(self._split)))

    def _digests(self, rows: np.ndarray, *, again: bool = False) -> str:
        """Of what was read of some images, or is read of them now; nothing for a prepared set, whose key says it."""
        if len(self._split.digests):
            return ''
        for row in rows.tolist() if again else ():
            with contextlib.suppress(OSError):
                self._split[row]
        return seen.digests(self._split)[rows].tobytes().hex()
