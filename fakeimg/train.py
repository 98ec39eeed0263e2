from fakeimg.cli import shim

shim(__name__, 'train')  # `python -m fakeimg.train` is `fakeimg train`
