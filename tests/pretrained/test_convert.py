"""Published files of every kind become ours without a leftover, and nothing in them is run."""

import io
import json
import os
import pathlib
import pickle
import sys
import tarfile

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from fakeimg.config import Config
from fakeimg.errors import UserError
from fakeimg.models import create_model, normalize
from fakeimg.models.resnet import STAGE_SIZES, ResNet
from fakeimg.pretrained import convert, hub, naming, published, weights_file
from tests.support.parity import to_ours, unflatten
from tests.support.torch_networks import random_state, shapes
from tests.support.variables import abstract_variables

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'


def published_tensors(name: str) -> dict[str, np.ndarray]:
    """Zeros under the recorded names and shapes; broadcast, so that 144 million of them cost nothing."""
    rows = json.loads((FIXTURES / 'published_names.json').read_text())[name]
    parts = [row.partition(' ') for row in rows]
    return {
        name: np.broadcast_to(np.float32(0), tuple(map(int, shape.split('x'))) if shape else ())
        for name, _, shape in parts
    }


def assert_converts(model: str, tensors: dict[str, np.ndarray], config: Config) -> naming.Renamed:
    config.model.name = model
    renamed = naming.rename(model, tensors, 'source')
    network = create_model(config)
    weights_file.check_fit(renamed.flat, abstract_variables(network, 64), 'source')
    assert renamed.classes == 1000
    return renamed


def test_torchvision_file_converts_without_leftover(config: Config) -> None:
    schema = json.loads((FIXTURES / 'torchvision-resnet50.schema.json').read_text())
    assert len(schema) == 267
    assert [(name, tuple(shape)) for name, shape, _ in schema] == shapes('resnet50')
    random = np.random.default_rng(0)
    tensors = {name: random.random(shape, np.float32) for name, shape, _ in schema}
    flat = assert_converts('resnet50', tensors, config).flat
    assert len(flat) == len(tensors) - 2  # the classifier's weight and bias
    kernel = flat['params/stage2_block1/downsample_conv/kernel']
    np.testing.assert_array_equal(kernel[0, 0], tensors['layer2.0.downsample.0.weight'][:, :, 0, 0].T)
    np.testing.assert_array_equal(flat['batch_stats/stem_bn/var'], tensors['bn1.running_var'])


@pytest.mark.parametrize('model', ['resnet18', 'resnet34', 'resnet101', 'vgg19', 'vgg19_bn'])
def test_torchvision_names_of_every_model_are_known(model: str, config: Config) -> None:
    assert_converts(model, {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes(model)}, config)


@pytest.mark.parametrize(
    ('model', 'name'),
    [
        ('resnet50', 'microsoft/resnet-50'),
        ('vgg19', 'timm/vgg19.tv_in1k'),
        ('vgg19_bn', 'timm/vgg19_bn.tv_in1k'),
        ('vgg19', 'keras/vgg19'),
    ],
)
def test_names_of_other_publishers_are_known(model: str, name: str, config: Config) -> None:
    assert_converts(model, published_tensors(name), config)


def test_hugging_face_blocks_land_where_torchvisions_do() -> None:
    """Compared by value: many tensors have the same shape, and names alone would not tell them apart."""
    tensors = random_state('resnet18', classes=7)
    translated = {}
    for name, value in tensors.items():
        parts = name.split('.')
        kind = 'convolution' if parts[-2].startswith('conv') or parts[-2] == '0' else 'normalization'
        if name.startswith('layer'):
            inner = 'shortcut' if 'downsample' in name else f'layer.{int(parts[2][-1]) - 1}'
            ours = f'resnet.encoder.stages.{int(parts[0][-1]) - 1}.layers.{parts[1]}.{inner}.{kind}.{parts[-1]}'
        else:
            ours = f'classifier.1.{parts[-1]}' if parts[0] == 'fc' else f'resnet.embedder.embedder.{kind}.{parts[-1]}'
        translated[ours] = value
    wanted, got = (naming.rename('resnet18', each, 'source') for each in (tensors, translated))
    assert got.classes == wanted.classes == 7
    assert got.flat.keys() == wanted.flat.keys()
    for name, value in wanted.flat.items():
        np.testing.assert_array_equal(got.flat[name], value)


