"""Draws what training may do to an image: python docs/draw_augmentation.py docs/augmentation.png"""

import dataclasses
import sys

import jax
import numpy as np
import simplejpeg
from PIL import Image, ImageDraw

from fakeimg.augment import mixing
from fakeimg.augment.degradations import degrade
from fakeimg.config import DEGRADATIONS, Augment
from fakeimg.data.demo import DemoFaces
from fakeimg.runtime import parallel

SIDE, GAP, CAPTION = 160, 6, 16  # pixels
COLUMNS = 6


def draw_contact_sheet(path: str) -> None:
    """Saves a demo face unchanged, mixed with another, and degraded with the low, middle and high end of each range."""
    faces = DemoFaces('train', size=SIDE, num_examples=6)
    images = np.stack([simplejpeg.decode_jpeg(faces[index]) for index in (0, 2)])
    cells = [('original', images[0]), ('second image', images[1])]
    cells += [(f'{name}, share {share:.2f}', image) for name in ('mixup', 'cutmix')
              for share, image in mixed(images, name)]  # fmt: skip
    for kind in DEGRADATIONS:
        low, high = getattr(Augment(), kind)
        for strength in (low, (low + high) / 2, high):
            cells.append((f'{kind} {strength:.3g}', degraded(images[:1], kind, strength)[0]))
    width, height = SIDE + GAP, SIDE + GAP + CAPTION
    sheet = Image.new('RGB', (GAP + COLUMNS * width, GAP - -len(cells) // COLUMNS * height), 'white')
    for place, (caption, image) in enumerate(cells):
        x, y = GAP + place % COLUMNS * width, GAP + place // COLUMNS * height
        ImageDraw.Draw(sheet).text((x, y), caption, fill='black')
        sheet.paste(Image.fromarray(image.astype(np.uint8)), (x, y + CAPTION))
    sheet.save(path, optimize=True)


def degraded(images: np.ndarray, kind: str, strength: float) -> np.ndarray:
    """Images [b, H, W, 3], to which one kind of degradation of one strength is applied."""
    ranges = {name: () for name in DEGRADATIONS} | {kind: (strength, strength)}
    settings = dataclasses.replace(Augment(), degradation_probability=1.0, **ranges)
    return np.asarray(degrade(jax.random.split(jax.random.key(1), len(images)), images, settings))


def mixed(originals: np.ndarray, name: str) -> list[tuple[float, np.ndarray]]:
    """Two originals mixed with each other by `mixup` or `cutmix`, each with its share."""
    devices = parallel.Devices.create('pmap', len(originals), jax.devices()[:1])

    def mix(seed: jax.Array, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        alphas = (float(name == 'mixup'), float(name == 'cutmix'))
        return mixing.mix(jax.random.key(seed), batch['image'], batch['label'], batch['weight'], *alphas)

    ones = np.ones(len(originals), np.float32)
    batch = {'image': originals, 'label': np.arange(len(originals), dtype=np.int32), 'weight': ones}
    images, labels = devices.map(mix)(devices.replicate(np.int32(5)), devices.split(batch))
    return list(zip(np.abs(np.asarray(labels) - [1, 0]), np.asarray(images), strict=True))


if __name__ == '__main__':
    draw_contact_sheet(sys.argv[1])
