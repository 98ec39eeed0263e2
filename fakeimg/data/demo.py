"""Demo faces, genuine and forged, drawn by code so that nothing needs downloading.

A forgery imitates real ones: another identity's inner face is aligned, colour-matched and
blended in (Li et al. 2020, 'Face X-ray', section 3; Shiohara & Yamasaki 2022, 'SBI').
"""

import math

import numpy as np
import simplejpeg
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Plane = NDArray[np.floating]  # float32 [size, size], or [3, size, size], or a colour, [3, 1, 1]

SPLIT_SIZES = {'train': 4000, 'validation': 1000, 'test': 1000}
CLASS_NAMES = ('real', 'fake')

JPEG_QUALITY = (90, 98)  # half-open; lower ones quantise away the noise that a forgery disturbs
SENSOR_NOISE = (0.013, 0.030)  # standard deviation, of full scale: daylight to a phone indoors
SMOOTHED_SHARE = 0.2  # of all exposures, so that softness alone does not tell the classes apart
SMOOTHING = (0.3, 0.7)  # standard deviation in pixels: a phone's noise reduction
COLOUR_ERROR = 0.04  # standard deviation of the gain error that colour transfer leaves behind
BORDER_WIDTH = (0.10, 0.45)  # in half face widths: from a visible cut to a wide feather
DONOR_SCALE = (0.6, 0.95)  # size of the donor's face relative to the target's, before scaling up

SKINS = ((0.98, 0.84, 0.74), (0.90, 0.69, 0.55), (0.68, 0.47, 0.33), (0.44, 0.29, 0.20))
HAIRS = (
    (0.62, 0.60, 0.58),
    (0.09, 0.07, 0.07),
    (0.22, 0.13, 0.09),
    (0.40, 0.25, 0.14),
    (0.72, 0.53, 0.28),
    (0.55, 0.25, 0.12),
)
IRISES = ((0.22, 0.12, 0.07), (0.36, 0.22, 0.10), (0.28, 0.42, 0.26), (0.30, 0.48, 0.66))


