from fakeimg.cli import shim

shim(__name__, 'benchmark')  # `python -m fakeimg.benchmark` is `fakeimg benchmark`
