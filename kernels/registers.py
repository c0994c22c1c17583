"""What the processor has that code is generated for, and how wide the vectors are that LLVM makes of a loop."""

from typing import Any

from numba import types

from refoptim.kernels.intrinsics import intrinsic


def has(context: Any, feature: str) -> bool:
    """Return whether the processor that code is generated for has a feature, by LLVM's name for it."""
    # Numba's cache goes by the same features.
    return f"+{feature}" in context.codegen().magic_tuple()[-1].split(",")


@intrinsic
def use_whole_registers(typing_context):
    """Have the loops of the function that calls this use registers of 512 bits, if they lower no clock.

    LLVM takes half of each: on the first processors that have them whole ones cost more than they gain. Those that came
    later have this feature, too.
    """

    def generate(context, builder, signature, arguments):
        if has(context, "avx512vbmi2"):
            # llvmlite's own method refuses what it does not know.
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate
