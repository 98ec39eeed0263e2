from fakeimg.cli import shim

shim(__name__, 'probe')  # `python -m fakeimg.probe` is `fakeimg probe`
