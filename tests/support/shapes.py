"""Checks annotations of arrays, shapes and dtypes, in every call that a test makes."""

from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import beartype


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The type checker of jaxtyping's import hook: beartype on the arguments that are arrays, and on no other."""
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _has_array(hint)}
    return beartype(function) if function.__annotations__ else function


def _has_array(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_has_array, get_args(hint)))
