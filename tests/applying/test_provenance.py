"""Signed manifests, made here with keys that are thrown away: what holds, what does not, and no network."""

import datetime
import http.server
import importlib.util
import io
import json
import pathlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import pytest

from fakeimg.applying import declared, provenance
from fakeimg.applying.provenance import Provenance, read
from fakeimg.errors import UserError
from tests.applying.test_declared import CARRIERS, PACKET, jpeg
from tests.support.verbs import ROOT

TERMS = 'http://cv.iptc.org/newscodes/digitalsourcetype/'
KINDS = ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF', 'GIF']


@pytest.fixture(scope='module')
def c2pa() -> Any:
    return pytest.importorskip('c2pa')


class Identity(NamedTuple):
    """Who signs: a chain of certificates and the key, PEM, and the root that may be trusted."""

    chain: bytes
    key: bytes
    root: str


def identity(is_self_signed: bool = False) -> Identity:
    x509, hashes, serialization, ec = (
        pytest.importorskip(f'cryptography.{name}')
        for name in ('x509', 'hazmat.primitives.hashes', 'hazmat.primitives.serialization',
                     'hazmat.primitives.asymmetric.ec')
    )  # fmt: skip
    NameOID, ExtendedKeyUsageOID = x509.NameOID, x509.ExtendedKeyUsageOID
    now, encoding = datetime.datetime.now(datetime.UTC), serialization.Encoding.PEM

    def certificate(subject: str, key: Any, issuer: str, issuer_key: Any, is_root: bool) -> bytes:
        names = [
            x509.Name([x509.NameAttribute(kind, name) for kind in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)])
            for name in (subject, issuer)
        ]
        usage = dict.fromkeys(
            ('content_commitment', 'key_encipherment', 'data_encipherment', 'key_agreement', 'encipher_only',
             'decipher_only'), False)  # fmt: skip
        extensions = [
            (x509.BasicConstraints(is_root, None), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
            (x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **usage), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
        ]
        builder = x509.CertificateBuilder(
            names[1], names[0], key.public_key(), x509.random_serial_number(),
            now - datetime.timedelta(days=1), now + datetime.timedelta(days=9),
        )  # fmt: skip
        for extension, is_critical in extensions[: 4 if is_root else 5]:
            builder = builder.add_extension(extension, is_critical)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(encoding)

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    root = certificate('Test root', keys[0], 'Test root', keys[0], True)
    if is_self_signed:
        chain = certificate('Test camera', keys[1], 'Test camera', keys[1], False)
    else:
        chain = certificate('Test camera', keys[1], 'Test root', keys[0], False) + root
    secret = keys[1].private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(chain, secret, root.decode())


@pytest.fixture(scope='module')
def camera(c2pa: Any) -> Identity:
    return identity()


def encode(kind: str, **options) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def sign(
    c2pa: Any, signer: Identity, actions: list[dict[str, Any]], data: bytes = b'', remote: str = '', parent: bytes = b''
) -> bytes:
    """Signs a JPEG or `data`; with `remote`, the manifest is not kept in it."""
    data = data or encode('JPEG')
    kind = f'image/{declared.formats.image_format(data[:64])}'
    manifest = {
        'claim_generator_info': [{'name': 'tests'}],
        'assertions': [{'label': 'c2pa.actions', 'data': {'actions': actions}}],
    }
    context = c2pa.Context.from_dict({'builder': {'thumbnail': {'enabled': False}}, 'verify': NO_CHECK})
    info = c2pa.C2paSignerInfo('es256', signer.chain, signer.key, None)
    out = io.BytesIO()
    with c2pa.Builder(manifest, context=context) as builder, c2pa.Signer.from_info(info) as key:
        if remote:
            builder.set_remote_url(remote)
            builder.set_no_embed()
        if parent:
            ingredient = json.dumps({'relationship': 'parentOf', 'label': 'parent'})
            builder.add_ingredient(ingredient, 'image/jpeg', io.BytesIO(parent))
        builder.sign(key, kind, io.BytesIO(data), out)
    return out.getvalue()


NO_CHECK = {'verify_after_sign': False}
OPENED = {'action': 'c2pa.opened', 'parameters': {'ingredientIds': ['parent']}}
CREATED = {'action': 'c2pa.created', 'digitalSourceType': f'{TERMS}trainedAlgorithmicMedia'}


@pytest.mark.parametrize('kind', KINDS)
def test_a_manifest_holds_in_every_container(c2pa: Any, camera: Identity, kind: str) -> None:
    data = sign(c2pa, camera, [CREATED], encode(kind))
    found = read(data)
    assert found == Provenance(
        'untrusted signer', ('trainedAlgorithmicMedia',), signer='Test camera', source='C2PA manifest'
    )
    assert found.text == 'untrusted signer Test camera: declares AI: trainedAlgorithmicMedia'
    trusted = read(data, camera.root)
    assert trusted.status == 'valid'
    assert trusted.text == 'valid, signed by Test camera: declares AI: trainedAlgorithmicMedia'
    assert read(data, identity().root).status == 'untrusted signer'


def test_what_was_changed_is_invalid(c2pa: Any, camera: Identity) -> None:
    data = sign(c2pa, camera, [CREATED])
    changes = {
        'the file was changed after it was signed': len(data) - 50,
        'a declaration was changed after it was signed': data.index(b'trainedAlgorithmicMedia'),
        'the signature is not of this manifest': data.index(b'Test camera'),
    }
    for reason, place in changes.items():
        changed = bytearray(data)
        changed[place] ^= 1
        found = read(bytes(changed), camera.root)
        assert (found.status, found.note) == ('invalid', reason)
        assert found.text.startswith(f'invalid ({reason})')
    assert read(data + b'appended').note == 'the file was changed after it was signed'
    broken = bytearray(data)
    broken[data.index(b'c2cl')] ^= 1
    assert read(bytes(broken)).text.startswith('invalid (the manifest cannot be read: ')


def test_manifests_are_not_taken_from_other_places(c2pa: Any, camera: Identity) -> None:
    data = sign(c2pa, camera, [CREATED])
    segment = data[data.index(b'JP') :]
    assert read(encode('JPEG') + data) == Provenance()
    assert read(encode('PNG') + data) == Provenance()
    assert read(jpeg(0xFE, segment[:60_000])) == Provenance()
    assert read(jpeg(0xEB, b'JP\0\1\0\0\0\1 of another kind')) == Provenance()
    assert read(encode('TIFF', description='c2pa')) == Provenance()
    assert read(encode('BMP') + segment) == Provenance()
    assert read(encode('TIFF') + segment) == Provenance()
    assert read(encode('GIF') + segment) == Provenance()


def test_a_self_signed_certificate_proves_nothing(c2pa: Any) -> None:
    signer = identity(is_self_signed=True)
    found = read(sign(c2pa, signer, [CREATED]))
    assert (found.status, found.declares_ai) == ('untrusted signer', True)


def test_a_date_and_several_terms_are_told(c2pa: Any, camera: Identity) -> None:
    captured = {'action': 'c2pa.created', 'digitalSourceType': f'{TERMS}digitalCapture', 'when': '2026-03-01T10:00:00Z'}
    filled = {'action': 'c2pa.edited', 'digitalSourceType': f'{TERMS}compositeWithTrainedAlgorithmicMedia'}
    found = read(sign(c2pa, camera, [captured, filled]))
    assert found.declares == ('digitalCapture', 'compositeWithTrainedAlgorithmicMedia')
    assert (found.declares_ai, found.date) == (True, '2026-03-01T10:00:00Z')
    only = read(sign(c2pa, camera, [captured]))
    assert (only.declares_ai, only.text) == (False, 'untrusted signer Test camera: declares digitalCapture')


def test_an_edited_image_declares_what_it_was_made_from(c2pa: Any, camera: Identity) -> None:
    parent = sign(c2pa, camera, [CREATED])
    found = read(sign(c2pa, camera, [OPENED, {'action': 'c2pa.cropped'}], parent=parent))
    assert (found.status, found.declares) == ('untrusted signer', ('trainedAlgorithmicMedia',))


def test_a_manifest_without_a_source_type_leaves_what_xmp_declares(c2pa: Any, camera: Identity) -> None:
    found = read(sign(c2pa, camera, [OPENED], CARRIERS['jpeg'](PACKET), parent=encode('JPEG')))
    assert (found.status, found.source) == ('untrusted signer', 'XMP')
    assert found.text == 'untrusted signer Test camera: declares AI: trainedAlgorithmicMedia (XMP, unsigned)'
    assert read(sign(c2pa, camera, [OPENED], parent=encode('JPEG'))).text == 'untrusted signer Test camera'


class Asked(http.server.BaseHTTPRequestHandler):
    paths: list[str] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    """Of a server on this machine that writes down what it is asked for."""
    Asked.paths.clear()
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Asked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_address[1]}'
        server.shutdown()


