"""Downloads published weights from the Hugging Face Hub."""

import json
import logging
import pathlib
import queue
import re
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

import huggingface_hub
from huggingface_hub import constants

from fakeimg.errors import UserError

# ImageNet weights for each model: torchvision's own, as timm publishes them in safetensors.
DEFAULTS = {
    'resnet18': 'timm/resnet18.tv_in1k',
    'resnet34': 'timm/resnet34.tv_in1k',
    'resnet50': 'timm/resnet50.tv2_in1k',
    'resnet101': 'timm/resnet101.tv2_in1k',
    'vgg19': 'timm/vgg19.tv_in1k',
    'vgg19_bn': 'timm/vgg19_bn.tv_in1k',
}
WEIGHTS = 'model.safetensors'
TIMEOUT = 10.0  # seconds that the Hub has for an answer
CONNECTION_TIMEOUT = 2.0  # seconds in which a machine that is online can reach it at all


def is_name(text: str) -> bool:
    """Whether a text can be the name of a model on the Hub: OWNER/NAME or OWNER/NAME@REVISION."""
    return bool(re.fullmatch(r'[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?', text)) and not re.search(
        r'\.(safetensors|pth|pt|h5|hdf5|bin)$', text
    )


def download(name: str) -> tuple[pathlib.Path, tuple[float, ...] | None, tuple[float, ...] | None]:
    """Downloads `model.safetensors` of a model into the Hub's cache; without a connection, finds it there.

    Returns:
        The file, and mean and std of RGB in [0, 1] if the model states them.

    Raises:
        UserError: no connection, no such model, or no safetensors in it.
    """
    path = download_folder(name, [WEIGHTS], ['config.json', 'preprocessor_config.json']) / WEIGHTS
    for file in ('config.json', 'preprocessor_config.json'):
        try:
            stated: dict[str, Any] = json.loads((path.parent / file).read_text())
        except (OSError, ValueError):  # many models lack one of them
            continue
        stated = stated.get('pretrained_cfg', stated)
        mean, std = (stated.get(key) or stated.get(f'image_{key}') for key in ('mean', 'std'))
        if mean and std:
            return path, tuple(mean), tuple(std)
    return path, None, None


def download_folder(name: str, needed: Sequence[str], others: Sequence[str] = ()) -> pathlib.Path:
    """Downloads files of a model into the Hub's cache; without a connection, finds them there.

    Args:
        name: OWNER/NAME or OWNER/NAME@REVISION.
        needed: files that it must have.
        others: files that it may have.

    Returns:
        The folder with these files.

    Raises:
        UserError: no connection, no such model, or a file that it should have cannot be downloaded.
    """
    logging.getLogger('huggingface_hub').setLevel(logging.ERROR)  # every retry would be a warning
    repository, _, revision = name.partition('@')
    refusal: Exception | None = None
    there: set[str] | None = None
    try:  # one request, where there is anybody to ask: hf_hub_download would retry for 25 s without a connection
        check_connection()
        found = huggingface_hub.model_info(repository, revision=revision or None, timeout=TIMEOUT)
        there = {file.rfilename for file in found.siblings or ()}
    except Exception as error:  # its HTTP library may raise anything
        refusal = error

    def fetch(file: str) -> pathlib.Path:
        cached_only = refusal is not None
        return pathlib.Path(
            huggingface_hub.hf_hub_download(repository, file, revision=revision or None, local_files_only=cached_only)
        )

    path = pathlib.Path()
    for file in needed:
        try:
            path = fetch(file)
        except Exception as error:
            raise _refused(file, name, refusal or error) from error
    for file in others:
        if there is None or file in there:
            try:
                fetch(file)
            except Exception as error:
                if there is not None:
                    raise _refused(file, name, error) from error
    return path.parent


def _refused(file: str, name: str, error: Exception) -> UserError:
    return UserError(
        f'{file} of {name} could not be downloaded from the Hugging Face Hub ({reason(error)}); check the name and '
        'your connection, or download the file yourself and give its path.'
    )


def reason(error: Exception) -> str:
    """The kind and the first line of an error of the Hub."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0].strip().rstrip(".:")}' if lines else type(error).__name__


def check_connection() -> None:
    """Raises ConnectionError when the Hub, or the proxy on the way to it, cannot be reached in CONNECTION_TIMEOUT.

    Libraries take longer, for they try again.
    """
    url = urllib.parse.urlsplit(constants.ENDPOINT)
    proxies = {} if urllib.request.proxy_bypass(url.hostname or '') else urllib.request.getproxies()
    through = proxies.get(url.scheme) or proxies.get('all')
    if through:
        url = urllib.parse.urlsplit(through if '//' in through else f'//{through}')
    if constants.HF_HUB_OFFLINE or not url.hostname:
        return  # `model_info` says so
    address = url.hostname, url.port or (80 if url.scheme == 'http' else 443)
    answers: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()

    def connect() -> None:
        try:
            socket.create_connection(address, CONNECTION_TIMEOUT).close()
            answers.put(None)
        except OSError as error:
            answers.put(error)

    threading.Thread(target=connect, daemon=True).start()  # a name server that is silent blocks for longer
    try:
        error = answers.get(timeout=CONNECTION_TIMEOUT)
    except queue.Empty:
        error = TimeoutError('no answer')
    if error is not None:
        raise ConnectionError(f'{address[0]} cannot be reached: {error.strerror or error}')
