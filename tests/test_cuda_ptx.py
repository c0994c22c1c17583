"""CUDA kernels as PTX, compiled without a GPU: every operation of the rule, once per element, and none beside them.

NVVM contracts ``a * b + c`` to an fma on its own and the CPU does not, ptxas does so later with what NVVM left, and
both would trade exactness of divisions and roots for speed if asked. Counting the instructions, and following products
to where they are used, shows that there was nothing to contract and that nobody asked.

An option that is off is an ``if`` on a scalar, from which the compiler makes several versions of the loop. So each
kernel is also compiled once per combination of its options, with those scalars constant: then there is one version, in
which every count is the rule's times the unrolling.
"""

import itertools
import pkgutil
import re
from collections import Counter
from importlib import import_module
from types import FunctionType

import numpy as np
import pytest
from numba import typeof, types

from refoptim import kernels
from refoptim.kernels.arithmetic import fma
from refoptim.kernels.jit import GpuKernel, cuda

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
try:
    import_module("cuda.bindings.nvrtc").nvrtcVersion()
    import_module("cuda.bindings.nvvm").version()
except RuntimeError:
    pytest.skip("the CUDA toolkit is not installed: pip install numba-cuda[cu13]", allow_module_level=True)

CAPABILITIES = [(8, 0), (9, 0)]
PRECISIONS = {"float32": ("float32", "float32"), "float64": ("float64", "float64"), "wide": ("float32", "float64")}
FILES = [import_module(f"refoptim.kernels.{module.name}") for module in pkgutil.iter_modules(kernels.__path__)]
MODULES = [module for module in FILES if hasattr(module, "Scalars")]  # the others have no rules
KERNELS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": (module, kernel)  # two stems may have a rule of one name
    for module in MODULES
    for name, kernel in vars(module).items()
    if isinstance(kernel, GpuKernel)
}
ON, OFF = 0.3, 0.0
# What a rule may call. What only chooses among numbers or drops a sign rounds nothing, and is not counted.
OPERATIONS = ("fma", "sqrt", "absolute", "maximum", "minimum", "limited", "by_sign")
EXACT = ("absolute", "maximum", "minimum", "limited", "by_sign")


class Traced:
    """A number that knows how it was computed, and answers ``!= 0`` as the options at hand say."""

    def __init__(self, trace, operation, *operands):
        self.trace, self.operation, self.operands = trace, operation, operands
        self.key = (operation, *(operand.key for operand in operands))

    def __mul__(self, other):
        return Traced(self.trace, "mul", self, other)

    def __truediv__(self, other):
        return Traced(self.trace, "div", self, other)

    def __add__(self, other):
        return Traced(self.trace, "add", self, other)

    def __sub__(self, other):
        return Traced(self.trace, "sub", self, other)

    def __neg__(self):
        return Traced(self.trace, "neg", self)

    def __ne__(self, other):
        assert self.operation in self.trace.fields, "an `if` on an element: teach this test what the PTX makes of it"
        assert other == 0
        return self.trace.options.setdefault(self.operation, True)

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = None
    __hash__ = None


class Trace:
    """One run of a rule: which options it asked for, and what its results take, the same number computed once."""

    def __init__(self, module, rule, options):
        self.options, self.fields = dict(options), module.Scalars._fields
        operations = {name: lambda *operands, name=name: Traced(self, name, *operands) for name in OPERATIONS}
        function = FunctionType(rule.__code__, {**vars(module), **operations})
        scalars = module.Scalars(*(Traced(self, name) for name in self.fields))
        elements = [Traced(self, f"element {i}") for i in range(rule.__code__.co_argcount - 1)]
        results = function(*elements, scalars)
        results = results if isinstance(results, tuple) else (results,)
        needed, waiting = {}, list(results)
        while waiting:
            number = waiting.pop()
            if number.key not in needed:
                needed[number.key] = number.operation
                waiting += number.operands
        counted = (*OPERATIONS, "mul", "div", "add", "sub")
        self.counts = Counter(operation for operation in needed.values() if operation in counted)
        self.loads = sum(element.key in needed for element in elements)
        self.stores = len(results)
        self.different = len({result.key for result in results})


