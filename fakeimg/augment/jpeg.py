"""JPEG compression on the device: what an image looks like after libjpeg has written and read it.

Only the lossy steps are computed (ITU-T T.81 without its entropy coding), with the roundings of libjpeg's default
settings: `jccolor.c`, `jcsample.c`, `jcdctmgr.c`, `jdsample.c` (fancy upsampling), `jdcolor.c`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from fakeimg.data import jpeg_tables

BLOCK = 8
RGB_TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], np.float32
)

# Row f holds the basis function of frequency f, orthonormal (T.81, A.3.3).
_DCT = np.cos(np.pi * (np.arange(BLOCK) + 0.5) * np.arange(BLOCK)[:, None] / BLOCK) / 2
_DCT[0] /= np.sqrt(2)


def compress(
    planes: Real[Array, 'b 3 h w'], quality: Real[Array, ' b'], *, subsample: bool = True
) -> Float[Array, 'b 3 h w']:
    """Compresses and decompresses images, each at its quality.

    Args:
        planes: red, green and blue in 0..255, rounded and clipped first. Sides may have any length: edges are repeated
            up to whole blocks, as in libjpeg.
        quality: 1..100 on the scale of the Independent JPEG Group, rounded.
        subsample: True for chroma at half the resolution both ways (4:2:0), False for 4:4:4.

    Returns:
        Whole numbers in 0..255, float32.
    """
    height, width = planes.shape[2:]
    place = jnp.clip(jnp.round(quality).astype(jnp.int32), 1, 100) - 1
    luma_table, chroma_table = (jnp.asarray(tables)[place] for tables in (jpeg_tables.LUMA, jpeg_tables.CHROMA))
    luma, chroma = _to_ycc(jnp.clip(jnp.round(planes.astype(jnp.float32)), 0, 255))
    luma = _quantise(luma, luma_table) + 128
    if subsample:
        chroma = _quantise(_halve(chroma), chroma_table)
        # Only what lies in the image: its edge, not the padding, is what enlarging sees beyond it.
        chroma = _double(chroma[..., : (width + 1) // 2])[..., :height, :width]
    else:
        chroma = _quantise(chroma, chroma_table)
    return _to_rgb(luma[:, 0], chroma[:, 0], chroma[:, 1])


def _to_ycc(rgb: jax.Array) -> tuple[jax.Array, jax.Array]:
    """RGB [b, 3, H, W] in 0..255 to luma [b, 1, H, W] and chroma [b, 2, H, W], both rounded and about 0."""
    red, green, blue = rgb[:, 0], rgb[:, 1], rgb[:, 2]
    y, cb, cr = (jnp.round(row[0] * red + row[1] * green + row[2] * blue) for row in RGB_TO_YCC)
    return y[:, None] - 128, jnp.stack([cb, cr], axis=1)


def _to_rgb(y: jax.Array, cb: jax.Array, cr: jax.Array) -> jax.Array:
    """Luma in 0..255 and chroma about 0, [b, H, W], back to RGB [b, 3, H, W], rounded and clipped."""
    green = y + jnp.round(-0.344136286 * cb - 0.714136286 * cr)
    rgb = [y + jnp.round(1.402 * cr), green, y + jnp.round(1.772 * cb)]
    return jnp.clip(jnp.stack(rgb, axis=1), 0, 255)


def _quantise(planes: jax.Array, table: jax.Array) -> jax.Array:
    """Rounds the DCT coefficients of planes [b, c, H, W] about 0 to multiples of `table`, int[b, 8, 8], and goes back.

    Blocks are products with one 64 x 64 matrix: more arithmetic than two by 8 x 8, but one pass over memory.
    """
    height, width = planes.shape[-2:]
    planes = _pad(planes, BLOCK, BLOCK)
    transform = np.kron(_DCT, _DCT).astype(np.float32)
    # Full precision: TF32 and bfloat16 would move coefficients to other multiples.
    blocks = jnp.einsum('...k,fk->...f', _to_blocks(planes), transform, precision='highest')
    step = 8 * table.reshape(-1, 1, 1, BLOCK * BLOCK).astype(jnp.float32)
    # libjpeg's coefficients are whole eighths, and halves of a step are rounded away from 0. All numbers are whole, so
    # a quarter changes no result, but keeps an inexact division from falling below the right one.
    level = jnp.floor((jnp.abs(jnp.round(8 * blocks)) + step / 2 + 0.25) / step)
    blocks = jnp.sign(blocks) * level * (step / 8)
    blocks = jnp.einsum('...f,fk->...k', blocks, transform, precision='highest')
    planes = jnp.clip(jnp.floor(_from_blocks(blocks, planes.shape) + 0.5), -128, 127)
    return planes[..., :height, :width]


def _to_blocks(planes: jax.Array) -> jax.Array:
    """[b, c, 8 m, 8 n] to [b, c, m n, 64]."""
    *batch, height, width = planes.shape
    blocks = planes.reshape(*batch, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return jnp.swapaxes(blocks, -3, -2).reshape(*batch, -1, BLOCK * BLOCK)


def _from_blocks(blocks: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The planes of `shape`, [b, c, 8 m, 8 n], that blocks [b, c, m n, 64] make up."""
    *batch, height, width = shape
    blocks = blocks.reshape(*batch, height // BLOCK, width // BLOCK, BLOCK, BLOCK)
    return jnp.swapaxes(blocks, -3, -2).reshape(shape)


def _pad(planes: jax.Array, rows: int, columns: int) -> jax.Array:
    """Repeats the last row and column of [b, c, H, W] up to multiples of `rows` and `columns`."""
    height, width = planes.shape[-2:]
    return jnp.pad(planes, ((0, 0), (0, 0), (0, -height % rows), (0, -width % columns)), mode='edge')


def _neighbours(array: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Every element's predecessor and successor along an axis; the first and last are their own."""
    size = array.shape[axis]
    first = jax.lax.slice_in_dim(array, 0, 1, axis=axis)
    last = jax.lax.slice_in_dim(array, size - 1, size, axis=axis)
    before = jnp.concatenate([first, jax.lax.slice_in_dim(array, 0, size - 1, axis=axis)], axis)
    return before, jnp.concatenate([jax.lax.slice_in_dim(array, 1, size, axis=axis), last], axis)


def _halve(chroma: jax.Array) -> jax.Array:
    """Means of 2 x 2 pixels (`h2v2_downsample`), float[b, c, H, W] to [b, c, ceil(H / 2), 8 k] edges repeated."""
    # Columns are repeated before averaging, rows (beyond an even number) after it: libjpeg works in strips of rows.
    chroma = _pad(chroma, 2, 2 * BLOCK)
    total = chroma[..., ::2, :] + chroma[..., 1::2, :]
    total = total[..., ::2] + total[..., 1::2]
    # Rounded up and down in turn, so that the mean of the image stays.
    return jnp.floor((total + 1 + jnp.arange(total.shape[-1]) % 2) / 4)


def _double(chroma: jax.Array) -> jax.Array:
    """Enlarges whole numbers [b, c, H, W] twice with the weights 3/4 and 1/4 (`h2v2_fancy_upsample`)."""
    above, below = _neighbours(chroma, -2)
    rows = jnp.stack([3 * chroma + above, 3 * chroma + below], axis=-2).reshape(
        *chroma.shape[:-2], -1, chroma.shape[-1]
    )
    left, right = _neighbours(rows, -1)
    pairs = jnp.stack([jnp.floor((3 * rows + left + 8) / 16), jnp.floor((3 * rows + right + 7) / 16)], axis=-1)
    return pairs.reshape(*rows.shape[:-1], -1)
