"""JPEG's quantisation tables at every quality, for the codec on the device and for reading a file's quality.

Each is int32[100, 8, 8] in 1..255: qualities 1 to 100 of the Independent JPEG Group, each with rows from the lowest
vertical frequency down.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _by_quality(table: ArrayLike) -> NDArray[np.int32]:
    """Scales a table of quality 50, as `jcparam.c` of libjpeg does."""
    quality = np.arange(1, 101, dtype=np.int32)
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((np.asarray(table, np.int32) * percent[:, None, None] + 50) // 100, 1, 255)


# Quality 50 of ITU-T T.81, tables K.1 and K.2.
LUMA = _by_quality(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMA_50 = np.full((8, 8), 99)
_CHROMA_50[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
CHROMA = _by_quality(_CHROMA_50)
