from fakeimg.cli import shim

shim(__name__, 'audit')  # `python -m fakeimg.audit` is `fakeimg audit`
