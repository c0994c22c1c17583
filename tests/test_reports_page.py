"""The page of reports: it says what was found, loads nothing, obeys nobody, and a browser has no complaints."""

import base64
import json
import math
import os
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

pytest.importorskip("jsonschema", reason="jsonschema, extra conformance, is not installed")
pytest.importorskip("jinja2", reason="jinja2, extra conformance, is not installed")

from refoptim.conformance.reports import chart, html
from refoptim.conformance.reports.curves import Curve, State
from refoptim.conformance.reports.json_lines import Saved
from refoptim.conformance.reports.verdicts import differences
from refoptim.conformance.runner.outcome import Divergence, Grade, Report, Result, Status

WHO = {"name": "faux", "version": "1.2", "language": "C", "homepage": "https://faux.example", "dialect": "torch"}
HOSTILE = "</td></svg><script>alert(1)</script>\" onload='x' \x1b[31m\x00\ud800\u202e]]> &amp; {{ 7 * 7 }}"


def result(identifier, status=Status.CONFORMS, grade=None, sulp=None, **more):
    name, dtype, tier = identifier.split(".")[:3]
    budget = None if sulp is None else 8.0
    return Result(identifier, name.capitalize(), tier, dtype, status, grade, sulp, budget, **more)


DIVERGENCE = Divergence(2, "w", (1, 3), "exp_avg", "3f800000 (1.0)", "3ff0000000000001 (1.0)", 12.5, 8.0)
EPS = "matches dialect eps:hat within 0.6 ulp (keras, TensorFlow); torch puts it outside"
FAILING = Report(
    "2026.11",
    WHO,
    [
        result("adam.f32.probe.plain", grade=Grade.A, sulp=0.9),
        result("adam.f64.probe.eps", Status.MISMATCH, Grade.D, 1.6e7, divergence=DIVERGENCE, dialect=EPS),
        result("adam.f64.probe.betas", Status.MISMATCH, Grade.D, 9.0, divergence=DIVERGENCE),
        result("adam.f64.long.plain", Status.PROTOCOL, message="it hung"),
        result("sgd.f32.probe.plain", Status.SKIPPED, message="known, https://faux.example/12, until 2026-12-01"),
        result("sgd.f64.probe.plain", Status.UNSUPPORTED, message="dtype:f64"),
        result("sgd.c64.invalid.negative-lr"),
        Result("steplr.schedule.gamma=0.5", "StepLR", "schedule", "f64", Status.CONFORMS, Grade.EXACT, 0.5, 4.0),
    ],
)
PLAIN = Curve(
    *("adam.f32.probe.plain", "w", (0,), "theta", (1, 2, 3), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0), (0.0, 1.0, 2.0), 8.0),
    first=None,
    states=(State("exp_avg", (1, 2, 3), (0.0, 0.5, 9.0), 8.0),),
)
CURVES = [
    PLAIN._replace(id="adam.f64.probe.eps", got=(1.0, math.nan, -math.inf), sulp=(1.0, math.inf, math.inf), first=2),
    PLAIN._replace(id="adam.f64.probe.betas", got=(1.7e308, -1.7e308, 0.0), sulp=(1e300, 1e300, 1.0), first=1),
    PLAIN,
]
HOSTILE_REPORT = Report(
    HOSTILE,
    dict.fromkeys(WHO, HOSTILE) | {"homepage": "javascript:alert(1)"},
    [
        Result(
            f"x{i}{HOSTILE}",
            HOSTILE,
            HOSTILE,
            HOSTILE,
            status,
            Grade.D,
            math.nan,
            1.0,
            HOSTILE,
            Divergence(1, HOSTILE, (), HOSTILE, HOSTILE, HOSTILE, math.nan, 1.0),
            HOSTILE,
            HOSTILE,
        )
        for i, status in enumerate(Status)
    ],
)
HOSTILE_CURVES = [
    PLAIN._replace(id=each.id, param=HOSTILE, quantity=HOSTILE, states=(State(HOSTILE, (1,), (1.0,), 1.0),))
    for each in HOSTILE_REPORT.results
]
PAGES = {
    "one": [Saved(FAILING, CURVES)],
    "several": [Saved(FAILING, CURVES), Saved(FAILING._replace(results=FAILING.results[:1]), []), Saved(FAILING, [])],
    "empty": [Saved(FAILING._replace(results=[], complete=False), [])],
    "hostile": [Saved(HOSTILE_REPORT, HOSTILE_CURVES)] * 2,
}
PAGES["long names"] = [
    Saved(
        FAILING._replace(
            implementation=WHO | {"name": "n" * 200},
            results=[each._replace(id=each.id + "-long" * 40, dialect="x" * 300) for each in FAILING.results],
        ),
        [],
    )
]


VOID = {"meta", "link"}


