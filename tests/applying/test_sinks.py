import csv
import json
import os
import pathlib

import pytest

from fakeimg.applying import rows, sinks
from fakeimg.applying.rows import Row
from fakeimg.data.inputs import Input
from fakeimg.errors import UserError

NAMES = ['a.jpg', '=cmd().jpg', 'b, "c".jpg', 'line\nend.jpg', 'cr\rend.jpg', 'caf\udce9.jpg', '-', '-x.jpg']
NOW = Row('', threshold=0.75, model='cnn@1')


def row_of(name: str, **more: object) -> Row:
    return Row(name, 'fake', 0.9123456789, 2.345, 0.75, 'fake', model='cnn@1')._replace(**more)


def inputs_of(names: list[str]) -> list[Input]:
    return [Input(name, name) for name in names]


def read(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, encoding='utf-8', errors='surrogateescape', newline='') as file:
        return list(csv.DictReader(file))


def test_csv_keeps_every_name_and_no_spreadsheet_runs_one(tmp_path: pathlib.Path) -> None:
    sink = sinks.open_file(tmp_path / 'new/out.csv', 'csv')
    sink.write([row_of(name) for name in NAMES])
    sink.close()
    found = read(tmp_path / 'new/out.csv')
    assert [row['path'] for row in found] == [NAMES[0], './=cmd().jpg', *NAMES[2:7], './-x.jpg']
    assert list(found[0]) == list(Row._fields)
    assert (found[0]['probability'], found[0]['note']) == ('0.912346', '')


def test_jsonl_and_templates(tmp_path: pathlib.Path) -> None:
    row = row_of('line\nend.jpg', note='100% sure')
    assert json.loads(rows.lines('jsonl', [row]))['path'] == 'line\nend.jpg'
    assert json.loads(rows.lines('jsonl', [row]))['stability'] is None
    assert rows.lines('%p|%v|%s|%b|%%|%n', [row]) == 'line\\nend.jpg|fake|0.912346||%|100% sure\n'


@pytest.mark.parametrize('form', ['xml', '', 'plain %%', '%p %q', 'ends with %'])
def test_unknown_formats_are_refused(form: str) -> None:
    with pytest.raises(UserError, match='format is .*%p path'):
        rows.require_format(form)
    rows.require_format('%p%%')


