"""Parts of flat arrays for compiled code, which cost nothing to make, and do not keep the array alive."""

from numba import types
from numba.core import cgutils
from numba.np.arrayobj import populate_array

from refoptim.kernels.intrinsics import intrinsic


@intrinsic
def part(typing_context, array, first, count):
    """Return so many elements, from the first one on, as an array that does not keep the other one alive.

    To count references, as a slice does, takes longer than to step a short row.
    """

    def generate(context, builder, signature, arguments):
        value, first, count = arguments
        of = context.make_array(array)
        whole, made = of(context, builder, value), of(context, builder)
        data, size = builder.gep(whole.data, [first]), whole.itemsize
        populate_array(made, data=data, shape=[count], strides=[size], itemsize=size, meminfo=None)
        return made._getvalue()

    return array(array, types.intp, types.intp), generate


@intrinsic
def shaped(typing_context, array, first, shape):
    """Return the elements from the first one on as a C-contiguous array of a shape, like ``part``."""
    kind = types.Array(array.dtype, len(shape), "C")

    def generate(context, builder, signature, arguments):
        value, first, shape = arguments
        whole, made = context.make_array(array)(context, builder, value), context.make_array(kind)(context, builder)
        strides, sizes = [whole.itemsize], cgutils.unpack_tuple(builder, shape)
        for size in reversed(sizes[1:]):
            strides.insert(0, builder.mul(strides[0], size))
        data = builder.gep(whole.data, [first])
        populate_array(made, data=data, shape=sizes, strides=strides, itemsize=whole.itemsize, meminfo=None)
        return made._getvalue()

    return kind(array, types.intp, types.UniTuple(types.intp, len(shape))), generate


@intrinsic
def keep(typing_context, array):
    """Do nothing: an array that is named here is alive until then, and so are its parts."""
    return types.void(array), lambda context, builder, signature, arguments: context.get_dummy_value()
