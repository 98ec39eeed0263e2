from fakeimg.cli import shim

shim(__name__, 'train')  # `python -m fakeimg.main` is `fakeimg train`
