"""Faces in whole photos, found by YuNet (Wu et al. 2023), and cropped as the faces of OpenForensics are."""

import dataclasses
import hashlib
import importlib.util
import json
import logging
import os
import pathlib
from typing import Any

import huggingface_hub
import numpy as np
import PIL.Image
from jaxtyping import UInt8

from fakeimg.data import openforensics, records
from fakeimg.errors import UserError
from fakeimg.pretrained import hub

# YuNet sees faces of 10 to 300 px. A photo is shown to it with its longer side scaled to each of these, pixels.
SIDES = (640, 320)
# Least score of a face. Noise, textures and photos without faces scored 0.36 at most, drawn faces of 12 px 0.64.
SCORE = 0.6
# Two boxes are of one face from this overlap on: of their union, and of the smaller one, of which a part was seen.
OVERLAP, INSIDE = 0.3, 0.7
MARGIN = 1.3  # side of a crop in lengths of the box's longer side

REPOSITORY = 'opencv/face_detection_yunet'  # on the Hugging Face Hub
WEIGHTS = 'face_detection_yunet_2023mar.onnx'
SHA256 = {
    WEIGHTS: '8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4',
    # The same network for inputs of any size, which OpenCV 5 wants where it computes with ONNX Runtime.
    'face_detection_yunet_2026may.onnx': 'ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0',
}
_BY_HAND = f'download {WEIGHTS} from OpenCV Zoo (github.com/opencv/opencv_zoo) and give its path'
_NEEDS_EXTRA = "faces cannot be found without OpenCV; install the extra: pip install 'fakeimg[faces]'."


@dataclasses.dataclass(frozen=True)
class Face:
    """Where a face is: left, top, width and height in pixels of the upright image, and a score of 0 to 1.

    A box may reach over the edges of the image.
    """

    x: float
    y: float
    w: float
    h: float
    score: float

    @property
    def box(self) -> openforensics.Box:
        """Left, top, width, height."""
        return self.x, self.y, self.w, self.h


def face_weights(path: str = '') -> str:
    """Returns the path of YuNet's weights: a given file, or one that is downloaded into the Hub's cache, or lies there.

    Raises:
        UserError: no such file; no connection and nothing in the cache; or the Hub has another file than the one that
            was tried.
    """
    if path:
        file = pathlib.Path(path).expanduser()
        if not file.is_file():
            raise UserError(f'{path} is no file; give the path of {WEIGHTS}, or none to download it.')
        return str(file)
    logging.getLogger('huggingface_hub').setLevel(logging.ERROR)  # every retry would be a warning
    refusal: Exception | None = None
    try:
        hub.check_connection()
    except ConnectionError as error:
        refusal = error
    try:
        file = pathlib.Path(huggingface_hub.hf_hub_download(REPOSITORY, WEIGHTS, local_files_only=refusal is not None))
    except Exception as error:  # its HTTP library may raise anything
        error = refusal or error
        lines = str(error).strip().splitlines()
        reason = f'{type(error).__name__}: {lines[0].strip().rstrip(".:")}' if lines else type(error).__name__
        raise UserError(
            f'{WEIGHTS} could not be downloaded from {REPOSITORY} on the Hugging Face Hub ({reason}); check your '
            f'connection, or {_BY_HAND}.'
        ) from error
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != SHA256[WEIGHTS]:
        raise UserError(
            f'{file} is not the {WEIGHTS} that fakeimg knows (its SHA-256 is {digest[:16]}...); remove it, or '
            f'{_BY_HAND}.'
        )
    return str(file)


def require_opencv() -> None:
    """Raises UserError where OpenCV is not installed."""
    if importlib.util.find_spec('cv2') is None:
        raise UserError(_NEEDS_EXTRA)