def test_a_remote_manifest_is_not_fetched(c2pa: Any, camera: Identity, address: str) -> None:
    data = sign(c2pa, camera, [CREATED], remote=f'{address}/a.c2pa')
    found = read(data)
    assert found == Provenance(note=f'its C2PA manifest is kept at {address}/a.c2pa and was not fetched')
    provenance._read_manifest(c2pa, data, '')  # the settings hold, should the library ever see such a file
    assert Asked.paths == []
    with pytest.raises(c2pa.C2paError):  # what would happen without them
        c2pa.Reader('image/jpeg', io.BytesIO(data))
    assert Asked.paths == ['/a.c2pa']


def test_without_the_extra_a_manifest_is_mentioned(
    c2pa: Any, camera: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sign(c2pa, camera, [CREATED])
    monkeypatch.setattr(provenance, '_library', lambda: None)
    found = read(data)
    assert found == Provenance(note=provenance.NOT_CHECKED)
    assert read(jpeg(0xEB, b'JP\0\1\0\0\0\1 c2pa, of another kind')) == Provenance()
    assert found.text == "it has a C2PA manifest, which needs the extra provenance: pip install 'fakeimg[provenance]'"


def test_certificates_are_read_from_a_file(c2pa: Any, camera: Identity, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'trusted.pem'
    path.write_text(camera.root)
    assert provenance.read_certificates(path) == camera.root
    for content in ('', 'no certificate', camera.root[:200], camera.root.replace('MII', 'AAA')):
        path.write_text(content)
        with pytest.raises(UserError, match='holds no whole certificates; give a PEM file'):
            provenance.read_certificates(path)
    with pytest.raises(UserError, match='cannot be read .No such file or directory.; give a PEM file'):
        provenance.read_certificates(tmp_path / 'nothing.pem')


def test_certificates_need_the_extra(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, '_library', lambda: None)
    with pytest.raises(UserError, match='cannot be checked; install the extra: pip install'):
        provenance.read_certificates(tmp_path / 'nothing.pem')


def test_the_library_is_loaded_from_its_own_folder(c2pa: Any, tmp_path: pathlib.Path) -> None:
    spec = importlib.util.find_spec('_bisect')
    assert spec is not None and spec.origin is not None
    shutil.copy(spec.origin, tmp_path / 'libc2pa_c.so')  # other native code
    code = 'from fakeimg.applying import provenance; print(provenance._library())'
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env={'PYTHONPATH': str(ROOT)}, capture_output=True, text=True
    )
    assert (done.stdout.startswith("<module 'c2pa'"), done.stderr) == (True, '')


def test_the_module_is_imported_without_the_library() -> None:
    code = 'import sys; from fakeimg.applying import provenance; print({"c2pa", "jax"} & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('set()\n', '')


def test_what_a_signer_writes_is_fit_for_a_terminal() -> None:
    shown = provenance._plain('A\x1b[31m\nB\u202e' + 'c' * 1000)
    assert shown.startswith('A [31m B cc') and len(shown) == 100 and shown.isprintable()