class DemoFaces:
    """The encoded demo faces of one split, by number.

    Example i depends on (seed, split, i, size) alone. Even examples are real, odd ones fake: an
    even `num_examples` is balanced exactly. `names` are unique paths like 'test/fake/000123.jpg',
    `labels` is int32[n], 0 = real, 1 = fake. Raises ValueError if the split is unknown, `size` is
    below 16 or `num_examples` below 1.
    """

    def __init__(self, split: str, *, size: int = 64, seed: int = 0, num_examples: int | None = None) -> None:
        if split not in SPLIT_SIZES:
            raise ValueError(f'unknown split {split!r}; known splits: {", ".join(SPLIT_SIZES)}')
        count = SPLIT_SIZES[split] if num_examples is None else num_examples
        if size < 16 or count < 1:
            raise ValueError(f'need size >= 16 and num_examples >= 1, not {size} and {count}')
        self._stream, self._size = (seed, list(SPLIT_SIZES).index(split)), size
        self._encoded: list[bytes | None] = [None] * count
        self.labels: NDArray[np.int32] = np.arange(count, dtype=np.int32) % 2
        self.names = [f'{split}/{CLASS_NAMES[i % 2]}/{i:06d}.jpg' for i in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> bytes:
        """Returns one example as JPEG; raises IndexError unless 0 <= index < n."""
        if not 0 <= index < len(self):
            raise IndexError(f'example {index} of {len(self)}')
        encoded = self._encoded[index]
        if encoded is None:  # without a lock: threads that meet here draw the same bytes
            rng = np.random.default_rng((*self._stream, index))
            head = Head(rng, self._size)
            image = photograph(rng, draw_portrait(rng, head))
            if self.labels[index] == 1:
                image = swap_face(rng, image, head)
            quality = int(rng.integers(*JPEG_QUALITY))
            encoded = simplejpeg.encode_jpeg(image, quality, colorsubsampling='420')
            self._encoded[index] = encoded
        return encoded

    read = __getitem__  # as Files have it


def swap_face(rng: Generator, photo: Pixels, target: 'Head') -> Pixels:
    """Blends a new identity's inner face into a photo, uint8[size, size, 3]."""
    size, donor = len(photo), Head(rng, len(photo))
    small = round(size * rng.uniform(*DONOR_SCALE))
    image = Image.fromarray(photograph(rng, draw_portrait(rng, donor))).resize((small, small))
    warp = np.linalg.solve(target.landmarks, donor.landmarks[:, :2] * small / size)
    image = image.transform((size, size), Image.Transform.AFFINE, warp.T.ravel().tolist(), Image.Resampling.BICUBIC)
    pasted, mask = np.asarray(image, np.float32), draw_mask(rng, target)
    inner, skin = pasted[mask > 0.5], photo[mask > 0.5]
    contrast = np.clip(skin.std(0) / (inner.std(0) + 1), 0.7, 1.4)
    error = rng.normal(1, COLOUR_ERROR) + rng.normal(0, COLOUR_ERROR / 2, 3)
    offset = skin.mean(0) * error - inner.mean(0) * contrast
    pasted = pasted * contrast.astype(np.float32) + offset.astype(np.float32)
    return np.clip(photo + mask[..., None] * (pasted - photo) + 0.5, 0, 255).astype(np.uint8)


def draw_mask(rng: Generator, head: 'Head') -> Plane:
    """float32[size, size] in 0..1: an uneven oval over brows, nose and mouth, softly bordered."""
    wide, high, middle = rng.uniform(0.62, 0.8), rng.uniform(0.66, 0.84), rng.uniform(0.14, 0.26)
    angle = np.arctan2(head.v - middle, head.x)
    uneven = 0.05 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.05 * np.cos(4 * angle)
    return cover(oval(head.x, head.v - middle, wide, high) + uneven, rng.uniform(*BORDER_WIDTH))


def photograph(rng: Generator, radiance: Plane) -> Pixels:
    """Exposes float32[3, size, size] into uint8[size, size, 3] with noise, and maybe smoothing."""
    grain = rng.standard_normal(radiance.shape, np.float32)
    grain = 0.6 * grain + 0.8 * grain[1]  # demosaicing correlates the channels
    grain *= rng.uniform(*SENSOR_NOISE) * (0.6 + 0.6 * radiance.mean(0))  # read-out and photons
    exposed = radiance * rng.uniform(0.88, 1.08) + grain
    if rng.random() < SMOOTHED_SHARE:
        steps = np.arange(radiance.shape[-1], dtype=np.float32)
        kernel = np.exp(-0.5 * ((steps[:, None] - steps) / rng.uniform(*SMOOTHING)) ** 2)
        kernel /= kernel.sum(1, keepdims=True)
        exposed = kernel @ exposed @ kernel.T
    exposed = np.clip(exposed, 0, 1).transpose(1, 2, 0) * 255 + 0.5
    return np.ascontiguousarray(exposed.astype(np.uint8))


class Head:
    """Pose and layout of one head, in its own frame: u right, v down, unit half a face width."""

    def __init__(self, rng: Generator, size: int) -> None:
        tilt, self.pixel = rng.normal(0, 0.09), 1 / (size * rng.uniform(0.28, 0.33))
        cos, sin = math.cos(tilt) * self.pixel, math.sin(tilt) * self.pixel
        middle = size * rng.normal(0.5, 0.02), size * rng.normal(0.52, 0.02)
        right, down = (np.arange(0.5, size, dtype=np.float32) - offset for offset in middle)
        self.u = cos * right + sin * down[:, None]
        self.v = cos * down[:, None] - sin * right
        turn, eye_x = rng.uniform(-0.18, 0.18), rng.uniform(0.38, 0.44)
        self.x = self.u - turn  # from the midline of the turned face
        self.outward = abs(self.x) - eye_x  # from the middle of either eye
        self.eye_y, self.mouth_y = rng.uniform(-0.18, -0.04), rng.uniform(0.66, 0.76)
        self.tall, self.jaw = rng.uniform(1.22, 1.4), rng.uniform(0.0, 0.5)
        self.light_x, self.light_y = rng.uniform(-0.7, 0.7), rng.uniform(-0.6, 0.0)
        self.skin, self.hair = between(rng, SKINS), between(rng, HAIRS)
        points = [[turn - eye_x, self.eye_y], [turn + eye_x, self.eye_y], [turn, self.mouth_y]]
        axes = np.array([[cos, sin], [-sin, cos]]) / self.pixel**2
        self.landmarks = np.column_stack([np.array(points) @ axes + middle, np.ones(3)])  # x, y, 1


def draw_portrait(rng: Generator, head: Head) -> Plane:
    """Returns float32[3, size, size], the light that reaches the camera, 0..1."""
    canvas = draw_background(rng, head)
    long_hair, bald = rng.random() < 0.45, rng.random() < 0.06
    fan = np.arctan2(head.u, head.v + 1.6)
    waves = rng.uniform(0, 3) * np.sin(3 * head.v + rng.uniform(0, 6))
    locks = np.sin(rng.uniform(22, 34) * fan + waves) + np.sin(rng.uniform(9, 15) * fan - waves)
    strands = head.hair * (1 + rng.uniform(0.06, 0.16) * locks)
    if not bald:
        length = rng.uniform(0.7, 2.2) if long_hair else rng.uniform(-0.1, 0.25)
        width, above = rng.uniform(1.08, 1.28), np.minimum(head.v + 0.1, 0)
        behind = np.maximum(oval(head.u, above, width, 1.1 * head.tall), head.v - length)
        paint(canvas, 0.75 * strands, cover(behind, 2.5 * head.pixel))
    draw_shoulders(rng, canvas, head)
    draw_skin(rng, canvas, head)
    draw_eyes(rng, canvas, head)
    draw_mouth(rng, canvas, head)
    if not bald:
        draw_fringe(rng, canvas, head, strands)
    return canvas


def draw_background(rng: Generator, head: Head) -> Plane:
    wall = rgb(*rng.uniform(0.2, 0.85) + rng.normal(0, 0.07, 3))
    canvas = wall + rng.uniform(-0.1, 0.1) * head.u + rng.uniform(-0.1, 0.1) * head.v
    for x, y, radius in rng.uniform((-1.6, -1.6, 0.3), (1.6, 1.6, 1), (3, 3)).tolist():
        furniture = 0.7 * cover(oval(head.u - x, head.v - y, radius, radius), 0.5)
        paint(canvas, wall + rgb(*rng.normal(0, 0.12, 3)), furniture)
    return np.clip(canvas, 0.02, 0.98)


def draw_shoulders(rng: Generator, canvas: Plane, head: Head) -> None:
    u, v, soft = head.u, head.v, 1.5 * head.pixel
    neck = np.maximum(abs(u) - rng.uniform(0.48, 0.6), 0.5 - v)
    paint(canvas, head.skin * np.clip(0.5 + v - head.tall, 0.5, 0.85), cover(neck, soft))
    collar = head.tall + 0.3 - rng.uniform(0.1, 0.35) * glow(abs(u) - 0.75, v, 0.3, 9)
    cloth = rgb(*rng.uniform(0.05, 0.8) + rng.normal(0, 0.12, 3)) * (1 + 0.2 * head.light_x * u)
    paint(canvas, cloth, cover(collar + 0.12 * u**2 - v, soft))


def draw_skin(rng: Generator, canvas: Plane, head: Head) -> None:
    u, v, x = head.u, head.v, head.x
    deep = head.skin * rgb(0.42, 0.31, 0.29)
    ears = oval(abs(u) - 1, v - 0.12, 0.15, 0.27)
    paint(canvas, head.skin * (0.8 + 3 * np.clip(ears, -0.15, 0)), cover(ears, 1.5 * head.pixel))
    across, down = u * (1 + 0.12 * np.maximum(v, 0)), v / head.tall
    square = across**2 + down**2 - head.jaw * (across * down) ** 2 * (v > 0)
    facing = np.sqrt(np.clip(1 - 0.86 * square, 0.05, 1))  # the normal's part towards the camera
    shade = head.light_x * across + head.light_y * down + 0.8 * facing
    shade = rng.uniform(0.3, 0.42) + 0.72 * np.clip(shade, 0, 1.2)
    tip = 0.62 * head.mouth_y - 0.02
    along = (v - head.eye_y) / (tip - head.eye_y)
    slope = x / (0.09 + 0.1 * np.clip(along, 0, 1))  # of the nose, across its ridge
    ridge = slope * np.exp(-(slope**2)) * (0.3 + 0.7 * along) * cover(abs(along - 0.5) - 0.5, 0.25)
    shade += 0.75 * head.light_x * ridge + 0.13 * glow(x, v - tip + 0.1, 0.11, 0.1)
    shade -= 0.2 * glow(x, v - tip - 0.06, 0.2, 0.055)
    shade -= 0.3 * glow(abs(x) - 0.1, v - tip, 0.05, 0.045)
    shade -= rng.uniform(0.1, 0.22) * glow(head.outward, v - head.eye_y + 0.05, 0.26, 0.2)
    face = deep + (head.skin - deep) * np.clip(shade, 0, 1.25)
    paint(canvas, face, cover(np.sqrt(np.maximum(square, 0)) - 1, 1.4 * head.pixel))
    glaze(canvas, rgb(1.0, 0.85, 0.83), glow(abs(x) - 0.5, v - 0.36, 0.25, 0.22))  # the cheeks


def draw_eyes(rng: Generator, canvas: Plane, head: Head) -> None:
    out, wide, high = head.outward, rng.uniform(0.19, 0.23), rng.uniform(0.09, 0.13)
    y = head.v - head.eye_y + rng.uniform(-0.2, 0.3) * out  # the lids slant
    opening = np.maximum(oval(out, y, wide, high), y - 0.8 * high)
    glaze(canvas, rgb(0.45, 0.36, 0.36), 0.8 * cover(opening - 0.035, 2 * head.pixel))
    seen = cover(opening, head.pixel)
    paint(canvas, rgb(0.93, 0.9, 0.89) * (0.8 + 0.25 * y / high), seen)
    gaze = np.sign(head.x) * out - rng.normal(0, 0.025)
    iris = np.sqrt(gaze**2 + (y + 0.01) ** 2)
    paint(canvas, between(rng, IRISES), seen * cover(iris - rng.uniform(0.095, 0.115), 0.05))
    paint(canvas, rgb(0.03, 0.03, 0.03), seen * cover(iris - 0.05, 0.05))
    paint(canvas, rgb(1, 1, 1), 0.9 * glow(gaze - 0.06 * head.light_x, y + 0.04, 0.03, 0.03))
    lashes = np.maximum(abs(oval(out, y, wide * 1.08, high * 1.1)) - 0.03, y + 0.01)
    glaze(canvas, rgb(0.22, 0.17, 0.16), cover(lashes, 1.2 * head.pixel))
    arch = rng.uniform(0.3, 1.3) * (out - 0.06) ** 2 + rng.uniform(-0.25, 0.15) * out
    brow = abs(head.v - head.eye_y + rng.uniform(0.24, 0.33) - arch)
    brow = np.maximum(brow - rng.uniform(0.03, 0.07) * (1.2 - 1.6 * out), abs(out) - 0.27)
    paint(canvas, head.hair * 0.7, rng.uniform(0.6, 0.9) * cover(brow, 2 * head.pixel))
    if rng.random() < 0.2:
        frame = abs(oval(out, y, rng.uniform(0.28, 0.33), rng.uniform(0.2, 0.28))) - 0.025
        bars = np.maximum(abs(y + 0.04) - 0.02, 0.3 - abs(out))  # the bridge and the temples
        frame = np.minimum(frame, np.maximum(bars, abs(head.u) - 1))
        paint(canvas, rgb(*rng.uniform(0.03, 0.35, 3)), 0.9 * cover(frame, 1.3 * head.pixel))


def draw_mouth(rng: Generator, canvas: Plane, head: Head) -> None:
    x, wide, full = head.x, rng.uniform(0.27, 0.38), rng.uniform(0.06, 0.11)
    smile = rng.uniform(-0.1, 0.9)
    y = head.v - head.mouth_y + smile * (x * x - 0.04)
    ends, taper = abs(x) - wide, np.sqrt(np.clip(1 - (x / wide) ** 2, 0, 1))
    lips = np.maximum(np.maximum(-y - 0.9 * full * taper, y - 1.25 * full * taper), ends)
    glaze(canvas, rgb(0.76, 0.48, 0.48) * rng.uniform(0.9, 1.15), cover(lips, 1.5 * head.pixel))
    canvas += 0.1 * glow(x, y - 0.6 * full, 0.15, 0.04)
    part = rng.uniform(0.035, 0.06) if smile > 0.45 and rng.random() < 0.6 else 0.012
    gap = np.maximum(abs(y) - part * taper, ends)
    glaze(canvas, rgb(0.35, 0.22, 0.22), 0.85 * cover(gap, 1.2 * head.pixel))
    if part > 0.03:
        paint(canvas, rgb(0.92, 0.89, 0.86), 0.9 * cover(gap + 0.02, head.pixel))


def draw_fringe(rng: Generator, canvas: Plane, head: Head, strands: Plane) -> None:
    parting, fall = rng.uniform(-0.6, 0.6), rng.uniform(0.3, 0.9)
    hairline = fall * (head.u - parting) ** 2 - head.tall * rng.uniform(0.56, 0.8)
    hairline += 0.04 * np.sin(rng.uniform(8, 16) * head.u + rng.uniform(0, 6))
    crown = oval(head.u, head.v, 1.07, head.tall * 1.09)
    front = np.maximum(np.maximum(crown, head.v - hairline), head.v - head.eye_y - 0.1)
    glaze(canvas, rgb(0.72, 0.64, 0.62), 0.6 * cover(front - 0.08, 0.2))  # its shadow on the brow
    sheen = glow(head.u, head.v + 0.8 * head.tall - 0.3 * head.light_x * head.u, 2, 0.2)
    lit = 0.85 + 0.45 * sheen + 0.35 * head.light_x * head.u
    paint(canvas, strands * lit, cover(front, 2 * head.pixel))


def paint(canvas: Plane, colour: Plane, amount: Plane) -> None:
    canvas += amount * (colour - canvas)


def glaze(canvas: Plane, tint: Plane, amount: Plane) -> None:
    """Filters what is on the canvas, in place, so that its shading stays."""
    canvas *= 1 - amount * (1 - tint)


def rgb(red: float, green: float, blue: float) -> Plane:
    return np.array([red, green, blue], np.float32)[:, None, None]


def between(rng: Generator, colours: tuple[tuple[float, float, float], ...]) -> Plane:
    place, steps = rng.uniform(0, len(colours) - 1), range(len(colours))
    return rgb(*(np.interp(place, steps, part) for part in zip(*colours, strict=True)))


def cover(distance: Plane, softness: float) -> Plane:
    """1 inside (negative distance), 0 outside, a linear edge `softness` wide between."""
    return np.clip(0.5 - distance / softness, 0, 1)


def oval(x: Plane, y: Plane, wide: float, high: float) -> Plane:
    """Approximate signed distance from an ellipse."""
    return (np.sqrt((x / wide) ** 2 + (y / high) ** 2) - 1) * min(wide, high)


def glow(x: Plane, y: Plane, wide: float, high: float) -> Plane:
    return np.exp(-np.square(x / wide) - np.square(y / high))
