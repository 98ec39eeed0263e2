"""Annotations of arrays are checked in every call: shapes and dtypes. Only tests pay for that."""

import jaxtyping

from tests.support import shapes

jaxtyping.install_import_hook('fakeimg', f'{shapes.__name__}.check')
