"""The house rules: which way imports point, what lies where, and the laws that keep a rule's bits alike everywhere."""

import ast
from itertools import product
from pathlib import Path

import pytest

from refoptim.kernels import caching

ROOT = Path(__file__).parents[1]
PACKAGES = {"refoptim": ROOT / "refoptim", "refoptim.kernels": ROOT / "kernels"}
PACKAGES["refoptim.conformance"] = ROOT / "conformance"
# Weight averaging has formula, rule and loops like an algorithm, and is no optimizer.
OTHERS = {"swa"}
STEMS = sorted(path.stem for path in (ROOT / "refoptim/optimizers").glob("*.py") if path.stem != "__init__")
FLOORS = ["refoptim/optimizers", "refoptim/formulas", "kernels", "conformance/cases"]
LONGEST = 400
# Who may speak to the terminal, or to another program.
SPEAKERS = ("refoptim.cli", "refoptim.conformance.report", "refoptim.conformance.runner.transport")
# What a rule may call: each has one rounding, or none, on every device.
CALLS = {"fma", "sqrt", "maximum", "minimum", "limited", "absolute", "by_sign"}


def module_of(path):
    """Return the name under which a file is imported."""
    for package in ("refoptim.kernels", "refoptim.conformance", "refoptim"):
        if path.is_relative_to(PACKAGES[package]):
            parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
            return ".".join([package, *(part for part in parts if part != "__init__")])
    raise ValueError(path)


FILES = {module_of(path): path for folder in PACKAGES.values() for path in sorted(folder.rglob("*.py"))}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}


def imports(module):
    """Return the modules of ours that a module imports, and the names that look like ours by their folder."""
    found, package = set(), module if FILES[module].stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1] + ([base] if base else []))
            found.update(f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names)
    return {name for name in found if name.partition(".")[0] in ("refoptim", "kernels", "conformance")}


def floor(module):
    """Return where a module lives."""
    for name in ("refoptim.kernels", "refoptim.conformance", "refoptim.formulas", "refoptim.optimizers"):
        if module == name or module.startswith(f"{name}."):
            return name.rpartition(".")[2]
    if module == "refoptim.cli" or module.startswith("refoptim.cli."):
        return "cli"
    return "front" if module == "refoptim" else "core"


def is_algorithm(module):
    return module.rpartition(".")[2] in STEMS


def may_import(module, other):
    """Return whether this arrow runs the right way."""
    here, there = floor(module), floor(other)
    if here in ("kernels", "formulas"):
        # An algorithm imports the helpers of its floor; no file of the floor imports an algorithm.
        return here == there and not is_algorithm(other)
    if here == "conformance":
        return there in ("conformance", "front", "formulas", "kernels")
    if here == "core":
        return there in ("core", "kernels") or (there == "formulas" and not is_algorithm(other))
    if here == "optimizers":
        return there in ("optimizers", "core", "kernels", "formulas")
    if here == "front":
        return there in ("core", "optimizers")
    return here == "cli"


@pytest.mark.parametrize("module", FILES)
def test_imports_run_one_way(module):
    wrong = [other for other in sorted(imports(module)) if not may_import(module, other)]
    assert not wrong, f"{FILES[module].relative_to(ROOT)} imports {', '.join(wrong)}"


def test_the_arrows_that_are_forbidden():
    for module, other in [
        ("refoptim.kernels.adam", "refoptim.kernels.sgd"),
        ("refoptim.kernels.adam", "refoptim.optimizer"),
        ("refoptim.kernels.jit", "refoptim.kernels.adam"),
        ("refoptim.formulas.adam", "refoptim.kernels.arithmetic"),
        ("refoptim.formulas.adam", "refoptim.scalars"),
        ("refoptim.optimizer", "refoptim.optimizers.adam"),
        ("refoptim.optimizers.adam", "refoptim.conformance"),
        ("refoptim", "refoptim.conformance"),
        ("refoptim.layout", "refoptim.conformance.truth"),
        ("refoptim.conformance.truth", "refoptim.slots"),
    ]:
        assert not may_import(module, other), f"{module} -> {other}"


def test_imports_have_no_cycle():
    # A package is imported before what is in it, and imports it: that is no cycle.
    arrows = {module: {other for other in imports(module) if not module.startswith(other)} for module in FILES}
    arrows = {module: {other for other in others if other in FILES} for module, others in arrows.items()}
    while leaves := {module for module, others in arrows.items() if not others}:
        arrows = {module: others - leaves for module, others in arrows.items() if module not in leaves}
    assert not arrows


