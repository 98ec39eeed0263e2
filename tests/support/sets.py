"""One set of small images, as a folder, a zip, a tar, a table and a prepared set of several shards a split."""

import csv
import dataclasses
import functools
import io
import json
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from fakeimg.data.datasets import DataSet, open_path
from fakeimg.data.labels import class_names
from fakeimg.preparing.build import build
from fakeimg.preparing.items import Encoding
from fakeimg.preparing.plan import Options, Plan, make_plan
from tests.support.files import write_tar, write_tree, write_zip

COUNTS = {'train': 60, 'test': 40}
SHARD_ITEMS = 16
ODD = ('a b [1].jpg', 'line\nbreak.jpg', 'return\r.jpg', '"quoted", \'too\'.jpg', 'лицо 人.jpg', 'ünï.PNG')


def image(seed: int, height: int = 16, width: int = 20, kind: str = 'JPEG', **options: object) -> bytes:
    """Noise, so that no two images are alike."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def tree_of_images() -> dict[str, bytes]:
    tree = {}
    for split, count in COUNTS.items():
        for number in range(count):
            name = ODD[number // 2] if number // 2 < len(ODD) else f'{number}.{("jpg", "png")[number % 3 == 0]}'
            kind = 'PNG' if name.lower().endswith('png') else 'JPEG'
            tree[f'{split}/{("real", "fake")[number % 2]}/{name}'] = image(len(tree), 16 + number % 9, 20, kind)
    return tree


def options_of(
    encoding: Encoding | None = None,
    limit: int = 0,
    validation_fraction: float | None = None,
    labels: Sequence[str] = (),
    margin: float = 1.3,
    size: int = 24,
    min_face: int = 8,
) -> Options:
    return Options(encoding or Encoding(), limit, validation_fraction, margin, size, min_face, class_names(labels))


def small_shards(plan: Plan, items: int = SHARD_ITEMS) -> Plan:
    return dataclasses.replace(plan, shard_items=items)


def prepare(source: pathlib.Path | str, out: pathlib.Path, options: Options | None = None, workers: int = 1) -> dict:
    """Prepares in this process, in small shards."""
    return build(small_shards(make_plan(str(source), options or options_of())), out, workers)


def contents(folder: pathlib.Path) -> Mapping[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def tfds_rows(folder: pathlib.Path, split: str) -> Any:
    """What TFDS reads of a prepared set, images not decoded."""
    builder: Any = tfds.builder_from_directory(str(folder))
    return builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})


@dataclasses.dataclass(frozen=True)
class Sets:
    folder: pathlib.Path
    prepared: pathlib.Path

    @property
    def paths(self) -> list[pathlib.Path]:
        """All that hold the same images under the same names."""
        archives = [self.folder.with_name(f'folder{suffix}') for suffix in ('.zip', '.tar')]
        return [self.prepared, self.folder, *archives, self.folder / 'list.csv', self.folder / 'list.jsonl']

    @functools.cache  # noqa: B019
    def open(self, path: pathlib.Path) -> DataSet:
        return open_path(str(path))


def write_sets(root: pathlib.Path) -> Sets:
    """Writes all forms of the set below `root`."""
    tree = tree_of_images()
    folder = pathlib.Path(write_tree(root / 'folder', tree))
    write_zip(root / 'folder.zip', tree, zipfile.ZIP_DEFLATED)
    write_tar(root / 'folder.tar', tree)
    rows = [(name, name.split('/')[1]) for name in tree]
    with open(folder / 'list.csv', 'w', newline='') as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([('path', 'label'), *rows])
    lines = [json.dumps({'path': name, 'label': label, 'split': name.split('/')[0]}) for name, label in rows]
    (folder / 'list.jsonl').write_text('\n'.join(lines))
    prepare(folder, root / 'prepared')
    return Sets(folder, root / 'prepared')
