"""Numba's decorator of functions whose code is generated.

Numba passes a typing context that the caller does not: to a type checker the two signatures do not agree.
"""

from typing import Any

from numba.extending import intrinsic as _intrinsic

intrinsic: Any = _intrinsic
