"""Bytes to batches: layouts and demo faces are sources of encoded images, decode and pipeline make batches.

Nothing here names jax, so that decoding threads and command-line tools start fast and take no GPU memory.
"""
