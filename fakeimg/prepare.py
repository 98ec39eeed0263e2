from fakeimg.cli import shim

shim(__name__, 'prepare')  # `python -m fakeimg.prepare` is `fakeimg prepare`