@pytest.mark.parametrize('form', ['csv', 'jsonl'])
@pytest.mark.parametrize('cut', [0, 1, 40, 150])
def test_a_file_is_continued_behind_its_last_whole_image(form: str, cut: int, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'out'
    face = row_of('b, "c".jpg', faces='1 of 1')
    zero, one = ({'faces': cell} for cell in ('0', '1'))
    written = [row_of(NAMES[0], **zero), row_of(NAMES[1], **zero), face, row_of(NAMES[2], **one)]
    written += [row_of(NAMES[3], **zero), face]
    sink = sinks.open_file(path, form)
    sink.write(written)
    sink.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    images = iter(inputs_of(NAMES))
    sink, done = sinks.continue_file(path, form, images, NOW._replace(faces=''))
    assert done == (2 if (form, cut) == ('csv', 150) else 4)
    assert [one.name for one in images] == NAMES[done:]
    sink.write([row_of(name) for name in NAMES[done:]])
    sink.close()
    if form == 'csv':
        found = [row['path'].removeprefix('./') for row in read(path)]
    else:
        found = [json.loads(line)['path'] for line in path.read_text().splitlines()]
    assert found == [*NAMES[:2], *([NAMES[2]] if done == 4 else []), *NAMES[2:]]  # a face is kept with its image


def test_an_empty_file_is_begun(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'out.csv'
    for start in (b'', b'path,lab'):
        path.write_bytes(start)
        sink, done = sinks.continue_file(path, 'csv', iter(inputs_of(NAMES)), NOW)
        sink.write([row_of('a.jpg')])
        sink.close()
        assert done == 0 and [row['path'] for row in read(path)] == ['a.jpg']


def test_rows_of_something_else_are_not_continued(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'out.csv'
    sink = sinks.open_file(path, 'csv')
    sink.write([row_of(NAMES[0])])
    sink.close()
    for names, now, message in (
        (['other.jpg'], NOW, 'rows of other images: a.jpg where other.jpg should be'),
        ([], NOW, 'rows of other images: a.jpg where nothing should be'),
        (NAMES, NOW._replace(model='cnn@2'), 'rows of the model cnn@1, not cnn@2'),
        (NAMES, NOW._replace(threshold=0.5), 'rows with the threshold 0.75.*, not 0.5'),
    ):
        with pytest.raises(UserError, match=message):
            sinks.continue_file(path, 'csv', iter(inputs_of(names)), now)
    (tmp_path / 'other.csv').write_text('name,score\na,1\n')
    with pytest.raises(UserError, match='other.csv is no file of predictions'):
        sinks.continue_file(tmp_path / 'other.csv', 'csv', iter(inputs_of(NAMES)), NOW)
    with pytest.raises(UserError, match='a file of parquet cannot be continued'):
        sinks.continue_file(path, 'parquet', iter(inputs_of(NAMES)), NOW)


def test_a_file_that_exists_is_kept(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'out.csv'
    path.write_text('mine')
    with pytest.raises(UserError, match='out.csv exists; go on with it .resume., replace it'):
        sinks.open_file(path, 'csv')
    assert path.read_text() == 'mine'
    sinks.open_file(path, 'csv', overwrite=True).close()
    assert path.read_text().startswith('path,label')
    with pytest.raises(UserError, match='cannot be written to'):
        sinks.open_file(path / 'below.csv', 'csv')


def test_parquet(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'pyarrow', None)
    with pytest.raises(UserError, match='Parquet needs pyarrow, which is not installed: pip install'):
        sinks.open_file(tmp_path / 'out.parquet', 'parquet')
    monkeypatch.undo()
    parquet = pytest.importorskip('pyarrow.parquet')
    sink = sinks.open_file(tmp_path / 'out.parquet', 'parquet')
    sink.write([row_of(name) for name in NAMES])
    sink.write([row_of('broken.jpg')._replace(probability=None, label=None)])
    assert not (tmp_path / 'out.parquet').exists()
    sink.close()
    table = parquet.read_table(tmp_path / 'out.parquet')
    assert table.column_names == list(Row._fields) and table.num_rows == len(NAMES) + 1
    assert table['probability'].to_pylist()[-2:] == [0.9123456789, None]


@pytest.mark.parametrize(('name', 'cell'), [('stability', 0.5), ('faces', '2')])
def test_rows_with_other_columns_are_not_continued(name: str, cell: object, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'out.csv'
    for rows_there, now, words in (
        ([row_of('a.jpg')], NOW._replace(**{name: cell}), 'without'),
        ([row_of('a.jpg', **{name: cell})], NOW, 'with'),
    ):
        sink = sinks.open_file(path, 'csv', overwrite=True)
        sink.write(rows_there)
        sink.close()
        with pytest.raises(UserError, match=f'has rows {words} {name}; give the same options'):
            sinks.continue_file(path, 'csv', iter(inputs_of(['a.jpg'])), now)
        same = NOW._replace(**{name: getattr(rows_there[0], name)})
        again, done = sinks.continue_file(path, 'csv', iter(inputs_of(['a.jpg'])), same)
        again.close()
        assert done == 1


def test_a_parquet_file_that_is_not_whole_takes_no_place(tmp_path: pathlib.Path) -> None:
    pytest.importorskip('pyarrow')
    path = tmp_path / 'out.parquet'
    path.write_bytes(b'mine')
    sink = sinks.open_file(path, 'parquet', overwrite=True)
    sink.write([row_of('a.jpg')])
    sink.close(is_whole=False)
    assert path.read_bytes() == b'mine' and os.listdir(tmp_path) == ['out.parquet']
