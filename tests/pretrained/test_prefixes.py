"""Weights as people have them: inside other modules and other dicts, and on machines without a connection."""

import socket
import time
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from fakeimg.errors import UserError
from fakeimg.pretrained import hub, naming, published
from tests.pretrained.test_convert import published_tensors
from tests.support.torch_networks import shapes

PREFIXES = ('', 'model.', 'backbone.', '_orig_mod.', 'module.', 'net.', 'encoder.', 'base_model.model.',
            '_orig_mod.module.', 'student.backbone.resnet50.')  # fmt: skip


def of_torchvision(model: str) -> dict[str, np.ndarray]:
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes(model)}


@pytest.mark.parametrize('name', ['microsoft/resnet-50', 'timm/vgg19_bn.tv_in1k', 'torchvision/resnet18'])
def test_any_prefix_is_left_out_and_said(name: str) -> None:
    publisher, name_there = name.split('/')
    model = name_there.split('.')[0].replace('-', '')
    tensors = of_torchvision(model) if publisher == 'torchvision' else published_tensors(name)
    expected = naming.rename(model, tensors, 'source')
    for prefix in PREFIXES:
        named = {f'{prefix}{key}': value for key, value in tensors.items()}
        renamed = naming.rename(model, named, 'source')
        assert renamed.prefix == prefix
        assert renamed.flat.keys() == expected.flat.keys() and renamed.classes == 1000


def test_a_classifier_beside_the_network_is_left_out_too() -> None:
    tensors = of_torchvision('resnet50')
    weights = {f'module.backbone.{key}': value for key, value in tensors.items() if not key.startswith('fc')}
    for head in ('module.fc', 'module.head.1', 'module.classifier.net.0', 'fc'):
        renamed = naming.rename('resnet50', {**weights, f'{head}.weight': np.zeros((2, 2048), np.float32)}, 'source')
        assert renamed.prefix == 'module.backbone.'
    with pytest.raises(UserError, match='it holds decoder.weight'):
        naming.rename('resnet50', {**weights, 'module.decoder.weight': np.zeros((2, 3), np.float32)}, 'source')


class Tensor:
    def numpy(self) -> np.ndarray:
        return np.zeros(1)


def test_the_weights_are_found_in_what_scripts_save_beside_them() -> None:
    weights, optimizer = {'conv1.weight': Tensor()}, {'state': {0: {'step': Tensor()}}, 'param_groups': [{'lr': 1}]}
    wrapped: list[dict[str, Any]] = [
        weights,
        {'state_dict': weights, 'optimizer': optimizer, 'epoch': 3},
        {'model_state_dict': weights, 'ema_state_dict': {'conv1.weight': Tensor()}},
        {'model': {'net': weights}},
        {'student': weights, 'args': None},
    ]
    for state in wrapped:
        assert published._innermost(state) is weights
    for state in ([1], {}, {'epoch': 3}, {'teacher': weights, 'student': {'conv1.weight': Tensor()}}):
        assert published._innermost(state) is None


@pytest.mark.parametrize('kind', ['no address', 'no answer', 'silent name server'])
def test_no_connection_is_found_out_in_three_seconds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: tuple[str, int], timeout: float) -> None:
        if kind == 'no address':
            raise socket.gaierror(-2, 'Name or service not known')
        time.sleep(timeout if kind == 'no answer' else 8)
        raise TimeoutError('timed out')

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(socket, 'create_connection', connect)
    monkeypatch.setattr(hub, 'CONNECTION_TIMEOUT', 0.3)
    start = time.monotonic()
    with pytest.raises(UserError, match='cannot be reached: .*check the name and your connection') as refused:
        hub.download('nobody/absent')
    assert time.monotonic() - start < 1 and '\n' not in str(refused.value)
