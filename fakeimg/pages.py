"""Self-contained HTML pages with one face: sections, tables, charts and images inside the file.

Nothing is fetched and no script runs: a policy in the page itself forbids both. All strings are text, never HTML.
"""

import base64
import contextlib
import dataclasses
import functools
import io
import json
import math
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jinja2
import matplotlib
import matplotlib.figure
import PIL.Image

from fakeimg import files
from fakeimg import svg as svg_lib
from fakeimg.data import decode

REAL_COLOUR, FAKE_COLOUR = '#2b6cb0', '#c05621'  # colour-blind readers can distinguish them
THIRD_COLOUR, FOURTH_COLOUR = '#2f855a', '#6b46c1'
INK, MUTED, LINE = svg_lib.INK, '#4a5568', '#cbd5e0'
# In a page, a colour of a chart is a variable of the style sheet, which has another value in dark mode.
_VARIABLES = {INK: 'ink', MUTED: 'muted', LINE: 'line', REAL_COLOUR: 'real', FAKE_COLOUR: 'fake',
              THIRD_COLOUR: 'third', FOURTH_COLOUR: 'fourth'}  # fmt: skip
THUMBNAIL_SIZE = 128  # pixels
_THUMBNAIL_BYTES = 16_000  # of a PNG; 40 larger ones would make a page heavy
PLOT_STYLE: Any = {
    'font.size': svg_lib.FONT_SIZE, 'axes.titlesize': 11, 'axes.spines.top': False, 'axes.spines.right': False,
    'axes.edgecolor': MUTED, 'axes.labelcolor': INK, 'text.color': INK, 'xtick.color': MUTED, 'ytick.color': MUTED,
    'xtick.labelcolor': INK, 'ytick.labelcolor': INK, 'grid.color': LINE, 'grid.linewidth': 0.6,
    'legend.frameon': False, 'xtick.major.size': 0, 'ytick.major.size': 0, 'xtick.minor.size': 0,
    'ytick.minor.size': 0, 'svg.fonttype': 'none', 'svg.hashsalt': 'fakeimg',
}  # fmt: skip
_PNG_DPI = 144


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table: a text, below it a smaller one, and complete commands to be copied.

    `kind` is a class of the style sheet: grey, ok, note, warn, fail.
    """

    text: str
    kind: str = ''
    small: str = ''
    commands: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of strings or cells below a head.

    `kinds` has a letter a column, w for words and n for numbers; where it is shorter, its last letter goes on.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ''
    note: str = ''
    kinds: str = 'wn'

    @property
    def is_wide(self) -> bool:
        """Whether a phone shows each row as a list."""
        words = [column for column in range(1, len(self.head)) if not self.is_number(column)]
        return len(self.head) > 4 or (len(self.head) > 2 and bool(words))

    def is_number(self, column: int) -> bool:
        return self.kinds[min(column, len(self.kinds) - 1)] == 'n'

    @property
    def cells(self) -> list[list[Cell]]:
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing, an `svg` element with its text alternative, and the numbers behind it; `words` stand below it."""

    name: str
    title: str
    svg: str
    table: Table
    words: str = ''


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """Small images side by side, with lines of text under them; `uris` are data URIs."""

    uris: Sequence[str]
    lines: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A sheet of images under a heading."""

    title: str
    thumbnails: Sequence[Thumbnail]
    words: str = ''


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page, in this order: words, commands, charts, tables, sheets, folded texts.

    `commands` are complete and can be copied; `folded` holds pairs of a summary and a long text.
    """

    title: str
    words: Sequence[str] = ()
    commands: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    sheets: Sequence[Sheet] = ()
    folded: Sequence[tuple[str, str]] = ()

    @property
    def anchor(self) -> str:
        return re.sub(r'[^a-z0-9]+', '-', self.title.lower()).strip('-') or 'section'


