"""What a file says about where its image comes from: beside a detector's score, and never mixed into it.

A C2PA manifest is signed, and is checked where the extra `provenance` is installed. XMP and the texts of generators are
not signed, and anyone can write or remove them. No network is used: a remote manifest or an OCSP answer is not fetched.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import io
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from fakeimg.applying import declared
from fakeimg.data import formats
from fakeimg.errors import UserError

NONE, VALID, INVALID, UNTRUSTED = 'none', 'valid', 'invalid', 'untrusted signer'  # Provenance.status
C2PA = 'C2PA manifest'
NOT_CHECKED = "it has a C2PA manifest, which needs the extra provenance: pip install 'fakeimg[provenance]'"
_LONGEST = 100  # characters of a name or reason that the file's writer chose
_MOST_PARENTS = 20  # edits of an image, each with a manifest, whose declarations are read
_NO_NETWORK = {
    'verify': {'remote_manifest_fetch': False, 'ocsp_fetch': False},
    'core': {'allowed_network_hosts': []},  # whatever else there may be to ask, such as a signer's identity
}
_METADATA = ('stds.iptc', 'c2pa.metadata', 'cawg.metadata')  # assertions that hold properties of XMP
_REASONS = {
    'assertion.dataHash.mismatch': 'the file was changed after it was signed',
    'assertion.bmffHash.mismatch': 'the file was changed after it was signed',
    'assertion.boxesHash.mismatch': 'the file was changed after it was signed',
    'assertion.hashedURI.mismatch': 'a declaration was changed after it was signed',
    'claimSignature.mismatch': 'the signature is not of this manifest',
    'claimSignature.missing': 'it is not signed',
    'signingCredential.expired': 'the certificate had expired',
    'signingCredential.invalid': 'the certificate is not one for signing',
    'signingCredential.ocsp.revoked': 'the certificate was revoked',
}
_DATE = re.compile(r'\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?[\d.]*(Z|[+-]\d\d:\d\d)?)?')


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What one file declares about its origin, and what that is worth.

    Attributes:
        status: of the C2PA manifest. `none`: there is none, or it was not checked, see `note`. `valid`: nothing was
            changed since it was signed, and the signer's certificate leads to a trusted one. `untrusted signer`:
            nothing was changed, but anyone may have signed. `invalid`: changed, broken, or signed with a bad
            certificate.
        declares: IPTC's terms for the digital source type, such as `trainedAlgorithmicMedia`, or the names of the
            programs that write the PNG texts that were found; empty where nothing is declared.
        signer: organisation or name in the certificate; '' without a manifest.
        date: when it was signed or, as the signer says, made; ISO 8601, or ''.
        source: where `declares` was read: `C2PA manifest`, `XMP` or `PNG text`; '' where nothing is declared.
        note: why a manifest is invalid, or was not checked; or ''.
    """

    status: str = NONE
    declares: tuple[str, ...] = ()
    signer: str = ''
    date: str = ''
    source: str = ''
    note: str = ''

    @property
    def declares_ai(self) -> bool:
        """Whether it says that a generator made the image, or a part of it."""
        return self.source == declared.PNG_TEXT or any(term in declared.AI_TERMS for term in self.declares)

    @property
    def text(self) -> str:
        """One short cell of a table; '' where the file says nothing."""
        what = f'declares {"AI: " * self.declares_ai}{", ".join(self.declares)}' if self.declares else ''
        if what and self.source != C2PA:
            what += f' ({self.source}, unsigned)'
        if self.status == NONE:
            return '; '.join(filter(None, (what, self.note)))
        signed = {
            VALID: f'valid, signed by {self.signer}',
            UNTRUSTED: f'untrusted signer {self.signer}',
            INVALID: f'invalid ({self.note})',
        }[self.status]
        return ': '.join(filter(None, (signed, what)))


def read(data: bytes, trusted: str = '') -> Provenance:
    """Reads what an encoded image declares.

    Whatever is broken or outsized in it never raises, and takes no more than a few milliseconds; where there is a
    manifest, the whole file is hashed.

    Args:
        data: the file.
        trusted: certificates that make a signer trusted, PEM, see `read_certificates`. Without them none is.
    """
    parts = declared.find_parts(data)
    if not parts.xmp and not parts.texts and not parts.has_manifest:
        return Provenance()
    unsigned = declared.read_declared(parts)
    note = f'its C2PA manifest is kept at {_plain(unsigned.remote_manifest)} and was not fetched'
    found = Provenance(NONE, unsigned.terms, source=unsigned.source, note=note if unsigned.remote_manifest else '')
    if not parts.has_manifest:
        return found
    c2pa = _library()
    if c2pa is None:
        return dataclasses.replace(found, note=NOT_CHECKED)
    signed = _read_manifest(c2pa, data, trusted)
    if signed is None:
        return found
    if signed.declares or not found.declares:
        return signed
    return dataclasses.replace(signed, declares=found.declares, source=found.source)


