import concurrent.futures
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fakeimg.config import Config
from fakeimg.console import SILENT, Console
from fakeimg.data import decode
from fakeimg.data.datasets import Split, open_path
from fakeimg.data.inputs import Input, InputFiles
from fakeimg.data.unreadable import UnreadableImages
from fakeimg.detector import Detector
from fakeimg.errors import UserError
from fakeimg.evaluation import intervals, paired, robustness
from fakeimg.evaluation.degraded import KINDS, TIERS, Cell, DegradedFiles, degrade
from fakeimg.scoring import Predictions
from fakeimg.untrained import from_recipe

CLEAN = 'clean'  # the tier of images as they are stored
CELLS = [Cell(kind, severity) for kind in KINDS for severity in KINDS[kind].severities]
UNCHANGED = {'resize_nearest': 1, 'resize_bilinear': 1, 'resize_bicubic': 1, 'resize_lanczos': 1, 'thumbnail': 1,
             'blur': 0, 'noise': 0, 'gamma': 1, 'grey': 0, 'crop': 1, 'screenshot': 0}  # fmt: skip
PHOTO = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)


def photo(width: int, height: int) -> PIL.Image.Image:
    """Smooth, with edges and colour."""
    return PIL.Image.fromarray(PHOTO).resize((width, height), PIL.Image.Resampling.BICUBIC)