def load_detector(weights: str, score: float = SCORE) -> Any:
    """Loads YuNet for `find_faces`. A detector serves one thread at a time.

    Args:
        weights: the file, see `face_weights`.
        score: least score of a face.

    Raises:
        UserError: OpenCV is not installed, or the file is not this network, whole.
    """
    try:
        import cv2  # pyright: ignore[reportMissingImports]  # the extra faces
    except ImportError:
        raise UserError(_NEEDS_EXTRA) from None
    log: Any = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # it would print what is raised here too
    try:
        detector = cv2.FaceDetectorYN.create(weights, '', (SIDES[1], SIDES[1]), score, OVERLAP, 5000)
        for side in SIDES:
            detector.setInputSize((side, side // 2))
            detector.detect(np.zeros((side // 2, side, 3), np.uint8))
    except cv2.error:
        raise UserError(
            f'{weights} is not a whole file of YuNet that OpenCV {cv2.__version__} can use; {_BY_HAND}.'
        ) from None
    finally:
        log.setLogLevel(level)
    return detector


def find_faces(pixels: UInt8[np.ndarray, 'h w 3'], detector: Any) -> list[Face]:
    """Finds the faces of an upright RGB image, the highest score first; none is an empty list.

    Args:
        pixels: of the image.
        detector: see `load_detector`; anything with the methods setInputSize and detect of cv2.FaceDetectorYN.
    """
    height, width = pixels.shape[:2]
    photo, found = PIL.Image.fromarray(pixels), []
    for side in SIDES:
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        scaled = np.asarray(photo.resize(size, PIL.Image.Resampling.BILINEAR, reducing_gap=2))
        detector.setInputSize(size)
        _, rows = detector.detect(np.ascontiguousarray(scaled[:, :, ::-1]))
        across, down = width / size[0], height / size[1]
        # Left, top, width, height, five landmarks of which nothing is needed, score.
        for left, top, wide, high, *_, score in [] if rows is None else rows.tolist():
            face = Face(left * across, top * down, wide * across, high * down, score)
            if _is_on(face, width, height):
                found.append(face)
    kept: list[Face] = []
    for face in sorted(found, key=lambda face: -face.score):
        if not any(_is_same(face, better) for better in kept):
            kept.append(face)
    return kept


def _is_on(face: Face, width: int, height: int) -> bool:
    """Whether a box is one, and has a part in the image: for images a few pixels high, OpenCV 4 invents others."""
    is_finite = np.isfinite([*face.box, face.score]).all()
    has_size = 0 < min(face.w, face.h) and max(face.w, face.h) < 2 * max(width, height)
    return bool(is_finite and has_size and -face.w < face.x < width and -face.h < face.y < height)


def _is_same(face: Face, other: Face) -> bool:
    across = min(face.x + face.w, other.x + other.w) - max(face.x, other.x)
    down = min(face.y + face.h, other.y + other.h) - max(face.y, other.y)
    shared, areas = max(across, 0) * max(down, 0), (face.w * face.h, other.w * other.h)
    return shared > OVERLAP * (sum(areas) - shared) or shared > INSIDE * min(areas)


def crop_face(pixels: UInt8[np.ndarray, 'h w 3'], face: Face, margin: float = MARGIN) -> UInt8[np.ndarray, 's s 3']:
    """Cuts out the square about a face, `margin` times the longer side of its box, as `openforensics.crop_face` does.

    What lies outside the image is mirrored. Nothing is scaled.

    Raises:
        openforensics.BadBox: the box lies outside the image; not of a face that `find_faces` found in it.
    """
    side = max(round(margin * max(face.w, face.h)), 1)
    return openforensics.crop_face(pixels, face.box, margin, side)


def margin_of(folder: str | os.PathLike[str]) -> float | None:
    """The margin of the face crops in a prepared set, or in the set that a run was trained on.

    Args:
        folder: of the set, or of the run. The set of a run must lie where it lay when the run was trained.

    Returns:
        The margin; None where the set is not of OpenForensics' photos, is not there, or does not say.
    """
    path = pathlib.Path(folder).expanduser()
    try:
        if not records.is_prepared(str(path)):
            config = json.loads((path / 'config.json').read_text())
            path = pathlib.Path(config['data']['path']).expanduser()
        summary = json.loads((path / records.SUMMARY).read_text())
        settings = summary['made_from']['settings']  # those that the command line gave
        if not summary['layout'].startswith('OpenForensics'):
            return None
        return float(dict(settings).get('margin', MARGIN))
    except (OSError, ValueError, KeyError, TypeError):
        return None