def test_nothing_names_the_folders_of_the_mapping():
    for module in FILES:
        assert not imports(module) & {"kernels", "conformance"}, module
        if floor(module) in ("conformance", "cli"):
            continue
        texts = [node.value for node in ast.walk(TREES[module]) if isinstance(node, ast.Constant)]
        assert not [text for text in texts if isinstance(text, str) and text.startswith("refoptim.conformance")], module


@pytest.mark.parametrize("module", [module for module in FILES if floor(module) == "conformance"])
def test_conformance_imports_absolutely(module):
    # pytest may load these files under another name: a relative import would then make a second copy of every helper.
    relative = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, f"line {relative[0].lineno}: write from refoptim.conformance import ..."


@pytest.mark.parametrize(("stem", "where"), list(product(STEMS, FLOORS)))
def test_an_algorithm_has_one_file_on_every_floor(stem, where):
    assert (ROOT / where / f"{stem}.py").is_file()


@pytest.mark.parametrize("stem", STEMS)
def test_an_algorithm_is_at_the_front(stem):
    assert f"refoptim.optimizers.{stem}" in imports("refoptim")


SOURCES = [
    path
    for where in ("refoptim", "kernels", "conformance", "tests", "benchmarks", "examples", "docs")
    for path in sorted((ROOT / where).rglob("*.py"))
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tolerances_are_in_the_one_table(path):
    if path == ROOT / "conformance/tolerances.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg in ("rtol", "atol", "rel", "abs", "rel_tol", "abs_tol"):
            numbers = [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)]
            assert not any(isinstance(number, float) for number in numbers), f"{node.arg}= in line {node.value.lineno}"


@pytest.mark.parametrize("module", FILES)
def test_no_fastmath(module):
    for node in ast.walk(TREES[module]):
        assert not (isinstance(node, ast.keyword) and node.arg == "fastmath"), module
        assert not (isinstance(node, ast.Constant) and node.value == "fastmath"), module


