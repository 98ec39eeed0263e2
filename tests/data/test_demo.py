"""The demo faces are reproducible, balanced, and give no class away by a trivial statistic."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fakeimg.data.demo import SPLIT_SIZES, DemoFaces


@pytest.fixture(scope='module')
def faces() -> DemoFaces:
    """Enough faces that the AUC of an uninformative statistic strays from 0.5 by under 0.06."""
    return DemoFaces('train', seed=3, num_examples=1200)


@pytest.fixture(scope='module')
def images(faces: DemoFaces) -> np.ndarray:
    return np.stack([simplejpeg.decode_jpeg(faces[i]) for i in range(len(faces))])


def all_bytes(source: DemoFaces) -> list[bytes]:
    return [source[i] for i in range(len(source))]


def separability(features: np.ndarray, labels: np.ndarray) -> float:
    """Cross-validated AUC of logistic regression on float[n, k] features."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    scores = cross_val_predict(model, features, labels, cv=5, method='decision_function')
    return float(roc_auc_score(labels, scores))


def test_instances_agree_whatever_the_order_and_the_number() -> None:
    first = DemoFaces('test', num_examples=12)
    second = DemoFaces('test', num_examples=40)
    backwards = [second[i] for i in reversed(range(12))]
    assert all_bytes(first) == backwards[::-1]


def test_threads_agree_with_one_thread() -> None:
    shared = DemoFaces('train', num_examples=24)
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(shared.__getitem__, [*range(24)] * 4))
    assert drawn == all_bytes(DemoFaces('train', num_examples=24)) * 4


def test_a_face_is_drawn_once() -> None:
    source = DemoFaces('test', num_examples=2)
    assert source[1] is source[1]


def test_labels_are_balanced_and_match_the_names() -> None:
    for split, count in SPLIT_SIZES.items():
        source = DemoFaces(split)
        assert len(source) == len(source.names) == len(set(source.names)) == count
        assert source.labels.dtype == np.int32 and source.labels.sum() * 2 == count
        folders = [f'{split}/fake/' if label else f'{split}/real/' for label in source.labels]
        assert all(map(str.startswith, source.names, folders))
    assert DemoFaces('test', num_examples=124).names[123] == 'test/fake/000123.jpg'


def test_splits_and_seeds_share_no_image() -> None:
    sources = [DemoFaces(split, num_examples=20) for split in SPLIT_SIZES]
    sources.append(DemoFaces('train', num_examples=20, seed=1))
    encoded = [face for source in sources for face in all_bytes(source)]
    assert len(set(encoded)) == len(encoded) == 80
    small = [simplejpeg.decode_jpeg(face)[::8, ::8].astype(float).ravel() for face in encoded]
    gaps = np.abs(np.array(small)[:, None] - np.array(small)).mean(2)
    # The same identity under new noise would differ by the noise alone, some 5 of 255.
    assert (gaps + 255 * np.eye(len(small))).min() > 10


@pytest.mark.parametrize('size', [64, 48])
def test_faces_decode_to_the_size_asked_for(size: int) -> None:
    for face in all_bytes(DemoFaces('validation', size=size, num_examples=4)):
        height, width, _, subsampling = simplejpeg.decode_jpeg_header(face)
        assert (height, width, subsampling) == (size, size, '420')
        image = simplejpeg.decode_jpeg(face)
        assert image.shape == (size, size, 3) and image.std() > 10


@pytest.mark.slow
def test_headers_and_byte_sizes_do_not_tell_the_classes_apart(faces: DemoFaces) -> None:
    encoded = all_bytes(faces)
    sizes = [len(face) for face in encoded]
    assert 0.4 < roc_auc_score(faces.labels, sizes) < 0.6
    # The quantisation tables follow the quality setting one to one.
    tables = [sum(face[face.index(b'\xff\xdb') + 5 :][:64]) for face in encoded]
    assert len(set(tables)) >= 5
    assert 0.43 < roc_auc_score(faces.labels, tables) < 0.57


@pytest.mark.slow
def test_colour_moments_do_not_tell_the_classes_apart(faces: DemoFaces, images: np.ndarray) -> None:
    scaled = images / 255.0
    mean, deviation = scaled.mean((1, 2)), scaled.std((1, 2))
    skew = ((scaled - mean[:, None, None]) ** 3).mean((1, 2))
    assert separability(np.hstack([mean, deviation, skew]), faces.labels) < 0.65


def test_a_forgery_changes_the_inner_face_and_nothing_else(images: np.ndarray) -> None:
    """The paste leaves a trace inside, smoother noise, that genuine faces do not show."""
    change = np.abs(np.diff(images.astype(float), axis=2)).mean(3)
    inside, corners = change[:, 34:40, 24:40].mean((1, 2)), change[:, :16, :8].mean((1, 2))
    fake = np.arange(len(images)) % 2
    assert roc_auc_score(fake, -inside) > 0.6
    assert 0.43 < roc_auc_score(fake, -corners) < 0.57


def test_an_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev'.*train, validation, test"):
        DemoFaces('dev')


@pytest.mark.parametrize('options', [{'size': 15}, {'num_examples': 0}])
def test_impossible_sizes_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match='size >= 16 and num_examples >= 1'):
        DemoFaces('train', **options)


@pytest.mark.parametrize('index', [-1, 4])
def test_an_index_out_of_range_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError, match='of 4'):
        DemoFaces('train', num_examples=4)[index]