def test_keras_vgg_sees_what_it_was_trained_on() -> None:
    """Its first layer took BGR in [0, 255] less a mean; ours, given the header's mean, computes the same."""
    random = np.random.default_rng(0)
    kernel = random.standard_normal((3, 3, 3, 5), np.float32)
    renamed = naming.rename('vgg19', {'block1_conv1/block1_conv1/kernel:0': kernel}, 'vgg19.h5')
    image = random.random((3, 3, 3))
    theirs = np.einsum('hwc,hwco->o', (image * 255 - naming.CAFFE_MEAN)[:, :, ::-1], kernel)
    normalised = (image - np.array(renamed.mean)) / np.array(naming.STD)
    ours = np.einsum('hwc,hwco->o', normalised, renamed.flat['params/conv1_1/kernel'])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_resnet_of_keras_is_refused() -> None:
    with pytest.raises(UserError, match='strides in the 1x1 convolutions'):
        naming.rename('resnet50', {'conv1_conv/conv1_conv/kernel:0': np.zeros((7, 7, 3, 64))}, 'resnet50.h5')


def test_leftovers_are_listed_with_their_shapes(config: Config) -> None:
    tensors = random_state('resnet18', classes=1000)
    with pytest.raises(
        UserError, match=r'source is not a resnet18 .*features.0.weight \[64, 3\], which resnet18 does not'
    ):
        naming.rename('resnet18', tensors | {'features.0.weight': np.zeros((64, 3))}, 'source')
    with pytest.raises(UserError, match=r'does not fit this model: \d+ tensors missing: .*\[.*\] and \d+ more'):
        assert_converts('resnet34', tensors, config)
    del tensors['layer1.0.bn1.bias']
    with pytest.raises(UserError, match=r'1 tensors missing: params/stage1_block1/bn1/bias \[64\]\.'):
        assert_converts('resnet18', tensors, config)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'conv1.weight': np.zeros((32, 3, 7, 7), np.float32)}, r'stem_conv/kernel has shape .*32\], .* needs .*64\]'),
        ({'bn1.bias': np.full(64, np.nan, np.float32)}, r'damaged: params/stem_bn/bias \[64\] holds 64 values'),
        ({'layer1.0.conv1.weight': np.zeros((64, 64, 3, 3), np.int8)}, r'layer1.0.conv1.weight \[.*\] holds int8'),
        ({'bn1.weird': np.zeros(64, np.float32)}, r'holds bn1.weird \[64\], which resnet18 does not have'),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_written(
    change: dict[str, np.ndarray], sentence: str, tmp_path: pathlib.Path
) -> None:
    source, out = tmp_path / 'source.safetensors', tmp_path / 'out.safetensors'
    safetensors.numpy.save_file(random_state('resnet18', classes=1000) | change, source)
    with pytest.raises(UserError, match=sentence):
        convert.convert('resnet18', str(source), out)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def tar_of(path: pathlib.Path) -> bytes:
    """A legacy .pth, from before torch had a format of its own: a tar archive of pickles."""
    with tarfile.open(path, 'w') as archive:
        for name in ('sys_info', 'pickle', 'tensors', 'storages'):
            content = pickle.dumps({}, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path.read_bytes()


def test_files_that_are_no_state_dict_are_one_sentence(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip('torch')
    path = tmp_path / 'weights.pth'
    torch.save({'conv1.weight': torch.zeros(64, 3, 7, 7)}, path)
    whole = path.read_bytes()
    page = b'<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>'
    for content in (whole[: len(whole) // 2], page, tar_of(path), b''):
        path.write_bytes(content)
        with pytest.raises(UserError, match='weights.pth is not a state dict') as caught:
            published.read_published(str(path))
        assert '\n' not in str(caught.value)


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: pathlib.Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip('torch')
    trace, path = tmp_path / 'trace', tmp_path / 'weights.pth'
    for write in (lambda content: torch.save(content, path), lambda content: path.write_bytes(pickle.dumps(content))):
        write({'conv1.weight': Malicious(trace)})
        with pytest.raises(UserError, match='cannot be|can be read without running code'):
            published.read_published(str(path))
        assert not trace.exists()


def test_torch_files_are_read(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip('torch')
    path = tmp_path / 'weights.pth'
    state = {name: torch.tensor(value) for name, value in random_state('tiny_basic').items()}
    for content in (state, {'state_dict': {f'module.{name}': value for name, value in state.items()}, 'epoch': 3}):
        torch.save(content, path)
        renamed = naming.rename('resnet18', published.read_published(str(path)).tensors, 'source')
        np.testing.assert_array_equal(
            renamed.flat['params/stem_conv/kernel'],
            to_ours('tiny_basic', random_state('tiny_basic'))['params/stem_conv/kernel'],
        )
    torch.save([1, 2], path)
    with pytest.raises(UserError, match='is not a state dict'):
        published.read_published(str(path))


def test_keras_files_are_read(tmp_path: pathlib.Path) -> None:
    h5py = pytest.importorskip('h5py')
    with h5py.File(tmp_path / 'vgg19.h5', 'w') as file:
        file['model_weights/block1_conv1/block1_conv1/kernel:0'] = np.ones((3, 3, 3, 64), np.float32)
        file['optimizer_weights/momentum:0'] = np.ones(3)
    source = published.read_published(str(tmp_path / 'vgg19.h5'))
    assert list(source.tensors) == ['model_weights/block1_conv1/block1_conv1/kernel:0']
    assert list(naming.rename('vgg19', source.tensors, 'source').flat) == ['params/conv1_1/kernel']


@pytest.mark.parametrize(
    ('module', 'source', 'sentence'),
    [
        (
            'torch',
            'x.pth',
            'reading x.pth needs torch, which is not installed; .* as safetensors from .*: timm/resnet50',
        ),
        ('h5py', 'x.h5', 'reading x.h5 needs h5py, which is not installed'),
    ],
)
def test_what_is_not_installed_is_named(
    module: str, source: str, sentence: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    pathlib.Path(source).write_bytes(b'x')
    with pytest.raises(UserError, match=sentence):
        convert.convert('resnet50', source, tmp_path / 'out.safetensors')
    assert not (tmp_path / 'out.safetensors').exists()


def test_a_missing_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.chdir(tmp_path)  # HF_HUB_OFFLINE is set for all tests
    with pytest.raises(
        UserError, match='model.safetensors of owner/name could not be downloaded from the Hugging'
    ) as e:
        convert.convert('resnet50', 'owner/name', tmp_path / 'out.safetensors')
    assert str(e.value).endswith('check the name and your connection, or download the file yourself and give its path.')
    assert '\n' not in str(e.value)


def test_without_a_network_the_hubs_cache_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    files = {'model.safetensors': '', 'config.json': '{"pretrained_cfg": {"mean": [0.5], "std": [0.2]}}'}
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def cached(repository: str, file: str, *, revision: str | None, local_files_only: bool) -> str:
        assert (repository, revision, local_files_only) == ('owner/name', 'v1', True)
        return str(tmp_path / file)

    monkeypatch.setattr('huggingface_hub.hf_hub_download', cached)
    assert hub.download('owner/name@v1') == (tmp_path / 'model.safetensors', (0.5,), (0.2,))


def test_what_can_be_a_name_on_the_hub() -> None:
    assert hub.is_name('microsoft/resnet-50') and hub.is_name('timm/vgg19_bn.tv_in1k@main')
    for text in ('resnet50.pth', './weights/x', 'a/b/c', 'weights/resnet50.safetensors', '/etc/passwd', '~/x'):
        assert not hub.is_name(text)


def test_the_real_weights_give_the_published_logits() -> None:
    """Figures of transformers' own Flax test of microsoft/resnet-50, fed a constant."""
    path = os.environ.get('FAKEIMG_RESNET50')
    if not path:
        pytest.skip('set FAKEIMG_RESNET50 to the model.safetensors of microsoft/resnet-50')
    source = published.read_published(path)
    variables = unflatten(naming.rename('resnet50', source.tensors, path).flat)
    images = np.full((1, 224, 224, 3), 0.5, np.float32)
    features = np.asarray(ResNet(STAGE_SIZES[50]).apply(variables, images, method='features'))
    logits = features @ source.tensors['classifier.1.weight'].T + source.tensors['classifier.1.bias']
    np.testing.assert_allclose(features.sum(), 14.5119, atol=1e-3)
    np.testing.assert_allclose(logits[0, :3], [-6.6223, -6.2090, -5.8592], atol=1e-4)


def test_the_real_torchvision_weights_give_the_published_logits() -> None:
    """Figures that flaxmodels publishes for torchvision's V1 file and its own image elefant.jpg."""
    paths = os.environ.get('FAKEIMG_RESNET50_V1'), os.environ.get('FAKEIMG_ELEFANT')
    if not all(paths):
        pytest.skip('set FAKEIMG_RESNET50_V1 to resnet50-0676ba61.pth and FAKEIMG_ELEFANT to elefant.jpg of flaxmodels')
    source = published.read_published(str(paths[0]))
    variables = unflatten(naming.rename('resnet50', source.tensors, source.name).flat)
    image = Image.open(str(paths[1])).convert('RGB').resize((224, 224), Image.Resampling.BICUBIC)
    images = normalize(np.asarray(image)[None], naming.MEAN, naming.STD)
    features = np.asarray(ResNet(STAGE_SIZES[50]).apply(variables, images, method='features'))
    logits = (features @ source.tensors['fc.weight'].T + source.tensors['fc.bias'])[0]
    np.testing.assert_array_equal(np.argsort(-logits)[:3], [386, 101, 385])
    np.testing.assert_allclose(logits[[386, 101, 385]], [18.014215, 17.064808, 14.841821], atol=1e-2)
    np.testing.assert_allclose(logits[:3], [0.769820, -2.288125, -0.240808], atol=1e-2)
