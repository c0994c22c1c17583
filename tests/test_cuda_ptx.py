"""CUDA kernels as they are linked, without a GPU: every operation of the rule, once per element, and none beside them.

NVVM contracts ``a * b + c`` to an fma on its own and the CPU does not, ptxas does so later with what NVVM left, and
both would trade exactness of divisions and roots for speed if asked. Counting the instructions, and following products
to where they are used, shows that there was nothing to contract and that nobody asked.

A kernel holds a rule as often as a strip is wide, with loads and stores of 16 bytes, and once more for what is in no
strip. An option that is off is an ``if`` on a scalar, of which the compiler makes a choice between two numbers. So each
kernel is also compiled once per combination of its options, with those scalars constant: then counts are the rule's,
times the elements.
"""

import itertools
import pkgutil
import re
from collections import Counter
from importlib import import_module
from types import FunctionType

import numpy as np
import pytest
from numba import types
from ptx import CAPABILITIES, EACH_CAPABILITY, registers

from refoptim import kernels
from refoptim.kernels.arithmetic import fma
from refoptim.kernels.jit import THREADS, Row, cuda, gpu_rule
from refoptim.kernels.strips import ACCESS, RuleKernel, width

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
try:
    import_module("cuda.bindings.nvrtc").nvrtcVersion()
    import_module("cuda.bindings.nvvm").version()
except RuntimeError:
    pytest.skip("the CUDA toolkit is not installed: pip install numba-cuda[cu13]", allow_module_level=True)

PRECISIONS = {"float32": ("float32", "float32"), "float64": ("float64", "float64"), "wide": ("float32", "float64")}
# Of a multiprocessor of an H200: its registers, the threads that it can have, and the bytes that it must have asked for
# to keep its share of the memory busy.
REGISTERS, MOST_THREADS, BYTES_ON_THE_WAY = 65_536, 2048, 32_768
# A division in float64 takes registers in which more could be on the way. Muon divides once, beside 15 products.
FEWER_BYTES = {("scaling.divided_gpu", "float64"): 20_480}
FILES = [import_module(f"refoptim.kernels.{module.name}") for module in pkgutil.iter_modules(kernels.__path__)]
MODULES = [module for module in FILES if getattr(module, "Scalars", None)]  # the others have no rules
KERNELS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": (module, kernel)  # two stems may have a rule of one name
    for module in MODULES
    for name, kernel in vars(module).items()
    if isinstance(kernel, RuleKernel)
}
ON, OFF = 0.3, 0.0
# What a rule may call. What only chooses among numbers or drops a sign rounds nothing, and is not counted.
OPERATIONS = ("fma", "sqrt", "absolute", "maximum", "minimum", "limited", "by_sign")
EXACT = ("absolute", "maximum", "minimum", "limited", "by_sign")


class Traced:
    """A number that knows how it was computed, and answers ``!= 0`` and ``< 0`` as the options at hand say."""

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

    __lt__ = __ne__
    __eq__ = __le__ = __gt__ = __ge__ = None
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
        self.scalars = {operation for operation in needed.values() if operation in self.fields} | self.options.keys()
        self.loads = sum(element.key in needed for element in elements)
        self.stores = len(results)
        self.different = len({result.key for result in results})


def rule_of(name):
    """Return the module and the rule of a kernel."""
    module, kernel = KERNELS[name]
    return module, kernel.rule


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
    module, rule = rule_of(name)
    elements = ", ".join(rule.__code__.co_varnames[: rule.__code__.co_argcount - 1])
    fields = ", ".join(
        {True: "ON", False: "OFF", None: f"h.{field}"}[options.get(field)] for field in module.Scalars._fields
    )
    kind = np.dtype(scalar).type
    names = {"Scalars": module.Scalars, "ON": kind(ON), "OFF": kind(OFF), "rule": gpu_rule(rule).value}
    exec(f"def {rule.__name__}({elements}, h): return rule({elements}, Scalars({fields}))", names)
    return RuleKernel(names[rule.__name__])


