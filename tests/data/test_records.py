"""Prepared sets on disk: what is in a record, who can read it, and that damage never goes unnoticed."""

import hashlib
import json
import pathlib
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from fakeimg.config import Config
from fakeimg.data import memory, pipeline, records
from fakeimg.data.datasets import Split, open_path
from fakeimg.data.example import Record, decode_image, encode_example
from fakeimg.data.records import open_prepared
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.errors import UserError
from fakeimg.training.program import build
from tests.support.sets import COUNTS, Sets, tfds_rows

Example: Any = getattr(tf_example_pb2, 'Example')  # noqa: B009
SIZES = (0, 1, 2, 100, 119, *range(120, 129), 255, 256, *range(16360, 16388), (1 << 21) - 9, 1 << 21, 3_000_000)


@pytest.mark.parametrize('size', SIZES)
def test_an_example_is_what_protobuf_reads_and_gives_its_image_back(size: int) -> None:
    image = np.random.default_rng(size).bytes(size)
    row = Record('train', 'ünï\udce9/1.jpg', 1, 'g' * (size % 300), '', 1 << 40, 128, 'jpeg', size, 'ab' * 32)
    data = encode_example(image, row)
    example = Example.FromString(data)
    values = {}
    for key, feature in example.features.feature.items():
        kind = feature.WhichOneof('kind')
        (values[key],) = getattr(feature, kind).value
        assert kind == ('int64_list' if key in ('label', 'width', 'height', 'size') else 'bytes_list')
    assert values.pop('image') == image
    texts = {
        key: value.encode('utf-8', 'surrogateescape') for key, value in row._asdict().items() if type(value) is str
    }
    assert values == {**row._asdict(), **texts}
    assert decode_image(data) == image
    assert example.ByteSize() == len(data)


def test_only_own_records_are_decoded() -> None:
    other = Example()
    other.features.feature['another'].bytes_list.value.append(b'x')
    for data in (b'', bytes(100), other.SerializeToString()):
        with pytest.raises(ValueError, match='not a record of fakeimg'):
            decode_image(data)


@pytest.mark.parametrize('split', COUNTS)
def test_tfds_opens_a_prepared_set_and_gives_every_field(sets: Sets, split: str) -> None:
    builder: Any = tfds.builder_from_directory(str(sets.prepared))
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == COUNTS
    assert builder.info.features['label'].names == ['real', 'fake']
    rows = tfds_rows(sets.prepared, split)
    seen = set()
    for index in range(len(rows)):
        row = rows[index]
        name = row['name'].decode()
        seen.add(name)
        original = (sets.folder / name).read_bytes()
        kind = 'png' if original.startswith(b'\x89PNG') else 'jpeg'
        assert row['image'] == original
        assert row['sha256'].decode() == hashlib.sha256(original).hexdigest()
        assert (row['label'], row['split'], row['format']) == ('/fake/' in name, split.encode(), kind.encode())
        assert (row['source'], row['group']) == (b'folder', b'')
        assert (row['width'], row['size']) == (20, len(original))
        assert 16 <= row['height'] < 25
    assert seen == {name for name in sets.open(sets.folder).splits[split].names}


def test_tfds_decodes_the_images_too(sets: Sets) -> None:
    builder: Any = tfds.builder_from_directory(str(sets.prepared))
    row = builder.as_data_source('test')[0]
    assert row['image'].shape == (row['height'], row['width'], 3)


def test_the_manifest_lists_every_record_in_order_and_is_the_digest(sets: Sets) -> None:
    summary = json.loads((sets.prepared / records.SUMMARY).read_text())
    assert hashlib.sha256((sets.prepared / records.MANIFEST).read_bytes()).hexdigest() == summary['digest']
    assert summary['counts'] == {'train': {'real': 30, 'fake': 30}, 'test': {'real': 20, 'fake': 20}}
    assert summary['shards'] == {'train': [16, 16, 16, 12], 'test': [16, 16, 8]}
    prepared = open_prepared(str(sets.prepared))
    assert {split: len(files) for split, files in prepared.files.items()} == COUNTS
    for split, files in prepared.files.items():
        for index, name in enumerate(files.names):
            assert files.read(index) == (sets.folder / name).read_bytes()
            assert prepared.columns[split]['label'][index] == str(int('/fake/' in name))


def test_a_part_of_a_split_keeps_its_order_also_in_another_process(sets: Sets) -> None:
    files = open_prepared(str(sets.prepared)).files['train']
    part = files.take([50, 3]).take(np.array([1, 0, 1]))
    names = [files.names[index] for index in (3, 50, 3)]
    for own in (part, pickle.loads(pickle.dumps(part))):
        assert own.names == names
        assert [own.read(index) for index in range(3)] == [(sets.folder / name).read_bytes() for name in names]


def test_many_threads_read_at_once(sets: Sets) -> None:
    files = open_prepared(str(sets.prepared)).files['train']
    with ThreadPoolExecutor(16) as pool:
        read = list(pool.map(files.read, [*range(60)] * 10))
    assert read == [(sets.folder / name).read_bytes() for name in files.names] * 10


@pytest.mark.parametrize(('rows', 'in_runs'), [(range(60), 60), ([50, 3, 3, 17, 59], 3), ([33], 0)])
def test_records_read_in_runs_are_the_same(
    sets: Sets, rows: Sequence[int], in_runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of which few records are wanted are left alone."""
    monkeypatch.setattr(records, 'RUN', 10)
    files = open_prepared(str(sets.prepared)).files['train'].take(rows)
    expected = [(sets.folder / name).read_bytes() for name in files.names]
    read_whole(files)
    assert files.num_loaded == in_runs
    assert [files.read(index) for index in range(len(rows))] == expected
    assert pickle.loads(pickle.dumps(files)).read(0) == expected[0]
    if in_runs == len(rows):
        monkeypatch.setattr(records, 'decode_image', None)  # no record is read again
        assert [files.read(index) for index in range(len(rows))] == expected


def test_reading_ahead_ends_when_nobody_holds_the_files(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, 'RUN', 1)
    go_on, decoded = threading.Event(), []
    monkeypatch.setattr(records, 'decode_image', lambda record: go_on.wait(10) and decoded.append(1))
    files = open_prepared(str(sets.prepared)).files['train'].take(np.arange(60))
    thread = files.load()
    assert thread is not None
    assert files.load() is None
    del files
    go_on.set()
    thread.join(10)
    assert len(decoded) == 1


def test_a_process_does_not_wait_for_records_to_load(sets: Sets) -> None:
    """Neither at its end nor when it fails: reading all 60 records of this one would take a minute."""
    script = """if True:
        import sys, time
        from fakeimg.data import records
        records.RUN = 1
        records.decode_image = lambda record: time.sleep(1)
        files = records.open_prepared(sys.argv[1]).files['train']
        thread = files.load()
        time.sleep(0.1)
        assert thread.is_alive()
        if sys.argv[2] == 'fail':
            raise KeyboardInterrupt
    """
    for how in ('end', 'fail'):
        command = [sys.executable, '-c', script, str(sets.prepared), how]
        result = subprocess.run(command, timeout=40, capture_output=True, text=True, check=False)
        assert (result.returncode == 0) == (how == 'end'), result.stderr
        assert how == 'end' or 'KeyboardInterrupt' in result.stderr


def read_whole(files: records.RecordFiles) -> None:
    thread = files.load()
    assert thread is not None
    thread.join()


def test_only_records_that_fit_are_loaded(sets: Sets, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config.data.path = str(sets.prepared)
    loaded = []
    monkeypatch.setattr(records.RecordFiles, 'load', lambda self: loaded.append(self))

    def is_loaded() -> bool:
        loaded.clear()
        split = open_path(config.data.path).splits['train']
        batches = pipeline.EvalBatches(split, config, UnreadableImages('train', len(split), 0.0))
        assert sum(batch['weight'].sum() for batch in pipeline.read_batches(batches)) == len(split)
        return loaded == [split.files]

    config.data.cache = 'none'
    assert not is_loaded()
    config.data.cache = 'auto'
    assert is_loaded()
    monkeypatch.setattr(memory, 'available_memory', lambda: 10_000)
    assert not is_loaded()


@pytest.mark.parametrize('in_runs', [False, True])
@pytest.mark.parametrize('shard', ['fakeimg-train.array_record-00001-of-00004'])
def test_no_flipped_byte_of_a_shard_gives_wrong_images(
    sets: Sets, tmp_path: pathlib.Path, shard: str, in_runs: bool
) -> None:
    copy = pathlib.Path(shutil.copytree(sets.prepared, tmp_path / 'copy'))
    data = (copy / shard).read_bytes()
    names = open_prepared(str(copy)).files['train'].names
    used = data.rstrip(b'\0')
    damaged = 0
    for position in np.random.default_rng(0).integers(len(used), size=100):
        flipped = bytearray(data)
        flipped[position] ^= 0xFF
        (copy / shard).write_bytes(flipped)
        try:
            files = open_prepared(str(copy)).files['train']
        except UserError as error:
            assert 'the shards of split train' in str(error)  # noqa: PT017
            damaged += 1
            continue
        if in_runs:
            read_whole(files)
        for index in range(16, 32):
            try:
                assert files.read(index) == (sets.folder / names[index]).read_bytes()
            except OSError as error:
                assert str(error).startswith('damaged record: ')  # noqa: PT017
                damaged += 1
    assert damaged > 20


def test_a_damaged_record_is_a_bad_image_and_the_rest_are_read(sets: Sets, tmp_path: pathlib.Path) -> None:
    copy = pathlib.Path(shutil.copytree(sets.prepared, tmp_path / 'copy'))
    shard = copy / 'fakeimg-test.array_record-00000-of-00003'
    source: Split = open_path(str(copy)).splits['test']
    data = bytearray(shard.read_bytes())
    place = data.find(source[5][100:200])
    assert place > 0
    data[place] ^= 1
    shard.write_bytes(data)
    source = open_path(str(copy)).splits['test']
    for index, name in enumerate(source.names):
        if index == 5:
            with pytest.raises(OSError, match='damaged record: .*hash mismatch'):
                source[index]
        else:
            assert source[index] == (sets.folder / name).read_bytes()


def spoil(folder: pathlib.Path, what: str) -> None:
    shard = folder / 'fakeimg-test.array_record-00001-of-00003'
    manifest, summary = folder / records.MANIFEST, folder / records.SUMMARY
    lines = manifest.read_bytes().split(b'\n')
    match what:
        case 'label':
            manifest.write_bytes(manifest.read_bytes().replace(b',0,', b',1,', 1))
        case 'order':
            manifest.write_bytes(b'\n'.join([lines[0], *reversed(lines[1:-1]), b'']))
        case 'row':
            manifest.write_bytes(b'\n'.join(lines[:-2]))
        case 'quote':
            manifest.write_bytes(manifest.read_bytes() + b'"a"b"\r"\0')
        case 'empty manifest':
            manifest.write_bytes(b'')
        case 'no manifest':
            manifest.unlink()
        case 'no shard':
            shard.unlink()
        case 'empty shard':
            shard.write_bytes(b'')
        case 'half a shard':
            shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
        case 'tail of a shard':
            shard.write_bytes(shard.read_bytes()[:-100])
        case 'another shard':
            shutil.copyfile(folder / 'fakeimg-test.array_record-00002-of-00003', shard)
        case 'summary':
            summary.write_text(summary.read_text()[:100])
        case 'list':
            summary.write_text('[]')
        case 'newer':
            summary.write_text(json.dumps({**json.loads(summary.read_text()), 'version': records.VERSION + 1}))


@pytest.mark.parametrize(
    ('what', 'message'),
    [
        *[(what, r'manifest\.csv was changed since the set was prepared; prepare it again')
          for what in ('label', 'order', 'row', 'quote', 'empty manifest')],
        ('no manifest', r'is not a whole prepared set \(.*manifest\.csv.*\); prepare it again'),
        ('summary', r'is not a whole prepared set \(.*\); prepare it again'),
        ('list', r'is not a whole prepared set \(.*\); prepare it again'),
        ('newer', 'was prepared by a newer fakeimg; update fakeimg'),
        ('no shard', r'fakeimg-test\.array_record-00001-of-00003 is missing; copy the whole set again'),
        ('empty shard', r'fakeimg-test\.array_record-00001-of-00003 is not whole; copy the whole set again'),
        ('half a shard', r'fakeimg-test\.array_record-00001-of-00003 is not whole; copy the whole set again'),
        ('tail of a shard', r'fakeimg-test\.array_record-00001-of-00003 is not whole; copy the whole set again'),
        ('another shard', r'are damaged \(32 records, 40 in the manifest\); copy the whole set again'),
    ],
)  # fmt: skip
def test_a_set_that_was_changed_is_refused(sets: Sets, tmp_path: pathlib.Path, what: str, message: str) -> None:
    copy = pathlib.Path(shutil.copytree(sets.prepared, tmp_path / 'copy'))
    spoil(copy, what)
    with pytest.raises(UserError, match=message) as refusal:
        open_path(str(copy))
    assert '\n' not in str(refusal.value)


def test_a_set_can_be_moved(sets: Sets, tmp_path: pathlib.Path) -> None:
    copy = pathlib.Path(shutil.copytree(sets.prepared, tmp_path / 'elsewhere'))
    moved, source = open_path(str(copy)), sets.open(sets.prepared).splits['test']
    assert moved.digest == sets.open(sets.prepared).digest
    assert [moved.splits['test'][index] for index in range(40)] == [source[index] for index in range(40)]
    assert len(tfds_rows(copy, 'test')) == 40


def test_prepared_set_folder_archives_and_tables_hold_the_same_images(sets: Sets) -> None:
    expected = {name: (sets.folder / name).read_bytes() for split in sets.open(sets.folder).splits.values()
                for name in split.names}  # fmt: skip
    assert len(expected) == sum(COUNTS.values())
    for path in sets.paths:
        data = sets.open(path)
        assert {split: len(source) for split, source in data.splits.items()} == COUNTS, path
        found = {name: source[index] for source in data.splits.values() for index, name in enumerate(source.names)}
        assert found == expected, path
        for split, source in data.splits.items():
            assert source.labels.dtype == np.int32
            for name, label in zip(source.names, source.labels, strict=True):
                assert name.startswith(f'{split}/{("real", "fake")[label]}/'), path
    assert sets.open(sets.prepared).is_prepared
    assert len({sets.open(path).digest for path in sets.paths[1:4]}) == 1  # folder, zip, tar


def test_training_reads_a_prepared_set_by_slices_and_remembers_its_digest(sets: Sets, config: Config) -> None:
    config.data.path = str(sets.prepared)
    config.data.train_split = 'train[:50%]'
    setup = build(config)
    assert len(setup.splits['train']) == 22  # half of what carving validation left
    assert len(setup.splits['validation']) == 16
    assert setup.meta().data_digest == hashlib.sha256((sets.prepared / records.MANIFEST).read_bytes()).hexdigest()
