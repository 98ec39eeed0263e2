from fakeimg.cli import shim

shim(__name__, 'compare')  # `python -m fakeimg.compare` is `fakeimg compare`