def read_certificates(path: str | os.PathLike[str]) -> str:
    """Reads a PEM file of certificates for `read`, such as the trust list that C2PA publishes.

    Raises:
        UserError: it cannot be read, or holds no certificates; or the extra `provenance` is not installed.
    """
    if _library() is None:
        raise UserError("C2PA manifests cannot be checked; install the extra: pip install 'fakeimg[provenance]'.")
    from cryptography import x509  # pyright: ignore[reportMissingImports]  # the extra provenance

    try:
        text = pathlib.Path(path).expanduser().read_text()
        x509.load_pem_x509_certificates(text.encode())
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}); give a PEM file of trusted certificates.') from None
    except ValueError:
        raise UserError(f'{path} holds no whole certificates; give a PEM file of trusted certificates.') from None
    return text


def _read_manifest(c2pa: Any, data: bytes, trusted: str) -> Provenance | None:
    """What the manifest in a file says; None where there is none after all."""
    kind = formats.image_format(data[: formats.START])
    context = c2pa.Context.from_dict({**_NO_NETWORK, **({'trust': {'user_anchors': trusted}} if trusted else {})})
    try:
        with c2pa.Reader(f'image/{kind}', io.BytesIO(data), context=context) as reader:
            return _interpret(json.loads(reader.json()))
    except c2pa.C2paError.ManifestNotFound:
        return None
    except Exception as error:  # of native code on a broken file, or of ours where a declaration has another form
        return Provenance(INVALID, note=f'the manifest cannot be read: {_plain(str(error))}')


def _interpret(content: dict[str, Any]) -> Provenance:
    manifests = content['manifests']
    manifest = manifests[content['active_manifest']]
    signature = manifest.get('signature_info') or {}
    terms = tuple(dict.fromkeys(filter(None, map(declared.term_of, _source_types(manifest, manifests)))))
    codes = [status['code'] for status in content.get('validation_status') or ()]
    codes = [code for code in codes if code != 'signingCredential.untrusted']
    status, note = {'Trusted': VALID, 'Valid': UNTRUSTED}.get(content['validation_state'], INVALID), ''
    if status == INVALID:
        known = (_REASONS[code] for code in codes if code in _REASONS)
        note = next(known, _plain(', '.join(codes) or 'no reason is given'))
    dates = (signature.get('time'), *(action.get('when') for action in _actions(manifest)))
    return Provenance(
        status,
        terms,
        signer=_plain(signature.get('issuer') or signature.get('common_name') or 'without a name'),
        date=next((date for date in dates if isinstance(date, str) and _DATE.fullmatch(date)), ''),
        source=C2PA if terms else '',
        note=note,
    )


def _source_types(manifest: dict[str, Any], manifests: dict[str, Any]) -> Iterator[str]:
    """Those of the image, and of the images that it was edited from; not those of parts that were added to it."""
    for _ in range(_MOST_PARENTS):
        yield from (str(action.get('digitalSourceType')) for action in _actions(manifest))
        for assertion in manifest['assertions']:
            if assertion['label'].startswith(_METADATA):
                yield str(assertion['data'].get('Iptc4xmpExt:DigitalSourceType'))
        parents = [part for part in manifest.get('ingredients') or () if part.get('relationship') == 'parentOf']
        label = parents[0].get('active_manifest') if parents else None
        if label not in manifests:
            return
        manifest = manifests[label]


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found = (part['data'] for part in manifest['assertions'] if part['label'].startswith('c2pa.actions'))
    return [action for actions in found for action in actions['actions']]


def _plain(text: str) -> str:
    """A text of the file's writer, fit for a line of a terminal."""
    shown = ' '.join(''.join(letter if letter.isprintable() else ' ' for letter in text[: 4 * _LONGEST]).split())
    return shown if len(shown) <= _LONGEST else f'{shown[: _LONGEST - 3]}...'


@functools.cache
def _library() -> Any:
    """C2PA's library; None where the extra is not installed, or cannot be loaded here."""
    try:
        spec = importlib.util.find_spec('c2pa')
        if spec is None or not spec.origin:
            return None
        with _own_native_code(pathlib.Path(spec.origin).parent / 'libs'):
            import c2pa  # pyright: ignore[reportMissingImports]  # the extra provenance
    except Exception:  # RuntimeError where its native code does not fit the machine, and others
        return None
    return c2pa


@contextlib.contextmanager
def _own_native_code(folder: pathlib.Path) -> Iterator[None]:
    """Makes c2pa load the native code that it came with: it would take a file of that name in the working folder."""
    name = 'C2PA_LIBRARY_NAME'
    files = [path for path in folder.glob('*c2pa_c.*') if path.suffix in ('.so', '.dylib', '.dll')]
    if name in os.environ or not files:
        yield
        return
    os.environ[name] = str(files[0])
    try:
        yield
    finally:
        del os.environ[name]
