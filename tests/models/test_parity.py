"""Our networks compute what torch computes: recorded for tiny ones, and live in full size where torch is installed."""

import pathlib

import numpy as np
import pytest

from tests.support import parity
from tests.support.torch_networks import Arrays, Network, random_state

RECORD = pathlib.Path(__file__).parents[1] / 'fixtures/parity.npz'
FORWARD, BACKWARD = 1e-4, 1e-3  # largest difference, relative to the largest value


@pytest.fixture(scope='module')
def record() -> Arrays:
    """What tests/fixtures/record_parity.py wrote, by `network/what/layer`."""
    with np.load(RECORD) as file:
        keys, lengths, values = str(file['keys']).split('\n'), file['lengths'].astype(int), file['values']
    return dict(zip(keys, np.split(values, np.cumsum(lengths)[:-1]), strict=True))


def report(capsys: pytest.CaptureFixture[str], what: str, distances: dict[str, float]) -> None:
    """Puts the figure among the dots: it says more than that the test passed."""
    layer, worst = max(distances.items(), key=lambda item: item[1])
    with capsys.disabled():
        print(f' [{what}: at most {worst:.1e}, at {layer}]', end='')


def below(record: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in record.items() if key.startswith(prefix)}


def assert_fingerprints(ours: Arrays, theirs: Arrays, tolerance: float) -> None:
    """Compares random projections in units of the array's root mean square, unless that is nothing but rounding."""
    assert theirs.keys() <= ours.keys()
    least = 1e-6 * max(wanted[0] for wanted in theirs.values())  # a bias that BatchNorm undoes has no gradient
    for name, wanted in theirs.items():
        difference = np.abs(parity.fingerprint(name, ours[name]) - wanted).max() / max(wanted[0], least)
        assert difference < tolerance, (name, difference)


# At even sizes padding decides where a strided window falls, at odd ones what is left over.
@pytest.mark.parametrize(
    ('name', 'size'), [('tiny_basic', 64), ('tiny_bottleneck', 64), ('tiny_vgg', 97), ('tiny_vgg_bn', 64)]
)
def test_every_layer_computes_what_torch_recorded(name: str, size: int, record: Arrays) -> None:
    variables = parity.unflatten(parity.to_ours(name, random_state(name)))
    logits, layers = parity.evaluate(parity.our_network(name), variables, parity.inputs(size)[0])
    assert parity.distance(logits, record[f'{name}/{size}/logits']) < FORWARD
    assert_fingerprints(layers, below(record, f'{name}/{size}/activations/'), FORWARD)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['tiny_basic', 'tiny_bottleneck', 'tiny_vgg_bn'])
def test_a_training_step_computes_what_torch_recorded(name: str, record: Arrays) -> None:
    variables = parity.unflatten(parity.to_ours(name, random_state(name)))
    loss, gradients, statistics = parity.train_step(
        parity.our_network(name, 'float64'), variables, *parity.inputs(97, 6)
    )
    np.testing.assert_allclose(loss, record[f'{name}/loss'][0], rtol=FORWARD)
    assert_fingerprints(gradients, below(record, f'{name}/gradients/'), BACKWARD)
    recorded = below(record, f'{name}/statistics/')
    assert_fingerprints(statistics, recorded, FORWARD)
    assert statistics.keys() == recorded.keys()


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'size'), [('resnet50', 224), ('resnet50', 97), ('vgg19', 225), ('vgg19_bn', 97)])
def test_full_size_networks_compute_what_torch_computes(
    name: str, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip('torch')
    state = random_state(name)
    images, _ = parity.inputs(size, 1)
    theirs = Network(name, state)
    logits = theirs(images, train=False)[:, 0].numpy()
    our_logits, layers = parity.evaluate(
        parity.our_network(name), parity.unflatten(parity.to_ours(name, state)), images
    )
    distances = {layer: parity.distance(layers[layer], value) for layer, value in theirs.our_activations().items()}
    distances['logits'] = parity.distance(our_logits, logits)
    report(capsys, f'{name} at {size} px, activations', distances)
    assert max(distances.values()) < FORWARD, distances


@pytest.mark.slow
@pytest.mark.parametrize('name', ['resnet50', 'vgg19'])
def test_a_full_size_training_step_is_that_of_torch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip('torch')
    state = random_state(name)
    images, labels = parity.inputs(65, 2)
    theirs = Network(name, state, 'float64')
    loss, their_gradients = theirs.gradients(images, labels)
    variables = parity.unflatten(parity.to_ours(name, state))
    our_loss, gradients, statistics = parity.train_step(parity.our_network(name, 'float64'), variables, images, labels)
    np.testing.assert_allclose(our_loss, loss, rtol=FORWARD)
    their_flat = parity.to_ours(name, their_gradients)
    assert gradients.keys() == their_flat.keys()
    distances = {key: parity.distance(gradients[key], value) for key, value in their_flat.items()}
    report(capsys, f'{name}, gradients', distances)
    assert max(distances.values()) < BACKWARD, distances
    their_statistics = parity.to_ours(name, theirs.biased_statistics())
    assert statistics.keys() == their_statistics.keys()
    for key, value in their_statistics.items():
        assert parity.distance(statistics[key], value) < FORWARD, key
