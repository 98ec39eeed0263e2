"""What a file says about itself without a signature: XMP's source type, and the texts that generators write into PNGs.

Only the container's own structures are read. A caption, a comment, pixels, or bytes after the image may hold anything,
a whole XMP packet among it, and declare nothing.
"""

import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from fakeimg.data import decode, formats, pillow_formats

XMP, PNG_TEXT = 'XMP', 'PNG text'
MAX_CHUNKS = 50_000  # of any container; a PNG of 100 MB has 12,000 of the usual size
MAX_TEXTS = 64  # of a PNG
MAX_TEXT, MAX_XMP = 1 << 16, 1 << 18  # bytes that are looked at, after decompression

# IPTC's terms (NewsCodes, Digital Source Type), and those that C2PA adds.
_TERM = re.compile(
    r'(?:https?://(?:cv\.iptc\.org/newscodes|c2pa\.org)/digitalsourcetype/|digsrctype:)([A-Za-z]{3,60})/?'
)
_BARE_TERMS = (
    'algorithmicMedia', 'algorithmicallyEnhanced', 'composite', 'compositeCapture', 'compositeSynthetic',
    'compositeWithTrainedAlgorithmicMedia', 'computationalCapture', 'dataDrivenMedia', 'digitalCapture',
    'digitalCreation', 'humanEdits', 'negativeFilm', 'positiveFilm', 'print', 'screenCapture',
    'trainedAlgorithmicMedia', 'virtualRecording',
)  # fmt: skip
AI_TERMS = ('trainedAlgorithmicMedia', 'compositeWithTrainedAlgorithmicMedia', 'trainedAlgorithmicData')

_RDF = '{http://www.w3.org/1999/02/22-rdf-syntax-ns#}'
_SOURCE_TYPE = '{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType'
_PROVENANCE = '{http://purl.org/dc/terms/}provenance'  # where a C2PA manifest is kept that is not in the file
_JPEG_XMP, _PNG_XMP = b'http://ns.adobe.com/xap/1.0/\0', b'XML:com.adobe.xmp'
# The start of a manifest store, of a type that only it has (C2PA 2.1, section 11.1.4); JPEG XT has such boxes too.
_C2PA_BOX = b'jumdc2pa' + bytes.fromhex('00110010800000AA00389B71')
_C2PA_FORMATS = ('tiff', 'gif', 'avif', 'heif')  # and those that are searched here

# The program that writes a keyword, and what its text then holds: a word like `prompt` alone says nothing.
_WRITERS = (
    (b'parameters', re.compile(r'(?s)(?:.*\n)?Steps: \d+, Sampler: [^,\n]+, '), 'Stable Diffusion web UI'),
    (b'parameters', re.compile(r'\s*\{\s*"sui_image_params"\s*:'), 'SwarmUI'),
    (b'prompt', re.compile(r'(?s)\s*\{\s*"[^"]{1,80}"\s*:\s*\{.*"class_type"\s*:\s*"'), 'ComfyUI'),
    (b'workflow', re.compile(r'(?s)\s*\{.{0,400}"last_node_id"\s*:'), 'ComfyUI'),
    (b'invokeai_metadata', re.compile(r'\s*\{\s*"'), 'InvokeAI'),
    (b'invokeai_graph', re.compile(r'\s*\{\s*"'), 'InvokeAI'),
    (b'sd-metadata', re.compile(r'\s*\{\s*"'), 'InvokeAI'),
    (b'Dream', re.compile(r'(?s)".*" -s ?\d+ '), 'InvokeAI'),
    (b'fooocus_scheme', re.compile(r'(fooocus|a1111)\s*$'), 'Fooocus'),
)
# Programs that do nothing but generate; a version may follow, and no other word.
_PROGRAMS = re.compile(
    r'(?i)(NovelAI|ComfyUI|InvokeAI|Fooocus|SwarmUI|Midjourney|DALL[-\u00b7 ]?E|Stable Diffusion(?: web ?UI)?'
    r'|Draw Things|Adobe Firefly)(?: ?v?\d[\d.]{0,10})?\s*'
)
_PROGRAM_KEYWORDS = (b'software', b'generator')


class Parts(NamedTuple):
    """What a container holds: an XMP packet or nothing, keywords and texts of a PNG, and whether it has a manifest."""

    xmp: bytes = b''
    texts: tuple[tuple[bytes, str], ...] = ()
    has_manifest: bool = False


class Declared(NamedTuple):
    """Terms of IPTC or programs that wrote PNG texts, where they were read, and the address of a remote manifest."""

    terms: tuple[str, ...] = ()
    source: str = ''
    remote_manifest: str = ''


def find_parts(data: bytes) -> Parts:
    """Finds the parts of an encoded image; whatever is broken or too long is taken for absent."""
    kind = formats.image_format(data[: formats.START])
    if kind == 'jpeg':
        return _jpeg_parts(data)
    if kind == 'png':
        return _png_parts(data)
    if kind == 'webp':
        return _webp_parts(data)
    # The search only decides whether it is worth while to look into the structure.
    xmp = _pillow_xmp(data) if b'DigitalSourceType' in data or b'provenance' in data else b''
    return Parts(xmp, has_manifest=kind in _C2PA_FORMATS and _C2PA_BOX in data)


def read_declared(parts: Parts) -> Declared:
    """Reads what XMP declares, or else the texts of a PNG."""
    source_types, provenance = _xmp_properties(parts.xmp)
    remote = next((value for value in provenance if value.startswith(('http://', 'https://'))), '')
    if terms := tuple(dict.fromkeys(filter(None, map(term_of, source_types)))):
        return Declared(terms, XMP, remote)
    programs = tuple(dict.fromkeys(filter(None, (_program(keyword, text) for keyword, text in parts.texts))))
    return Declared(programs, PNG_TEXT if programs else '', remote)


