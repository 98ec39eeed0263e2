from fakeimg.cli import shim

shim(__name__, 'search')  # `python -m fakeimg.search` is `fakeimg search`