@pytest.fixture
def libraries(monkeypatch):
    """Return what compiles a kernel as a launch does, on a machine without a driver."""
    dispatcher = import_module("numba.cuda.dispatcher")
    codegen = import_module("numba.cuda.codegen")
    monkeypatch.setattr(dispatcher._Kernel, "bind", lambda _: None)
    monkeypatch.setattr(codegen.CUDACodeLibrary, "_ensure_cc", lambda _, cc: cc or CAPABILITIES[-1])
    device = type("Device", (), {"compute_capability": CAPABILITIES[-1]})
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)

    def libraries(module, kernel, arrays, scalar, *, reads=False):
        h = module.Scalars(*[np.dtype(scalar).type(ON)] * len(module.Scalars._fields))
        h = Row(module.Scalars, np.array(h)) if reads else h
        (compiled,) = kernel.compiled([np.dtype(array) for array in arrays], h).overloads.values()
        return compiled.library

    return libraries


def linked(library, capability):
    """Return a kernel's PTX after linking, which is what a GPU's own compiler gets."""
    return library.get_lto_ptx(cc=capability) if library._lto else library.get_asm_str(cc=capability)


def operations(ptx):
    """Count the instructions that touch floating-point numbers or memory, less those that only move a number."""
    found = re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)", ptx, re.MULTILINE)
    floating = [name for name in found if re.search(r"\.(f16|bf16|f32|f64)\b", name)]
    exact = ("mov.", "ld.param.", "neg.", "abs.", "setp.", "selp.")
    return Counter(name for name in floating if not name.startswith(exact))


def expected(trace, array, scalar):
    """Return what a kernel takes for a strip and for one more element, in PTX's names."""
    a, s = (kind.replace("float", "f") for kind in (array, scalar))
    wide = width([np.dtype(array).itemsize])
    counts = Counter()
    for access in (a, f"v{wide}.{a}"):
        counts.update({f"ld.global.{access}": trace.loads, f"st.global.{access}": trace.stores})
    names = {"fma": "fma.rn", "mul": "mul", "div": "div.rn", "sqrt": "sqrt.rn", "add": "add", "sub": "sub"}
    once = Counter({f"{names[name]}.{s}": count for name, count in trace.counts.items() if name not in EXACT})
    if array != scalar:
        once.update({"cvt.f64.f32": trace.loads, "cvt.rn.f32.f64": trace.different})
    return counts + Counter({operation: count * (wide + 1) for operation, count in once.items()})


def normal(counts):
    """Return the counts under one name each: ``mul.rn.f32`` says what ``mul.f32`` does, and means "do not contract"."""
    renamed = Counter()
    for name, count in counts.items():
        renamed[re.sub(r"^(mul|add|sub)\.rn\.", r"\1.", name)] += count
    return renamed


