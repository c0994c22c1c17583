"""Errors that are of two kinds: what torch raises there, and what a NumPy user expects."""


class GradientTypeError(TypeError, RuntimeError):
    """A gradient of another dtype than its parameter's. torch raises RuntimeError, NumPy's own kind is TypeError."""


class GradientShapeError(ValueError, RuntimeError):
    """A gradient of another shape than its parameter's. torch raises RuntimeError, NumPy's own kind is ValueError."""