def write_page(
    path: pathlib.Path,
    title: str,
    sections: Sequence[Section],
    *,
    template: str = 'page.html.j2',
    data: Any = None,
    **context: Any,
) -> None:
    """Writes one page; a reader finds the old one or the new one.

    Args:
        path: of the page.
        title: of the window and above the text.
        sections: of the page.
        template: of `fakeimg/templates`, with its `context`.
        data: the page's numbers, embedded as JSON.
    """
    text = _templates().get_template(template).render(title=title, sections=sections, data=data, **context)
    with files.replacing(path, 'wb') as file:
        file.write(text.encode('utf-8', 'replace'))  # file names may hold bytes that are no text


def render_text(template: str, **context: Any) -> str:
    """Renders a template that is no HTML; its filters escape."""
    return _templates().get_template(template).render(**context).encode('utf-8', 'replace').decode()


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('fakeimg'),
        autoescape=lambda name: name is None or '.html' in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['embedded'] = _embedded
    environment.filters['markdown'] = markdown
    return environment


def _embedded(value: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(finite(value), separators=(',', ':'), allow_nan=False)
    for character in '<>&':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return text


def finite(value: Any) -> Any:
    """Plain values in which a number that is not finite is None, and the others have six digits."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(f'{value:.6g}') if math.isfinite(value) else None
    return value


def markdown(text: Any) -> str:
    """Text as Markdown on one line, in which nothing is markup."""
    text = re.sub(r'\s+', ' ', str(text))
    text = re.sub(r'([\\`*_\[\]|#!~])', r'\\\1', text)
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


@contextlib.contextmanager
def drawing(width: float = 5.0, height: float = 3.6, left: float = 0.75) -> Iterator[tuple[Any, Any]]:
    """Yields a figure and its axes in the style of the pages; inches. Small enough to be read on a phone."""
    with matplotlib.rc_context(PLOT_STYLE):
        figure = matplotlib.figure.Figure(figsize=(width, height))
        axes = figure.subplots()
        figure.subplots_adjust(left / width, 0.55 / height, 1 - 0.15 / width, 1 - 0.15 / height)
        yield figure, axes


def chart(
    figure: matplotlib.figure.Figure,
    title: str,
    description: str,
    table: Table,
    *,
    name: str = '',
    folder: pathlib.Path | None = None,
    is_silent: bool = False,
) -> Chart:
    """Turns what `drawing` yielded into a chart, within its block.

    Args:
        figure: the drawing.
        title: above it, and part of its text alternative.
        description: below it unless `is_silent`, and part of its text alternative.
        table: the numbers behind it.
        name: of its own on the page; the title's by default.
        folder: gets NAME.svg and NAME.png too.
        is_silent: where the words around it say enough.
    """
    name = name or re.sub(r'[^a-z0-9]+', '_', title.lower()).strip('_')
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', metadata={'Date': None}, transparent=True)
    svg = svg_lib.inline(buffer.getvalue(), name, title, description)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        alone = svg.replace('style="', 'style="background:#fff;', 1).replace(
            '<svg ', '<svg xmlns="http://www.w3.org/2000/svg" ', 1
        )
        (folder / f'{name}.svg').write_bytes(alone.encode('utf-8', 'replace'))
        figure.savefig(folder / f'{name}.png', dpi=_PNG_DPI, facecolor='white')
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f'var(--{variable})')
    return Chart(name, title, svg, table, '' if is_silent else description)


def thumbnail(data: bytes) -> str:
    """Returns an encoded image as a small one, a data URI without metadata. Raises decode.BadImage."""
    image = PIL.Image.fromarray(decode.decode_rgb(data))
    image.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    return uri(image)


def uri(image: PIL.Image.Image) -> str:
    """Returns an image, best of at most `THUMBNAIL_SIZE` pixels a side, as a data URI."""
    png = _encoded(image, 'PNG')
    return _data_uri(png, 'png') if len(png) <= _THUMBNAIL_BYTES else _data_uri(_encoded(image, 'JPEG'), 'jpeg')


def thumbnail_of(read: Callable[[], bytes]) -> list[str]:
    """A `thumbnail` of what `read` returns; none where that cannot be read any more."""
    try:
        return [thumbnail(read())]
    except (OSError, decode.BadImage):
        return []


def _encoded(image: PIL.Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({'quality': 88} if kind == 'JPEG' else {}))
    return buffer.getvalue()


def _data_uri(data: bytes, kind: str) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'
