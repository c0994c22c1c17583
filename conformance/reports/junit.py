"""Reports as JUnit XML, which every continuous integration reads: a test case for each vector."""

from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from refoptim.conformance.reports import summary
from refoptim.conformance.reports.summary import one_line, shown
from refoptim.conformance.runner.outcome import Report, Result, Status

# What a test case has inside, by status; one that conforms has nothing.
_ELEMENTS = {
    Status.MISMATCH: "failure",
    Status.REJECTED: "failure",
    Status.STALE: "failure",
    Status.ERRORED: "error",
    Status.PROTOCOL: "error",
    Status.SKIPPED: "skipped",
    Status.UNSUPPORTED: "skipped",
}


def write(report: Report, file: Path) -> None:
    """Write a report. A run that ended early has an error beside its results: it is never all green."""
    root = Element("testsuites")
    suite = SubElement(root, "testsuite", name=f"refoptim {one_line(report.suite)}: {summary.title(report)}")
    _properties(suite, {"suite": report.suite, "dialect": summary.dialect(report)} | report.implementation)
    for result in report.results:
        _case(suite, result, summary.name(report))
    if not report.complete:
        case = SubElement(suite, "testcase", classname=f"refoptim.{summary.name(report)}", name="the whole run")
        SubElement(case, "error", type="incomplete", message=summary.verdict(report))
    count = {"tests": len(suite.findall("testcase"))}
    count |= {f"{kind}s": len(suite.findall(f"testcase/{kind}")) for kind in ("failure", "error")}
    count |= {"skipped": len(suite.findall("testcase/skipped"))}
    for element in (root, suite):
        element.attrib.update({name: str(number) for name, number in count.items()})
        element.set("time", f"{sum(result.seconds for result in report.results):.3f}")
    indent(root)
    ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def _case(suite: Element, result: Result, implementation: str) -> None:
    where = f"refoptim.{implementation}.{one_line(result.algorithm)}"
    case = SubElement(suite, "testcase", classname=where, name=one_line(result.id), time=f"{result.seconds:.3f}")
    known = {"sulp": result.sulp, "budget": result.budget, "grade": result.grade, "dialect": result.dialect}
    _properties(case, {name: value for name, value in known.items() if value not in (None, "")})
    if result.status in _ELEMENTS:
        element = SubElement(case, _ELEMENTS[result.status], type=str(result.status), message=_message(result))
        if result.status in summary.FAILED:
            element.text = _details(result)


def _properties(element: Element, properties: Mapping[str, object]) -> None:
    if properties:
        parent = SubElement(element, "properties")
        for name, value in properties.items():
            SubElement(parent, "property", name=one_line(name), value=one_line(value))


def _message(result: Result) -> str:
    return one_line(result.message or result.dialect or result.divergence or result.status)


def _details(result: Result) -> str:
    parts = (result.divergence, result.dialect, result.message)
    return "\n".join(shown(part) for part in parts if part)