def term_of(value: str) -> str:
    """The term that a digital source type names, as an address or alone; '' for any other text."""
    value = value.strip()
    match = _TERM.fullmatch(value)
    return match[1] if match else value if value in _BARE_TERMS else ''


def _program(keyword: bytes, text: str) -> str:
    if keyword.lower() in _PROGRAM_KEYWORDS:
        match = _PROGRAMS.fullmatch(text)
        return match[1] if match else ''
    return next((program for key, shape, program in _WRITERS if key == keyword and shape.match(text)), '')


def _xmp_properties(packet: bytes) -> tuple[list[str], list[str]]:
    """The values of the source type and of the provenance that XMP states about the image as a whole."""
    if b'DigitalSourceType' not in packet and b'provenance' not in packet:
        return [], []
    try:
        text = packet.strip(b'\0 \t\r\n').decode('utf-8-sig')
        if '<!DOCTYPE' in text:  # XMP has none, and entities are defined in one
            return [], []
        root = ET.fromstring(text)
    except (UnicodeDecodeError, ET.ParseError, ValueError, RecursionError):
        return [], []
    rdf = root if root.tag == f'{_RDF}RDF' else root.find(f'{_RDF}RDF')
    # Not deeper: an ingredient or a work that is shown has a source type of its own.
    descriptions = [] if rdf is None else rdf.findall(f'{_RDF}Description')
    return (
        [value for description in descriptions for value in _values(description, _SOURCE_TYPE)],
        [value for description in descriptions for value in _values(description, _PROVENANCE)],
    )


def _values(description: ET.Element, name: str) -> Iterator[str]:
    yield description.get(name, '')
    for element in description.findall(name):
        yield element.get(f'{_RDF}resource', '')
        yield element.text or ''
        for item in element.findall(f'*/{_RDF}li'):
            yield item.text or ''


def _jpeg_parts(data: bytes) -> Parts:
    place, xmp, has_manifest = 2, b'', False
    # Segments: marker (2 bytes), length (2 bytes, itself included), content. Those of metadata precede the scan.
    for _ in range(MAX_CHUNKS):
        if place + 4 > len(data) or data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker in (0xDA, 0xD9):
            break
        end = place + 2 + (data[place + 2] << 8 | data[place + 3])
        if end > len(data):
            break
        if marker == 0xE1 and not xmp and data.startswith(_JPEG_XMP, place + 4):
            xmp = data[place + 4 + len(_JPEG_XMP) : end]
        elif marker == 0xEB and data.startswith(b'JP', place + 4) and data.find(_C2PA_BOX, place, end) >= 0:
            has_manifest = True
        place = max(end, place + 4)
    return Parts(xmp, has_manifest=has_manifest)


def _png_parts(data: bytes) -> Parts:
    place, xmp, has_manifest, texts = 8, b'', False, []
    # Chunks: length of the content (4 bytes), name (4 bytes), content, checksum (4 bytes).
    for _ in range(MAX_CHUNKS):
        length, name = int.from_bytes(data[place : place + 4], 'big'), data[place + 4 : place + 8]
        start, end = place + 8, place + 8 + length
        if end + 4 > len(data) or name == b'IEND':
            break
        if name == b'caBX':
            has_manifest = True
        elif name in (b'tEXt', b'zTXt', b'iTXt') and len(texts) < MAX_TEXTS:
            keyword = data[start : min(start + 80, end)].partition(b'\0')[0]
            if name == b'iTXt' and keyword == _PNG_XMP:
                xmp = xmp or _png_text(data, name, start + len(keyword) + 1, end, MAX_XMP)
            elif keyword.lower() in _PROGRAM_KEYWORDS or any(keyword == key for key, *_ in _WRITERS):
                text = _png_text(data, name, start + len(keyword) + 1, end, MAX_TEXT)
                texts.append((keyword, text.decode('utf-8' if name == b'iTXt' else 'latin-1', 'replace')))
        place = end + 4
    return Parts(xmp, tuple(texts), has_manifest)


def _png_text(data: bytes, name: bytes, start: int, end: int, limit: int) -> bytes:
    """Returns up to `limit` bytes of the text that follows a keyword; b'' where it is broken."""
    content = data[start : min(end, start + limit)]
    is_compressed = name == b'zTXt'
    if name == b'zTXt':
        content = content[1:]  # the method, of which there is one
    elif name == b'iTXt':
        # Whether it is compressed, the method, a language and the keyword in it.
        is_compressed, rest = content[:1] == b'\1', content[2:].split(b'\0', 2)
        content = rest[2] if len(rest) == 3 else b''
    if not is_compressed:
        return content
    try:
        return zlib.decompressobj().decompress(content, limit)
    except zlib.error:
        return b''


def _webp_parts(data: bytes) -> Parts:
    place, xmp, has_manifest = 12, b'', False
    whole = min(len(data), 8 + int.from_bytes(data[4:8], 'little'))
    # Chunks: name (4 bytes), length of the content (4 bytes), content, a byte that makes it even.
    for _ in range(MAX_CHUNKS):
        name, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], 'little')
        start, end = place + 8, place + 8 + length
        if end > whole:
            break
        if name == b'XMP ' and not xmp:
            xmp = data[start : min(end, start + MAX_XMP)]
        elif name == b'C2PA':
            has_manifest = True
        place = end + length % 2
    return Parts(xmp, has_manifest=has_manifest)


def _pillow_xmp(data: bytes) -> bytes:
    try:
        with pillow_formats.opened(data, decode.MAX_PIXELS) as image:
            xmp = image.info.get('xmp')
    except pillow_formats.BadImage:
        return b''
    return xmp[:MAX_XMP] if isinstance(xmp, bytes) else b''
