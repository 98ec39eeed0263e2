"""Annotations as OpenForensics has them, in the COCO format, and photos of noise."""

import io
import json
from typing import Any

import numpy as np
import PIL.Image

CATEGORIES = [{'id': 0, 'name': 'Real'}, {'id': 1, 'name': 'Fake'}]
POLYGON = [[1, 2, 3, 4, 5, 6]]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, 'PNG')
    return buffer.getvalue()


def photo(id_: Any, file_name: Any) -> dict[str, Any]:
    return {'id': id_, 'file_name': file_name, 'width': 9, 'height': 9}  # wrong, and never looked at


def face(id_: Any, image_id: Any, category: Any, *bbox: Any, **others: Any) -> dict[str, Any]:
    entry = {'id': id_, 'image_id': image_id, 'iscrowd': 0, 'area': 1, 'category_id': category}
    return {**entry, 'bbox': list(bbox), 'segmentation': POLYGON, **others}


def coco(images: list, annotations: list, categories: list | None = None) -> bytes:
    lists = {'categories': CATEGORIES if categories is None else categories}
    return json.dumps({**lists, 'images': images, 'annotations': annotations}).encode()