@pytest.mark.parametrize("module", [module for module in FILES if not module.startswith(SPEAKERS)])
def test_only_the_command_line_prints(module):
    for node in ast.walk(TREES[module]):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
        assert called not in ("print", "pprint", "breakpoint", "input"), f"line {node.lineno}"
        assert not (isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr")), f"line {node.lineno}"


def rules(tree):
    """Return the functions of a kernel's file that are compiled for one device or the other as rules."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    names = {"cpu_rule": set(), "gpu_rule": set()}
    sides = {"cpu_rule": "cpu_rule", "gpu_rule": "gpu_rule", "gpu_elementwise": "gpu_rule"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in sides:
            names[sides[node.func.id]].update(argument.id for argument in node.args)
    assert names["cpu_rule"] == names["gpu_rule"]
    return {name: functions[name] for name in sorted(names["cpu_rule"])}


def products_of(rule):
    """Return the names that hold a product somewhere in a rule."""
    held, assignments = set(), [node for node in ast.walk(rule) if isinstance(node, ast.Assign)]
    for _ in assignments:
        for node in assignments:
            if is_product(node.value, held):
                held.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return held


def is_product(node, held=frozenset()):
    """Return whether an expression may be a product when it is evaluated."""
    if isinstance(node, ast.IfExp):
        return is_product(node.body, held) or is_product(node.orelse, held)
    if isinstance(node, ast.UnaryOp):
        return is_product(node.operand, held)
    if isinstance(node, ast.Name):
        return node.id in held
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)


def breaches(rule):
    """Yield what a rule does that may give other bits, or another type, on another device."""
    body = rule.body[1:] if ast.get_docstring(rule) else rule.body
    held = products_of(rule)
    zeros = [
        side for node in ast.walk(rule) if isinstance(node, ast.Compare) for side in (node.left, *node.comparators)
    ]
    for node in (inner for statement in body for inner in ast.walk(statement)):
        if isinstance(node, ast.Constant):
            if not (node in zeros and type(node.value) is int and node.value == 0):
                yield f"the literal {node.value!r}: in compiled code it is float64 or int64; pass a scalar"
        elif isinstance(node, ast.BinOp):
            if not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
                yield f"{ast.unparse(node)}: powers and the like happen on the host"
            elif isinstance(node.op, (ast.Add, ast.Sub)) and any(is_product(x, held) for x in (node.left, node.right)):
                yield f"{ast.unparse(node)}: a product that meets a sum must be an explicit fma"
        elif isinstance(node, ast.Call):
            if not (isinstance(node.func, ast.Name) and node.func.id in CALLS):
                yield f"a call of {ast.unparse(node.func)}"
        elif isinstance(node, (ast.AugAssign, ast.For, ast.While, ast.Subscript, ast.Lambda, ast.FunctionDef)):
            yield f"{ast.unparse(node)}: a rule is expressions of one element and ifs"


RULES = {
    f"{module.rpartition('.')[2]}.{name}": rule
    for module, tree in TREES.items()
    if floor(module) == "kernels" and (is_algorithm(module) or module.rpartition(".")[2] in OTHERS)
    for name, rule in rules(tree).items()
}


def test_every_algorithm_has_rules():
    assert {name.partition(".")[0] for name in RULES} == set(STEMS) | OTHERS


@pytest.mark.parametrize("name", RULES)
def test_rules_keep_the_laws(name):
    assert list(breaches(RULES[name])) == []


def assigned(tree):
    """Return the source of what is assigned to each name of a file, element by element where both are tuples."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            (target,), value = node.targets, node.value
            both = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(target.elts, value.elts) if both else [(target, value)]
            found |= {name.id: ast.unparse(item) for name, item in pairs if isinstance(name, ast.Name)}
    return found


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_a_loop_for_each_device(name):
    stem, _, rule = name.partition(".")
    tree = TREES[f"refoptim.kernels.{stem}"]
    (loop,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == f"{rule}_cpu"]
    assert [ast.unparse(decorator) for decorator in loop.decorator_list] == ["cpu_kernel"]
    assert assigned(tree)[f"{rule}_gpu"] == f"gpu_elementwise({rule})"
    # Which arrays a rule changes, the CPU's loop says, and the GPU's kernel knows: the first one and the last ones.
    stores = [node for node in ast.walk(loop) if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)]
    stored = [node.value.id for node in sorted(stores, key=lambda node: (node.lineno, node.col_offset))]
    arrays = [argument.arg for argument in loop.args.args[:-1]]
    if stored:
        assert stored == [arrays[0], *arrays[len(arrays) + 1 - len(stored) :]]
    else:  # tile by tile, which the GPU's kernel and this know alike
        assert ast.unparse(loop.body[-1]).startswith(f"over(_{rule}_cpu, ({', '.join(arrays)}), Scalars(")


@pytest.mark.parametrize(
    ("code", "breach"),
    [
        ("g = 1 - h.beta", "the literal 1"),
        ("g = 0.5 * g", "the literal 0.5"),
        ("if g != 0.0:\n  g = theta", "the literal 0.0"),
        ("g = g * 0", "the literal 0"),
        ("g = fma(h.a, g, 1)", "the literal 1"),
        ("g = g ** h.p", "powers"),
        ("g = g // h.p", "powers"),
        ("g = exp(g)", "a call of exp"),
        ("g = np.sqrt(g)", "a call of np.sqrt"),
        ("g = abs(g)", "a call of abs"),
        ("theta = theta - h.lr * g", "explicit fma"),
        ("theta = h.a * g + h.b * theta", "explicit fma"),
        ("theta = -(h.lr * g) + theta", "explicit fma"),
        ("g = h.lr * g\ng = theta - g", "explicit fma"),
        ("p = h.lr * g\nq = -p\ng = theta - q", "explicit fma"),
        ("g += h.lr", "one element"),
        ("g = g[i]", "one element"),
    ],
)
def test_the_laws_see_what_breaks_them(code, breach):
    rule = ast.parse("def rule(theta, g, h):\n" + "\n".join(f"    {line}" for line in code.splitlines())).body[0]
    assert any(breach in found for found in breaches(rule))


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("refoptim.kernels.")])
def test_code_is_made_of_a_file_and_all_that_it_imports(module):
    reached, left = set(), [module]
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            left += [other for other in imports(name) if other.startswith("refoptim.kernels.")]
    found = {f"refoptim.kernels.{stem}": source for stem, source in caching.parts(module.rpartition(".")[2]).items()}
    assert found.keys() >= reached
    assert all(source == FILES[name].read_bytes() for name, source in found.items())
