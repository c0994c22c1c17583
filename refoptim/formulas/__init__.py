"""The documented formulas, executable: one pure function per published algorithm, on any array type.

A formula takes arrays and numbers and returns new arrays: the parameter first, then its state, in the order it takes
them. Given NumPy arrays it is what ``foreach=True`` and ``foreach=False`` compute; given JAX, autograd or torch arrays
it is differentiable; given exact numbers it is the truth that the conformance suite measures against.
"""
