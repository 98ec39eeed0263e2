"""Self-contained HTML pages: one style, images and plots inside the file."""

import base64
import html
import io
import pathlib
from typing import Any

import matplotlib.figure
import PIL.Image

from fakeimg import files
from fakeimg.data import decode

REAL_COLOUR, FAKE_COLOUR = '#2b6cb0', '#c05621'  # colour-blind readers can distinguish them
THUMBNAIL_SIZE = 128  # pixels
PLOT_STYLE: Any = {'font.size': 10, 'axes.spines.top': False, 'axes.spines.right': False}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em; color: #1a202c }}
table {{ border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }}
td, th {{ padding: .25em 1em .25em 0; text-align: left; border-bottom: 1px solid #e2e8f0; vertical-align: top }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
div.plot {{ overflow-x: auto }} .plot img {{ width: 100%; min-width: 640px }}
figure {{ display: inline-block; width: 140px; margin: 0 10px 14px 0; vertical-align: top; font-size: 12px }}
figure.pair {{ width: 270px; margin-right: 30px }}
figure img {{ width: 128px; height: 128px; object-fit: contain; background: #edf2f7 }}
figcaption {{ overflow-wrap: anywhere }}
.small {{ color: #4a5568; font-size: 14px }}
.level {{ font-weight: 600; white-space: nowrap }}
.fail {{ color: #c53030 }} .warn {{ color: #b7791f }} .ok {{ color: #2f855a }} .note {{ color: #4a5568 }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def write_page(path: pathlib.Path, title: str, body: str) -> None:
    """Writes a page whose `body` is HTML and whose `title` is text; a reader finds the old page or the new one."""
    with files.replacing(path, encoding='utf-8') as file:
        file.write(_PAGE.format(title=escape(title), body=body))


def escape(text: str) -> str:
    """Returns text as HTML; file names may hold bytes that are no text."""
    return html.escape(text.encode('utf-8', 'replace').decode())


def plot(figure: matplotlib.figure.Figure, description: str, file: pathlib.Path | None = None) -> str:
    """Returns a figure as an HTML image over the whole width, which scrolls on a narrow screen; `file` gets it too."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    if file is not None:
        file.write_bytes(buffer.getvalue())
    return f'<div class="plot"><img alt="{escape(description)}" src="{_data_uri(buffer.getvalue())}"></div>'


def thumbnail(data: bytes) -> str:
    """Returns an encoded image as a small HTML image. Raises decode.BadImage."""
    image = PIL.Image.fromarray(decode.decode_rgb(data))
    image.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    buffer = io.BytesIO()
    image.save(buffer, 'PNG')
    return f'<img alt="" src="{_data_uri(buffer.getvalue())}">'


def _data_uri(png: bytes) -> str:
    return f'data:image/png;base64,{base64.b64encode(png).decode()}'