def rule_of(name):
    """Return the rule of a kernel, which has its name without ``_gpu``."""
    module, _ = KERNELS[name]
    return module, getattr(module, name.partition(".")[2].removesuffix("_gpu"))


def combinations(name):
    """Return the options of a kernel's rule, in every combination of on and off."""
    found = {}
    while True:
        options = Trace(*rule_of(name), found).options
        if options == found:
            break
        found = options
    return [dict(zip(found, values)) for values in itertools.product([False, True], repeat=len(found))]


def specialized(name, options, scalar):
    """Return a kernel that does what this one does, with the scalars of these options constant."""
    module, kernel = KERNELS[name]
    arrays = ", ".join(kernel.function.__code__.co_varnames[: kernel.function.__code__.co_argcount - 1])
    fields = ", ".join(
        {True: "ON", False: "OFF", None: f"h.{field}"}[options.get(field)] for field in module.Scalars._fields
    )
    kind = np.dtype(scalar).type
    names = {"Scalars": module.Scalars, "ON": kind(ON), "OFF": kind(OFF)}
    names["loop"] = cuda.jit(device=True, forceinline=True)(kernel.function)
    exec(f"def kernel({arrays}, h): loop({arrays}, Scalars({fields}))", names)
    return names["kernel"]


@pytest.fixture
def compile_ptx(monkeypatch):
    """Return what compiles a kernel for a capability, on a machine without a driver."""
    dispatcher = import_module("numba.cuda.dispatcher")

    def compile_ptx(name, function, array, scalar, capability):
        module, kernel = KERNELS[name]
        stand_in = type("Device", (), {"compute_capability": capability})
        monkeypatch.setattr(dispatcher, "get_current_device", lambda: stand_in)
        count = kernel.function.__code__.co_argcount - 1
        arrays = (types.Array(types.float32 if array == "float32" else types.float64, 1, "C"),) * count
        scalars = typeof(module.Scalars(*[np.dtype(scalar).type(ON)] * len(module.Scalars._fields)))
        fastmath = kernel.dispatcher.targetoptions.get("fastmath", False)
        ptx, _ = cuda.compile_ptx(function, (*arrays, scalars), cc=capability, fastmath=fastmath)
        return ptx

    return compile_ptx


def operations(ptx):
    """Count the instructions that touch floating-point numbers or memory, less those that only move a number."""
    found = re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)", ptx, re.MULTILINE)
    floating = [name for name in found if re.search(r"\.(f16|bf16|f32|f64)\b", name)]
    exact = ("mov.", "ld.param.", "neg.", "abs.", "setp.", "selp.")
    return Counter(name for name in floating if not name.startswith(exact))


def expected(trace, array, scalar):
    """Return what one element takes, in PTX's names."""
    a, s = (kind.replace("float", "f") for kind in (array, scalar))
    counts = Counter({f"ld.global.{a}": trace.loads, f"st.global.{a}": trace.stores})
    names = {"fma": "fma.rn", "mul": "mul", "div": "div.rn", "sqrt": "sqrt.rn", "add": "add", "sub": "sub"}
    counts.update({f"{names[name]}.{s}": count for name, count in trace.counts.items() if name not in EXACT})
    if array != scalar:
        counts.update({"cvt.f64.f32": trace.loads, "cvt.rn.f32.f64": trace.different})
    return counts


def normal(counts):
    """Return the counts under one name each: ``mul.rn.f32`` says what ``mul.f32`` does, and means "do not contract"."""
    renamed = Counter()
    for name, count in counts.items():
        renamed[re.sub(r"^(mul|add|sub)\.rn\.", r"\1.", name)] += count
    return renamed


def contractible(ptx):
    """Return the sums that ptxas may contract: neither they nor a product that they take say how to round."""
    kind = r"(?:\.f16|\.bf16|\.f32|\.f64)"
    register = r"(%\w+)"
    products = set(re.findall(rf"^\s*mul(?:\.ftz)?{kind}\s+{register}", ptx, re.MULTILINE))
    moves = re.findall(rf"^\s*(?:neg|mov|selp)\S*{kind}\s+{register},(.*);", ptx, re.MULTILINE)
    grown = -1
    while len(products) > grown:
        grown = len(products)
        products |= {target for target, sources in moves if products & set(re.findall(register, sources))}
    sums = re.findall(rf"^\s*(?:add|sub)(?:\.ftz)?{kind}\s+%\w+,(.*);", ptx, re.MULTILINE)
    return [operands for operands in sums if products & set(re.findall(register, operands))]


