"""The page of explanations: each image as the network saw it, its map, and what the score loses without it."""

import pathlib
from collections.abc import Iterable, Sequence

from fakeimg import files, pages
from fakeimg.explaining import overlay
from fakeimg.explaining.checks import Randomisation, Replaced
from fakeimg.explaining.maps import Explanation

SHOWN = 200  # images on a page, of about 20 KB each
MEANING = (
    'A map says how much each cell of the last feature maps adds to the log-odds of fake. It says where the score '
    'comes from, not why: it names no trace of a generator, and it is no evidence that a region was edited. What lies '
    'around a cell counts into it too.'
)
DROPS = (
    'The drop below each map: how far the log-odds move towards the other class when the fifth of the cells that '
    'speaks most for the class called is replaced by the same region of the next image, and when a random fifth is. '
    'One image says little; over many, the map tells where the score rests only if the first is clearly larger.'
)
_UNREADABLE_SHOWN = 20


def write_page(
    folder: pathlib.Path,
    explained: Iterable[tuple[Explanation, Replaced]],
    *,
    title: str = 'Explanations',
    about: Sequence[str] = (),
    check: Randomisation | None = None,
) -> int:
    """Writes `index.html`, which holds all that it shows, and `0000.png`, `0001.png`, ... with the map of each image.

    Images are written while they come. The page shows the first `SHOWN` of them and says how many there are.

    Args:
        folder: to write to; it is made.
        explained: as `checks.replaced` yields them.
        title: of the page.
        about: lines of text about the detector and the images.
        check: of the detector, shown with its verdict.

    Returns:
        The number of images that could be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    thumbnails, unreadable, first, count = [], [], None, 0
    for number, (one, replaced) in enumerate(explained):
        if one.error is not None:
            unreadable.append([one.name, one.error])
            continue
        first, count = first or one, count + 1
        file = f'{number:04}.png'
        with files.replacing(folder / file, 'wb') as out:
            overlay.sheet(one).save(out, 'PNG')
        if count <= SHOWN:
            uris = [pages.uri(overlay.shown(one)), pages.uri(overlay.overlay(one))]
            said = [f'P(fake) {one.probability:.3f}', *lines(one, replaced), f'{one.name} ({file})']
            thumbnails.append(pages.Thumbnail(uris, said))
    sections = []
    if first is not None:
        words = [*notes(first.cells.shape, first.cell, first.exact), DROPS]
        sections.append(pages.Section('How to read the maps', words, charts=[overlay.legend()]))
    words = [f'{count:,} of {count + len(unreadable):,} images could be read.']
    if count > SHOWN:
        words.append(f'The first {SHOWN:,} are shown here; the maps of all {count:,} are files in this folder.')
    sections.append(pages.Section('Images', words, sheets=[pages.Sheet('Image and map', thumbnails)]))
    if check is not None:
        sections.append(pages.Section('Maps of drawn weights', [check.verdict], tables=[correlations(check)]))
    if unreadable:
        cut = len(unreadable) - _UNREADABLE_SHOWN
        note = f'{cut:,} more are left out here.' if cut > 0 else ''
        table = pages.Table(['image', 'why'], unreadable[:_UNREADABLE_SHOWN], note=note, kinds='ww')
        sections.append(pages.Section('Images that cannot be read', tables=[table]))
    pages.write_page(
        folder / 'index.html',
        title,
        sections,
        lead=about,
        small='This page loads nothing and runs no script.',
    )
    return count


def notes(cells: Sequence[int], cell: int, exact: str) -> list[str]:
    """What maps of `cells` [h, w] mean, how large a cell is, and for which part of the network they are exact."""
    size = f'{cells[0]} x {cells[1]} cells' if cells[0] * cells[1] > 1 else 'a single cell: it cannot say where'
    return [MEANING, f'A map has {size}; a cell is {cell} x {cell} pixels. {exact}']


def lines(one: Explanation, replaced: Replaced) -> list[str]:
    """What is said below a map: the score, its parts, the scale of the colours, and the drops."""
    total = signed(float(one.cells.sum()))
    parts = f'log-odds {signed(one.logit)} = cells {total}, rest {signed(one.rest)}'
    found = [parts, f'strongest colour: {overlay.limit(one):.3g} log-odds']
    if replaced.highest is None or replaced.random is None:
        return [*found, f'no drop: {replaced.why}']
    return [*found, f'drop {signed(replaced.highest)}; of a random fifth {signed(replaced.random)}']


def correlations(check: Randomisation) -> pages.Table:
    """The mean rank correlation after each stage."""
    shares = ['undefined' if mean is None else f'{mean:.2f}'.replace('-', '\u2212') for mean in check.means]
    titles = [name if not row else f'and {name}' for row, name in enumerate(check.stages)]
    n = check.correlations.shape[1]
    caption = f'Rank correlation with the maps of drawn weights, mean over {n:,} images'
    return pages.Table(['drawn', 'correlation'], list(zip(titles, shares, strict=True)), caption)


def signed(value: float) -> str:
    return f'{round(value, 2) + 0.0:+.2f}'.replace('-', '\u2212')  # no negative zero
