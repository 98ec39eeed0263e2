from fakeimg.cli import shim

shim(__name__, 'predict')  # `python -m fakeimg.predict` is `fakeimg predict`
