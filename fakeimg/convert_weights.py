from fakeimg.cli import shim

shim(__name__, 'convert')  # `python -m fakeimg.convert_weights` is `fakeimg convert`
