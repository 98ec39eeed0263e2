"""A map laid over what the network saw: orange cells speak for fake, blue ones for real, at one scale for both."""

import functools

import matplotlib.colors
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from jaxtyping import Float, UInt8

from fakeimg import pages
from fakeimg.explaining.maps import Explanation

_OPACITY = 0.85  # of the strongest colour: the image shows through
_SIDE = 256  # pixels, at least, of each half of a PNG
_GAP, _FONT_SIZE = 8, 13
_STEPS = 41  # of the colour bar


def limit(explanation: Explanation) -> float:
    """What the strongest colour stands for: the largest of the absolute cells, log-odds."""
    return float(np.abs(explanation.cells).max())


def overlay(explanation: Explanation, side: int = pages.THUMBNAIL_SIZE) -> PIL.Image.Image:
    """The map over the crop in grey, `side` pixels wide; cells keep their sharp edges."""
    grey = PIL.Image.fromarray(explanation.crop).convert('L').resize((side, side), _resampling(explanation, side))
    strongest = limit(explanation)
    cells = explanation.cells / strongest if strongest else explanation.cells
    pixels = np.arange(side) * len(explanation.rows) // side  # of the crop
    return PIL.Image.fromarray(tinted(np.asarray(grey), explanation.on_pixels(cells)[np.ix_(pixels, pixels)]))


def tinted(grey: UInt8[np.ndarray, 'h w'], values: Float[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'h w 3']:
    """Lays colours over grey, orange for values up to 1, blue down to -1, nothing at 0."""
    colours = [np.array(matplotlib.colors.to_rgb(name)) for name in (pages.FAKE_COLOUR, pages.REAL_COLOUR)]
    colour = 255 * np.where(values[..., None] > 0, *colours)
    opacity = _OPACITY * np.abs(values)[..., None].clip(0, 1)
    return ((1 - opacity) * (64 + 0.75 * grey[..., None].astype(float)) + opacity * colour).round().astype(np.uint8)


def shown(explanation: Explanation, side: int = pages.THUMBNAIL_SIZE) -> PIL.Image.Image:
    """What the network saw, `side` pixels wide."""
    return PIL.Image.fromarray(explanation.crop).resize((side, side), _resampling(explanation, side))


def _resampling(explanation: Explanation, side: int) -> PIL.Image.Resampling:
    is_larger = side > explanation.crop.shape[0]
    return PIL.Image.Resampling.NEAREST if is_larger else PIL.Image.Resampling.LANCZOS


def sheet(explanation: Explanation) -> PIL.Image.Image:
    """The crop, the map beside it, and below them a colour bar with its units."""
    size = explanation.crop.shape[0]
    side = size * max(1, -(-_SIDE // size))
    width = 2 * side + _GAP
    image = PIL.Image.new('RGB', (width, side + 3 * _GAP + 2 * (_FONT_SIZE + 4)), 'white')
    image.paste(shown(explanation, side), (0, 0))
    image.paste(overlay(explanation, side), (side + _GAP, 0))
    bar = tinted(np.full((10, width), 150, np.uint8), np.tile(np.linspace(-1, 1, width), (10, 1)))
    image.paste(PIL.Image.fromarray(bar), (0, side + _GAP))
    draw, font = PIL.ImageDraw.Draw(image), _font()
    top, strongest = side + 2 * _GAP + 6, limit(explanation)
    draw.text((0, top), f'-{strongest:.3g}, real', 'black', font)
    draw.text((width / 2, top), '0', 'black', font, 'ma')
    draw.text((width, top), f'+{strongest:.3g}, fake', 'black', font, 'ra')
    cell = f'log-odds that each cell of {explanation.cell} x {explanation.cell} pixels adds'
    draw.text((width / 2, top + _FONT_SIZE + 4), cell, 'black', font, 'ma')
    return image


@functools.cache
def _font() -> PIL.ImageFont.ImageFont | PIL.ImageFont.FreeTypeFont:
    return PIL.ImageFont.load_default(_FONT_SIZE)


def legend() -> pages.Chart:
    """The colour bar of a page."""
    values = np.linspace(-1, 1, _STEPS)
    colours = tinted(np.full((1, _STEPS), 150, np.uint8), values[None])[0] / 255
    with pages.drawing(4.6, 0.8, 0.15) as (figure, axes):
        figure.subplots_adjust(bottom=0.45, top=0.95)
        axes.bar(values, 1, 2.1 / (_STEPS - 1), color=colours)  # seams would show otherwise
        axes.set_xlim(-1, 1)
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.spines['left'].set_visible(False)
        axes.spines['bottom'].set_visible(False)
        axes.set_xticks([-0.82, 0, 0.86], ['for real', 'says nothing', 'for fake'])
        rows = [['orange', 'the cell adds to the log-odds of fake'], ['blue', 'the cell takes from them'],
                ['no colour', 'the cell adds nothing']]  # fmt: skip
        table = pages.Table(['colour', 'meaning'], rows, kinds='ww')
        return pages.chart(
            figure,
            'Colours of the maps',
            'Unit: log-odds of fake that a cell adds. The strongest colour is that of the largest cell of each image, '
            'which is named below it: colours of two images cannot be compared.',
            table,
            name='map_colours',
        )
