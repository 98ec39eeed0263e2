"""The detectors in the package: their scores stay, their cards say what they know, and they are small."""

import re

import huggingface_hub
import numpy as np
import pytest
import safetensors

from fakeimg import portable
from fakeimg.applying import words
from fakeimg.detector import Detector, load

# Log-odds of `images`, computed on a CPU when the detector was made.
LOGITS = [7.3881, -0.3772, 12.8751, 0.1687, 2.0662]
NAMES = portable.names()


def images() -> list[np.ndarray]:
    """Noise, a ramp, stripes, a grey field, and a disc of another size than the network takes; uint8[H, W, 3]."""
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    rows, columns = np.mgrid[:48, :40]
    disc = (rows - 24) ** 2 + (columns - 20) ** 2 < 150
    return [
        np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8),
        np.broadcast_to(ramp[None, :, None], (32, 32, 3)).copy(),
        np.broadcast_to(np.where(np.arange(32) % 4 < 2, 40, 200).astype(np.uint8)[:, None, None], (32, 32, 3)).copy(),
        np.full((32, 32, 3), 128, np.uint8),
        np.where(disc[..., None], *np.array([[220, 160, 130], [60, 90, 140]], np.uint8)),
    ]


@pytest.fixture(scope='module')
def cifake() -> Detector:
    return load('cifake')


def test_the_detector_of_the_package_gives_the_scores_it_was_made_with(cifake: Detector) -> None:
    logits = [prediction.logit for prediction in cifake.predict(images())]
    np.testing.assert_allclose(np.array(logits, float), LOGITS, rtol=0, atol=1e-3)


def test_it_carries_a_threshold_and_the_figures_of_its_test_set(cifake: Detector) -> None:
    assert (cifake.decision.rule, cifake.decision.note, cifake.notes) == ('fpr=0.01', '', ())
    assert cifake.operating is not None and cifake.operating['split'] == 'validation'
    counts = words.of_test(cifake)
    assert counts['real'] == counts['fake'] == 10_000 and counts['real_called_fake'] <= 0.011 * 10_000
    assert cifake.meta.data_digest and cifake.meta.config['data']['path'] == 'CIFAKE'


def test_a_photograph_of_usual_size_is_unlike_its_training_images(cifake: Detector) -> None:
    rows, columns = np.mgrid[:480, :640] / 480
    photograph = np.stack([255 * rows, 128 * columns, 255 - 255 * rows], 2).astype(np.uint8)
    note = cifake.predict(photograph).note
    assert note.startswith('unlike the training images: 480 pixels, not 32')


@pytest.mark.parametrize('name', NAMES)
def test_a_detector_of_the_package_is_small_and_whole(name: str) -> None:
    folder = portable.PACKAGED / name
    files = {path.name: path for path in folder.iterdir()}
    assert {portable.WEIGHTS, portable.METRICS, portable.CARD, *portable.BESIDE} <= files.keys()
    assert sum(path.stat().st_size for path in files.values()) < 1_000_000
    with safetensors.safe_open(files[portable.WEIGHTS], 'numpy') as file:
        assert {file.get_tensor(tensor).dtype for tensor in file.keys()} == {np.dtype('float16')}  # noqa: SIM118
    for path in files.values():
        assert not re.search(rb'/(tmp|home|root|work|Users)/', path.read_bytes()), path


def test_its_card_says_what_it_knows_and_what_it_cannot_tell(cifake: Detector) -> None:
    read = huggingface_hub.ModelCard((portable.PACKAGED / 'cifake' / portable.CARD).read_text())
    assert read.data.to_dict()['license'] == 'apache-2.0'
    for said in ('32 × 32 pixels', 'Stable Diffusion 1.4', 'CIFAR-10', 'MIT license', 'Faces: it has seen none',
                 'other generators', '| ROC AUC | 0.99', "fakeimg.load('cifake')", str(cifake.meta.data_digest),
                 f'P(fake) is at least {cifake.decision.threshold:.3g} (fpr=0.01)'):  # fmt: skip
        assert said in read.text
