"""fakeimg: trains, evaluates and applies detectors of generated and forged face images."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakeimg.detector import Detector, load
    from fakeimg.errors import UserError
    from fakeimg.prediction import Prediction

__version__ = '0.1.0'
__all__ = ['Detector', 'Prediction', 'UserError', 'load']

_MODULES = {'Detector': 'detector', 'Prediction': 'prediction', 'UserError': 'errors', 'load': 'detector'}


def __getattr__(name: str) -> Any:
    """Imports what is used, when it is used: jax and the rest take two seconds."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