class Outline(HTMLParser):
    """What a page has."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_well_formed_and_loads_nothing(name):
    text = html.page(PAGES[name])
    page = Outline(text)
    assert "script" not in {tag for tag, _ in page.tags}
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        assert not {"src", "srcset", "background", "action"} & set(attrs), tag
        assert not [key for key in attrs if key.startswith("on")], tag
        link = attrs.get("href", "data:,")
        if link.startswith("#"):
            assert link[1:] in ids
        else:
            assert link == "data:," or (tag == "a" and link.startswith("https://"))
    assert "url(" not in text
    assert "@import" not in text
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_a_page_says_what_was_found():
    words = " ".join(" ".join(Outline(html.page(PAGES["one"])).texts).split())
    for part in (
        "faux 1.2 (C)",
        "DOES NOT CONFORM: 3 of 6 vectors failed",
        "1.6e7",
        "step 2",
        DIVERGENCE.got,
        EPS,
        "it hung",
        "until 2026-12-01",
        "dtype:f64",
        "a lower bound of the largest there is",
        next(differences("Adam", EPS)).found,
        "budget 8",
        "steplr.schedule.gamma=0.5"[len("steplr.schedule.") :],
    ):
        assert part in words, part


def test_a_page_of_one_report_is_written_with_its_curves(tmp_path):
    html.write(FAILING, tmp_path / "page.html", CURVES)
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text == html.page(PAGES["one"])
    assert text.count("<svg") == sum(len(chart.panes(own)) for own in CURVES)


def test_only_some_curves_of_an_algorithm_are_drawn():
    results = [result(f"adam.f32.probe.{i}", Status.MISMATCH, Grade.D, 9.0, divergence=DIVERGENCE) for i in range(20)]
    curves = [PLAIN._replace(id=each.id, states=()) for each in results]
    text = html.page([Saved(FAILING._replace(results=results), curves)])
    assert text.count("<svg") == 2 * html.DRAWN
    assert f"{20 - html.DRAWN} more that failed" in text


# In a browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


class Browser:
    """Chromium by its DevTools protocol, through pipes at its descriptors 3 and 4."""

    def __init__(self, folder):
        (there, self._send), (self._receive, back) = os.pipe(), os.pipe()
        for end in (there, back):
            os.set_inheritable(end, True)
        place = f'exec 3<&{there} 4>&{back}; exec "$@"'
        command = ["bash", "-c", place, "bash", BROWSER, *FLAGS, f"--user-data-dir={folder}"]
        self._process = subprocess.Popen(
            command, pass_fds=(there, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(there)
        os.close(back)
        self._rest, self._number, self.events = b"", 0, []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method, **params):
        self._number += 1
        request = {"id": self._number, "method": method, "params": params} | getattr(self, "_session", {})
        os.write(self._send, json.dumps(request).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self):
        while b"\0" not in self._rest:
            part = os.read(self._receive, 1 << 20)
            assert part, "the browser has gone"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, file, width, scheme):
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 500)
        self.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.do("Page.navigate", url=file.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def value(self, expression):
        return self.do("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def screenshot(self):
        return base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"])

    def close(self):
        self.do("Browser.close")
        self._process.wait(timeout=30)
        os.close(self._send)
        os.close(self._receive)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if BROWSER is None or shutil.which("bash") is None:
        pytest.skip("there is no Chromium here")
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
OPEN_ALL = "document.querySelectorAll('details').forEach(d => { d.open = true; })"
COLORS = "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color"
# Text below 9 pixels, in pictures too, which shrink with their columns.
SMALLEST = """Math.min(...[...document.querySelectorAll('svg text, small, code, td, p, dt, dd, li')].filter(
    e => e.getClientRects().length).map(e => parseFloat(getComputedStyle(e).fontSize) *
    (e.ownerSVGElement ? e.ownerSVGElement.getScreenCTM().a : 1)))"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_browser_shows_a_page_without_complaints(browser, tmp_path, name, width):
    file = tmp_path / "page.html"
    file.write_text(html.page(PAGES[name]), "utf-8")
    looks = {}
    for scheme in ("light", "dark"):
        browser.open(file, width, scheme)
        browser.value(f"{OPEN_ALL}; 0")
        assert browser.value(TOO_WIDE) <= 0
        assert browser.value(SMALLEST) >= 9
        looks[scheme] = browser.value(COLORS), browser.screenshot()
        assert [event for event in browser.events if event.get("method") in COMPLAINTS] == []
        loads = [
            e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"
        ]
        assert {load for load in loads if not load.startswith("data:")} == {file.as_uri()}
    for look in (0, 1):
        assert looks["light"][look] != looks["dark"][look]
    assert all(shot.startswith(b"\x89PNG") for _, shot in looks.values())


def test_the_browser_would_have_complained(browser, tmp_path):
    file = tmp_path / "page.html"
    wide = "<p style='width: 2000px'>x</p><img src='http://faux.example/x.png'><script>undefined.x</script>"
    file.write_text(f"<!DOCTYPE html><title>x</title>{wide}", "utf-8")
    browser.open(file, 390, "light")
    assert browser.value(TOO_WIDE) > 0
    assert any(event.get("method") == "Runtime.exceptionThrown" for event in browser.events)
    loads = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert "http://faux.example/x.png" in loads


def test_the_script_of_a_hostile_name_would_not_run(browser, tmp_path):
    file = tmp_path / "page.html"
    text = html.page(PAGES["one"]).replace("<main>", "<main><script>document.title = 'taken'</script>")
    file.write_text(text, "utf-8")
    browser.open(file, 390, "light")
    assert browser.value("document.title") != "taken"