def bytes_on_the_way(ptx, capability):
    """Return how many bytes a multiprocessor full of these threads has asked for at once."""
    blocks = min(MOST_THREADS, REGISTERS // registers(ptx, capability)) // THREADS
    loads = sum(count for access, count in operations(ptx).items() if access.startswith("ld.global.v"))
    return blocks * THREADS * loads * ACCESS


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


# The rules whose scalars may lie on the GPU: of what has the option capturable, and of what kernels find out there.
READING = [
    name
    for name in KERNELS
    if name.partition(".")[0] in ("adam", "nadam", "radam", "adamax", "rmsprop", "rprop", "adadelta", "asgd")
]
READING += ["adafactor.adafactor_update_gpu", "scaling.divided_gpu"]

# What is of one type alone differs by that type, in the kernel itself as in its versions.
SLOW = {"float64": [pytest.mark.slow]}
CASES = [
    pytest.param(
        name,
        precision,
        options,
        id=f"{name}-{precision}-{'+'.join(o for o in options if options[o]) or 'plain'}",
        marks=SLOW.get(precision, []),
    )
    for name in KERNELS
    for precision in PRECISIONS
    for options in combinations(name)
]


def test_every_file_has_a_kernel():
    assert {module.__name__.rpartition(".")[2] for module, _ in KERNELS.values()} >= {"adam", "sgd"}
    assert all(any(module is owner for owner, _ in KERNELS.values()) for module in MODULES)


@pytest.mark.parametrize(("name", "precision", "options"), CASES)
def test_a_version_holds_the_operations_of_the_rule(libraries, name, precision, options):
    array, scalar = PRECISIONS[precision]
    module, rule = rule_of(name)
    arrays = [array] * (rule.__code__.co_argcount - 1)
    library = libraries(module, specialized(name, options, scalar), arrays, scalar)
    for capability in CAPABILITIES:
        ptx = linked(library, capability)
        assert normal(operations(ptx)) == expected(Trace(module, rule, options), array, scalar)
        assert contractible(ptx) == []


@pytest.mark.parametrize("capability", EACH_CAPABILITY)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", KERNELS)
def test_the_kernel_itself_holds_nothing_else(libraries, name, precision, capability):
    array, scalar = PRECISIONS[precision]
    module, rule = rule_of(name)
    arrays = [array] * (rule.__code__.co_argcount - 1)
    ptx = linked(libraries(module, KERNELS[name][1], arrays, scalar), capability)
    versions = [expected(Trace(module, rule, options), array, scalar) for options in combinations(name)]
    got, most, together = normal(operations(ptx)), Counter(), Counter()
    for version in versions:
        most |= version
        together += version
    # Both sides of a choice are computed, what they have in common once.
    assert set(got) == set(most)
    assert all(most[operation] <= count <= together[operation] for operation, count in got.items()), got
    accesses = {operation for operation in got if ".global." in operation}
    assert all(got[access] == most[access] for access in accesses)
    assert contractible(ptx) == []
    # A variable that the compiler took for undefined shows as a 0: no rule computes with one.
    assert not re.findall(r"^\s*(?:fma|mul|add|sub|div)\S*\s.*\b0[fd][08]0+\b.*", ptx, re.MULTILINE)
    assert ".local" not in ptx
    assert not re.findall(r"\S*(?:\.approx|\.full|\.ftz)\S*", ptx)
    assert not re.findall(r"^\s*call\b.*", ptx, re.MULTILINE)
    assert bytes_on_the_way(ptx, capability) >= FEWER_BYTES.get((name, scalar), BYTES_ON_THE_WAY)


@pytest.mark.parametrize("capability", EACH_CAPABILITY)
@pytest.mark.parametrize("precision", [pytest.param(name, marks=SLOW.get(name, [])) for name in PRECISIONS])
@pytest.mark.parametrize("name", READING)
def test_a_kernel_that_reads_its_scalars_holds_their_loads_beside(libraries, name, precision, capability):
    array, scalar = PRECISIONS[precision]
    module, rule = rule_of(name)
    arrays = [array] * (rule.__code__.co_argcount - 1)
    given, ptx = (
        linked(libraries(module, KERNELS[name][1], arrays, scalar, reads=reads), capability) for reads in (False, True)
    )
    read = set().union(*(Trace(module, rule, options).scalars for options in combinations(name)))
    loads = Counter({f"ld.global.{scalar.replace('float', 'f')}": len(read)})
    assert normal(operations(ptx)) == normal(operations(given)) + loads
    assert contractible(ptx) == []
    assert ".local" not in ptx
    assert not re.findall(r"\S*(?:\.approx|\.full|\.ftz)\S*", ptx)
    assert not re.findall(r"^\s*call\b.*", ptx, re.MULTILINE)
    assert bytes_on_the_way(ptx, capability) >= FEWER_BYTES.get((name, scalar), BYTES_ON_THE_WAY)


@pytest.mark.parametrize("capability", EACH_CAPABILITY)
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_a_row_of_scalars_is_copied_as_it_is(monkeypatch, kind, capability):
    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(import_module("numba.cuda.dispatcher"), "get_current_device", lambda: device)
    scalars, counts = (types.Array(numbers, 1, "C") for numbers in (getattr(types, kind), types.int64))
    ptx, _ = cuda.compile_ptx(kernels.tables.take_row_gpu.function, (scalars, scalars, counts), cc=capability)
    bits = kind.removeprefix("float")
    found = Counter(re.findall(r"\b(?:ld|st)\.global\.\w+|bar\.sync", ptx))
    # A compiler may copy numbers as the integers of their bits. The position is two of these, one of which is written.
    assert sum(count for name, count in found.items() if name.startswith("ld.")) == 3 + 1
    assert sum(count for name, count in found.items() if name.startswith("st.")) == 2
    assert {name for name in found if name.endswith(bits) and name.startswith("st.")}
    assert found["bar.sync"] == 1
    assert ".local" not in ptx


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
