"""Draws a face under all degradations that evaluations use: python docs/draw_robustness.py docs/robustness.png"""

import io
import sys

import simplejpeg
from PIL import Image, ImageDraw

from fakeimg.data.demo import DemoFaces
from fakeimg.evaluation.degraded import KINDS, TIERS, Cell, degrade

SIDE, GAP, CAPTION = 112, 6, 16  # pixels
COLUMNS = 8


def draw_contact_sheet(path: str) -> None:
    """Saves a demo face as it is stored, at each tier, and under each degradation; at the size that it has then."""
    faces = DemoFaces('train', size=SIDE, num_examples=6)
    face = Image.fromarray(simplejpeg.decode_jpeg(faces[0]))
    cells = [*map(Cell, TIERS), *(Cell(kind, severity) for kind in KINDS for severity in KINDS[kind].severities)]
    shown = [('as stored', face)]
    shown += [(str(cell), Image.open(io.BytesIO(degrade(face, cell, faces.names[0])))) for cell in cells]
    width, height = SIDE + GAP, SIDE + GAP + CAPTION
    sheet = Image.new('RGB', (GAP + COLUMNS * width, GAP - -len(shown) // COLUMNS * height), 'white')
    for place, (caption, image) in enumerate(shown):
        x, y = GAP + place % COLUMNS * width, GAP + place // COLUMNS * height
        ImageDraw.Draw(sheet).text((x, y), caption.replace('resize_', ''), fill='black')
        sheet.paste(image, (x, y + CAPTION))
    sheet.save(path, optimize=True)


if __name__ == '__main__':
    draw_contact_sheet(sys.argv[1])