def stored(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return decode.decode_rgb(data).astype(int)


def after(image: PIL.Image.Image, kind: str, severity: float, **arguments: Any) -> np.ndarray:
    return pixels(degrade(image, Cell(kind, severity), **arguments))


def logit(data: bytes) -> np.float32:
    return np.float32(pixels(data).mean() / 10 - 11)


class Bright:
    """A detector for which bright images are fake; keeps what it was shown."""

    def __init__(self, max_bad_fraction: float = 0.2):
        self.shown: dict[str, bytes] = {}
        self.titles: list[str] = []
        self._max_bad_fraction = max_bad_fraction

    def score(self, split: Split, name: str, *, console: Console = SILENT) -> tuple[Predictions, UnreadableImages]:
        self.titles.append(name)
        unreadable = UnreadableImages(name, len(split), self._max_bad_fraction)
        rows, logits = [], []
        for row, title in enumerate(split.names):
            try:
                self.shown[title] = split[row]
                logits.append(logit(self.shown[title]))
                rows.append(row)
            except decode.BadImage as error:
                unreadable.add(title, str(error))
        unreadable.check()
        names = [split.names[row] for row in rows]
        return Predictions(names, split.labels[rows], np.array(logits, np.float32), len(unreadable)), unreadable


@pytest.fixture
def split(faces: pathlib.Path) -> Split:
    """Ten images of each class."""
    whole = open_path(str(faces)).get('test')
    return whole.take(np.concatenate([np.flatnonzero(whole.labels == label)[:10] for label in (1, 0)]))


@pytest.fixture
def few_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS.keys() - {'webp', 'noise', 'gamma'}:
        monkeypatch.delitem(KINDS, kind)


def measure(detector: Any, split: Split, **arguments: Any) -> dict[str, Any]:
    clean = detector.score(split, 'test')[0]
    return robustness.evaluate(detector, split, 'test', **{'clean': clean, 'threshold': 0.5, **arguments})


@pytest.mark.parametrize(('name', 'side', 'quality'), [('web', 768, 60), ('hard', 512, 40)])
@pytest.mark.parametrize('size', [(1000, 700), (300, 900), (200, 100), (768, 512), (32, 32)])
def test_tiers_are_what_pillow_makes(name: str, side: int, quality: int, size: tuple[int, int]) -> None:
    expected = photo(*size)
    expected.thumbnail((side, side), PIL.Image.Resampling.LANCZOS, reducing_gap=None)  # never enlarges
    data = degrade(photo(*size), Cell(name))
    assert data == stored(expected, 'JPEG', quality=quality, subsampling='4:2:0')
    assert max(decode.identify(data)[1:]) == min(side, max(size))


def test_codecs_and_resizing_are_pillows() -> None:
    image = photo(60, 40)
    assert degrade(image, Cell('jpeg', 30)) == stored(image, 'JPEG', quality=30)
    assert degrade(image, Cell('webp', 50)) == stored(image, 'WEBP', quality=50)
    for name in ('nearest', 'bilinear', 'bicubic', 'lanczos'):
        resampling = PIL.Image.Resampling[name.upper()]
        expected = np.asarray(image.resize((30, 20), resampling))
        np.testing.assert_array_equal(after(image, f'resize_{name}', 0.5), expected)
    small = image.resize((30, 20), PIL.Image.Resampling.LANCZOS)
    expected = np.asarray(small.resize((60, 40), PIL.Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(after(image, 'thumbnail', 0.5), expected)
    for number in (1, 2):
        shown = image.resize([(54, 36), (49, 32)][number - 1], PIL.Image.Resampling.BILINEAR)
        values = 255 * np.array([1.0, 0.98, 0.94]) * (np.asarray(shown) / 255) ** 1.1
        data = stored(PIL.Image.fromarray(np.rint(values).astype(np.uint8)), 'JPEG', quality=80)
        assert degrade(photo(60, 40), Cell('screenshot', number)) == data
        image = PIL.Image.open(io.BytesIO(data))


def test_values_change_by_the_severity() -> None:
    image = photo(60, 40)
    before = np.asarray(image).astype(float)
    np.testing.assert_array_equal(after(image, 'gamma', 2), np.rint(255 * (before / 255) ** 2))
    luma = before @ [0.299, 0.587, 0.114]
    assert np.abs(after(image, 'grey', 1) - luma[..., None]).max() <= 0.6
    assert np.abs(after(image, 'grey', 0.5) - (before + luma[..., None]) / 2).max() <= 1.1
    np.testing.assert_array_equal(after(image, 'crop', 0.5), before[10:30, 15:45])
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    spread = after(PIL.Image.fromarray(point), 'blur', 1)[..., 0].astype(float)
    distance = (np.indices(spread.shape) - 20.0) ** 2
    np.testing.assert_allclose(spread, 255 / (2 * np.pi) * np.exp(-distance.sum(0) / 2), atol=0.6)
    added = after(PIL.Image.new('RGB', (200, 200), (128, 128, 128)), 'noise', 10) - 128.0
    assert added.std() == pytest.approx(10, rel=0.01) and abs(added.mean()) < 0.2
    assert abs(np.corrcoef(added[..., 0].ravel(), added[..., 1].ravel())[0, 1]) < 0.03


def test_noise_depends_on_name_and_seed_alone() -> None:
    image, kind = photo(20, 20), Cell('noise', 5)
    first = degrade(image, kind, 'a.jpg', 0)
    assert degrade(image, kind, 'a.jpg', 0) == first
    assert degrade(image, kind, 'b.jpg', 0) != first != degrade(image, kind, 'a.jpg', 1)


def test_what_is_read_depends_on_neither_order_nor_threads(split: Split) -> None:
    cells = [*map(Cell, TIERS), *CELLS]
    files = DegradedFiles(split.files.take(range(6)), cells)
    expected = [files.read(index) for index in range(len(files))]
    assert len(expected) == 6 * len(cells)
    order = np.random.default_rng(1).permutation(len(files))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(files.read, order)) == [expected[index] for index in order]
    taken = files.take(order)
    assert [taken.read(index) for index in range(len(taken))] == [expected[index] for index in order]
    assert taken.names == [files.names[index] for index in order]


def test_each_original_is_decoded_once(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    files, decoded = DegradedFiles(split.files, CELLS), []
    decode_rgb = decode.decode_rgb
    monkeypatch.setattr(decode, 'decode_rgb', lambda data: decoded.append(data) or decode_rgb(data))
    for index in range(len(files)):
        files.read(index)
    assert len(decoded) == len(split)


@pytest.fixture
def detector(config: Config) -> Detector:
    return from_recipe(config)


def scores(detector: Detector, split: Split, cells: Sequence[Cell]) -> np.ndarray:
    """float32[n, cells]"""
    files, count = DegradedFiles(split.files, cells), len(cells)
    rows = np.repeat(np.arange(len(split)), count)
    degraded = Split(files, split.labels[rows], [''] * len(rows), [''] * len(rows))
    return detector.score(degraded, 'test')[0].logits.reshape(-1, count)


def test_no_change_is_clean_to_the_bit(detector: Detector, split: Split) -> None:
    """Of files in many forms, all of which the detector has to resize or to convert."""
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    images = [
        split[0],
        stored(photo(90, 60), 'JPEG', exif=turned),
        stored(photo(45, 61), 'PNG'),
        stored(photo(50, 32).convert('LA'), 'PNG'),
        stored(photo(20, 31), 'WEBP', lossless=True),
    ]
    inputs = InputFiles([Input(str(place), data) for place, data in enumerate(images)])
    odd = Split(inputs, np.array([0, 1, 0, 1, 0], np.int32), [''] * 5, [''] * 5)
    cells = [*(Cell(kind, severity) for kind, severity in UNCHANGED.items()), Cell('gamma', 1.5)]
    clean, found = detector.score(odd, 'test')[0].logits, scores(detector, odd, cells)
    np.testing.assert_array_equal(found[:, :-1], np.repeat(clean[:, None], len(cells) - 1, axis=1))
    assert (found[:, -1] != clean).all()
    assert set(UNCHANGED) == KINDS.keys() - {'jpeg', 'webp'}


def test_scores_depend_on_neither_order_nor_threads_nor_batches(config: Config, split: Split) -> None:
    cells = [Cell('hard'), Cell('noise', 5), Cell('screenshot', 2), Cell('webp', 50)]
    found = []
    for batch_size, threads, order in ((16, 1, 1), (16, 3, -1), (22, 2, 1)):
        config.batch_size, config.data.threads = batch_size, threads
        some = split.take(np.arange(12)[::order])
        found.append(scores(from_recipe(config), some, cells)[::order])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)


@pytest.mark.usefixtures('few_kinds')
def test_figures_depend_on_no_order(split: Split) -> None:
    parts = split, split.take(np.random.default_rng(0).permutation(len(split)))
    found = [measure(Bright(), part, images=10, threshold=0.4) for part in parts]
    one, other = (json.dumps(result) for result in found)
    # The last digits of p, which no figure rounds, are those of a sum in another order.
    assert json.loads(one, parse_float=_six_digits) == json.loads(other, parse_float=_six_digits)
    assert found[0]['n'] == 10 and [row['auc']['n'] for row in found[0]['tiers']] == [20] * 3


def _six_digits(number: str) -> float:
    return round(float(number), 6)


def test_rows_are_those_of_each_cell_and_drops_are_paired(split: Split) -> None:
    bright = Bright()
    result = measure(bright, split, images=16, threshold=0.3)
    assert list(result['curves']) == list(KINDS) and bright.titles == [
        'test',
        'test at 2 tiers',
        'test under 44 degradations',
    ]
    logits = {name: logit(data) for name, data in bright.shown.items()}

    def logits_of(part: Split, cell: Cell | str) -> np.ndarray:
        return np.array([logits[name if cell == CLEAN else f'{name} ({cell})'] for name in part.names], float)

    rows: list[tuple[Split, Cell | str, Any]] = [(split, row['name'], row) for row in result['tiers']]
    assert [(name, row['what']) for _, name, row in rows] == [
        ('clean', 'as stored'), ('web', '768 px, JPEG 60'), ('hard', '512 px, JPEG 40'),
    ]  # fmt: skip
    part = split.take(robustness.sample(split.names, split.labels, 16, 0))
    for kind, curve in result['curves'].items():
        assert (curve['unit'], [row['severity'] for row in curve['rows']]) == (KINDS[kind][0], list(KINDS[kind][1]))
        rows += [(part, Cell(kind, row['severity']), row) for row in curve['rows']]
    threshold = np.log(0.3 / 0.7)
    for images, cell, row in rows:
        clean, changed = logits_of(images, CLEAN), logits_of(images, cell)
        assert row['auc'] == intervals.auc(images.labels, changed)
        right = int(((changed >= threshold) == images.labels).sum())
        assert row['accuracy'] == intervals.proportion(right, len(images))
        assert row['auc_drop'] == paired.auc_difference(images.labels, clean, changed)
        called = clean >= threshold, changed >= threshold
        assert row['accuracy_drop'] == paired.accuracy_difference(images.labels, *called)
    assert result['clean']['auc'] == intervals.auc(part.labels, logits_of(part, CLEAN))
    slight = result['curves']['jpeg']['rows'][0]
    assert slight['auc_drop']['high'] - slight['auc_drop']['low'] < slight['auc']['high'] - slight['auc']['low']
    assert result['curves']['gamma']['rows'][3]['accuracy_drop']['value'] != 0


def test_classes_are_treated_alike(split: Split) -> None:
    one, other = Bright(), Bright()
    measure(one, split, images=6)
    swapped = Split(split.files, 1 - split.labels, split.generators, split.groups)
    measure(other, swapped, images=6)
    assert one.shown == other.shown and len(one.shown) == 20 * 3 + 6 * len(CELLS)


@pytest.mark.usefixtures('few_kinds')
def test_unreadable_images_count_nowhere(split: Split, faces: pathlib.Path) -> None:
    (faces / split.names[3]).write_bytes(b'no image')
    result = measure(Bright(), split, images=0)
    rows = result['tiers'] + [row for curve in result['curves'].values() for row in curve['rows']]
    assert {row[name]['n'] for row in rows for name in ('auc', 'accuracy', 'auc_drop', 'accuracy_drop')} == {19}
    assert result['n'] == 19
    clean = Bright().score(split, 'test')[0]
    (faces / split.names[4]).write_bytes(b'no image')  # since it was scored
    with pytest.raises(UserError, match='of split test at 2 tiers cannot be read'):
        robustness.evaluate(Bright(0.01), split, 'test', clean=clean, threshold=0.5)


@pytest.mark.usefixtures('few_kinds')
def test_an_image_that_a_codec_cannot_hold_is_missing_in_its_cells_alone() -> None:
    images = [photo(40, 30) for _ in range(8)] + [photo(16384, 1)]  # WebP ends at 16383 pixels
    inputs = InputFiles([Input(str(place), stored(image, 'PNG')) for place, image in enumerate(images)])
    labels = np.arange(9, dtype=np.int32) % 2
    result = measure(Bright(), Split(inputs, labels, [''] * 9, [''] * 9))
    numbers = {kind: {row['auc_drop']['n'] for row in curve['rows']} for kind, curve in result['curves'].items()}
    assert numbers.pop('webp') == {8} and set().union(*numbers.values()) == {9}


@pytest.mark.usefixtures('few_kinds')
def test_groups_reach_the_intervals(split: Split) -> None:
    grouped = Split(split.files, split.labels, split.generators, [f'{place // 2}' for place in range(20)])
    result = measure(Bright(), grouped, images=0)
    alone = measure(Bright(), split, images=0)
    for row, other in zip(result['tiers'], alone['tiers'], strict=True):
        for name in ('auc', 'accuracy', 'auc_drop', 'accuracy_drop'):
            assert row[name]['value'] == pytest.approx(other[name]['value'], abs=2e-6)
            assert 0 <= row['auc']['low'] <= row['auc']['value'] <= row['auc']['high'] <= 1
    row = result['curves']['gamma']['rows'][3]
    assert {row[name]['groups'] for name in ('auc', 'accuracy', 'auc_drop', 'accuracy_drop')} == {10}
    assert row['auc'].keys() == {'value', 'low', 'high', 'n', 'method', 'groups'} == row['accuracy'].keys()


@pytest.mark.usefixtures('few_kinds')
def test_one_class_has_accuracy_and_no_auc(split: Split) -> None:
    result = measure(Bright(), split.take(np.flatnonzero(split.labels == 1)), images=5)
    row = result['curves']['noise']['rows'][0]
    assert row['auc']['value'] is None and row['auc_drop']['value'] is None
    assert row['accuracy']['n'] == row['accuracy_drop']['n'] == 5


def test_samples_keep_the_shares_of_classes_and_do_not_depend_on_order() -> None:
    names = [f'{number}.jpg' for number in range(100)]
    labels = (np.arange(100) % 4 == 0).astype(int)
    few, more = (robustness.sample(names, labels, count, 0) for count in (20, 60))
    assert (len(few), labels[few].sum(), len(more), labels[more].sum()) == (20, 5, 60, 15)
    assert set(few) <= set(more) and few.tolist() == sorted(few)
    assert set(robustness.sample(names, labels, 20, 1)) != set(few)
    backwards = robustness.sample(names[::-1], labels[::-1], 20, 0)
    assert sorted(99 - backwards) == few.tolist()
    assert robustness.sample(names, labels, 0, 0).tolist() == robustness.sample(names, labels, 100, 0).tolist()
    assert labels[robustness.sample(names, labels, 2, 0)].tolist() in ([0, 1], [1, 0])
    assert len(robustness.sample(names, np.zeros(100, int), 7, 0)) == 7
    with pytest.raises(UserError, match='robustness is asked for with -1 images'):
        measure(Bright(), Split(InputFiles([]), np.zeros(0, np.int32), [], []), images=-1)
