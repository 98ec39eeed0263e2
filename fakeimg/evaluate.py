from fakeimg.cli import shim

shim(__name__, 'evaluate')  # `python -m fakeimg.evaluate` is `fakeimg evaluate`
