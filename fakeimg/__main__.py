from fakeimg.cli import shim

shim(__name__)  # `python -m fakeimg VERB` is `fakeimg VERB`