CASES = [
    pytest.param(
        name, precision, options, id=f"{name}-{precision}-{'+'.join(o for o in options if options[o]) or 'plain'}"
    )
    for name in KERNELS
    for precision in PRECISIONS
    for options in combinations(name)
]


def test_every_file_has_a_kernel():
    assert {module.__name__.rpartition(".")[2] for module, _ in KERNELS.values()} >= {"adam", "sgd"}
    assert all(any(module is owner for owner, _ in KERNELS.values()) for module in MODULES)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=["cc80", "cc90"])
@pytest.mark.parametrize(("name", "precision", "options"), CASES)
def test_one_version_holds_the_operations_of_the_rule(compile_ptx, name, precision, options, capability):
    array, scalar = PRECISIONS[precision]
    ptx = compile_ptx(name, specialized(name, options, scalar), array, scalar, capability)
    once = expected(Trace(*rule_of(name), options), array, scalar)
    got = normal(operations(ptx))
    unrolled = got[f"st.global.{array.replace('float', 'f')}"] / once[f"st.global.{array.replace('float', 'f')}"]
    assert unrolled >= 1
    assert got == Counter({operation: count * unrolled for operation, count in once.items()})
    assert contractible(ptx) == []


@pytest.mark.parametrize("capability", CAPABILITIES, ids=["cc80", "cc90"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", KERNELS)
def test_the_kernel_itself_holds_nothing_else(compile_ptx, name, precision, capability):
    array, scalar = PRECISIONS[precision]
    ptx = compile_ptx(name, KERNELS[name][1].function, array, scalar, capability)
    got = normal(operations(ptx))
    versions = [expected(Trace(*rule_of(name), options), array, scalar) for options in combinations(name)]
    assert set(got) == set().union(*versions)
    assert contractible(ptx) == []
    store = f"st.global.{array.replace('float', 'f')}"
    elements = got[store] / versions[0][store]
    for operation, count in got.items():
        least, most = (f(version[operation] for version in versions) for f in (min, max))
        assert least * elements <= count <= most * elements, operation
    # A variable that the compiler took for undefined shows as a 0: no rule computes with one.
    assert not re.findall(r"^\s*(?:fma|mul|add|sub|div)\S*\s.*\b0[fd][08]0+\b.*", ptx, re.MULTILINE)
    assert ".local" not in ptx
    assert not re.findall(r"\S*(?:\.approx|\.full|\.ftz)\S*", ptx)
    assert not re.findall(r"^\s*call\b.*", ptx, re.MULTILINE)
    if len(versions) > 4:
        return  # some of the versions are shared then
    # The versions that differ by an option are unrolled alike, so that all of them together have the average count.
    assert got[f"fma.rn.{scalar.replace('float', 'f')}"] == elements * np.mean(
        [version[f"fma.rn.{scalar.replace('float', 'f')}"] for version in versions]
    )


@pytest.mark.parametrize(
    ("loop", "found"),
    [
        (lambda x, y, h: x - h * y, True),
        (lambda x, y, h: x + -(h * y), True),
        (lambda x, y, h: fma(-h, y, x), False),
        (lambda x, y, h: fma(h, x, h * y), False),
        (lambda x, y, h: x + y + h, False),
    ],
)
def test_a_product_that_meets_a_sum_is_seen(monkeypatch, loop, found):
    # Either NVVM contracts it at once, or it leaves the two for ptxas.
    device = type("Device", (), {"compute_capability": (9, 0)})
    monkeypatch.setattr(import_module("numba.cuda.dispatcher"), "get_current_device", lambda: device)
    rule = cuda.jit(device=True, inline="always")(loop)

    def kernel(x, y, h):
        x[0] = rule(x[0], y[0], h)

    array = types.Array(types.float32, 1, "C")
    ptx, _ = cuda.compile_ptx(kernel, (array, array, types.float32), cc=(9, 0))
    explicit = "fma" in loop.__code__.co_names
    assert bool(contractible(ptx) or (not explicit and "fma.rn" in ptx)) == found
