"""One tree of files, written as a folder, a zip or a tar archive."""

import io
import os
import pathlib
import tarfile
import zipfile
from collections.abc import Mapping

FORMS = ('folder', 'stored.zip', 'deflated.zip', 'gnu.tar', 'pax.tar')
INVALID = os.fsdecode(b'train/real/caf\xe9.jpg')


def write_tree(root: pathlib.Path, tree: Mapping[str, bytes]) -> str:
    for name, data in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(root)


def write_zip(path: pathlib.Path, tree: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, 'w', method) as archive:
        for name, data in tree.items():
            archive.writestr(name, data)
    return str(path)


def write_tar(path: pathlib.Path, tree: Mapping[str, bytes], kind: int = tarfile.GNU_FORMAT) -> str:
    with tarfile.open(path, 'w', format=kind) as archive:
        for name, data in tree.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def write_form(form: str, path: pathlib.Path, tree: Mapping[str, bytes]) -> str:
    if form == 'folder':
        return write_tree(path / 'folder', tree)
    backwards = {name: tree[name] for name in reversed(list(tree))}  # an archive has an order of its own
    if form.endswith('.zip'):
        return write_zip(path / form, backwards, zipfile.ZIP_DEFLATED if form.startswith('d') else zipfile.ZIP_STORED)
    return write_tar(path / form, backwards, tarfile.GNU_FORMAT if form == 'gnu.tar' else tarfile.PAX_FORMAT)
