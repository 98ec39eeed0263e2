from fakeimg.cli import shim

shim(__name__, 'push')  # `python -m fakeimg.push` is `fakeimg push`
