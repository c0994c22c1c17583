"""A harness that is wrong in a way of one's choice: what the runner must tell apart. Run as ``python faux.py MODE``."""

import json
import os
import signal
import subprocess
import sys
import time

MODE = sys.argv[-1]  # pytest imports this file too


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def stay(problem):
    """Answer with parameters that never move: right for a learning rate of 0."""
    point = {p["name"]: {"theta": p["init"]} for p in problem["params"]}
    return [point for _ in problem["record"]]


def hello():
    claims = {"SGD": ["dtype:f32"]} if MODE == "lies" else None
    answer = {"ok": True, "protocol": 1, "implementation": {"name": "faux", "version": "1"}, "optimizers": claims}
    if MODE == "old-protocol":
        answer["protocol"] = 0
    if MODE == "nobody":
        answer = {"ok": True, "protocol": 1}
    if MODE == "fails-at-hello":
        answer = {"errored": True, "error": {"kind": "Oops", "message": "no licence"}}
    if MODE == "fails-in-words":
        answer = {"errored": True, "error": "no licence"}
    if MODE == "odd-claims":
        answer["optimizers"] = {"SGD": "dtype:f32"}
    if MODE == "hangs-at-hello":
        time.sleep(60)
    say(answer)
    if MODE == "never-reads":
        time.sleep(60)


def run(request):  # noqa: C901, PLR0912, PLR0915  a list of mistakes
    right = {"seq": request["seq"], "after": stay(request["problem"])}
    text = json.dumps(right)
    if MODE == "hangs":
        time.sleep(60)
    elif MODE == "exits":
        sys.stderr.write("out of luck\n")
        sys.exit(7)
    elif MODE == "leaves-a-child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        sys.stderr.write(f"{child.pid}\n")
        sys.exit(0)
    elif MODE == "deep":
        sys.stdout.write("[" * 200_000 + "\n")
        sys.stdout.flush()
    elif MODE == "latin-1":
        sys.stdout.buffer.write(b'{"seq": 1, "reason": "\xfcbel"}\n')
        sys.stdout.flush()
    elif MODE == "late":
        say(right)
        time.sleep(0.05)
        say(right)
    elif MODE == "is-killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif MODE == "half-a-line":
        sys.stdout.write(text[: len(text) // 2])
        sys.stdout.flush()
        sys.exit(0)
    elif MODE == "pieces":
        for i in range(0, len(text), 40):
            sys.stdout.write(text[i : i + 40])
            sys.stdout.flush()
        sys.stdout.write("\n")
        sys.stdout.flush()
    elif MODE == "not-json":
        sys.stdout.write("I am thinking about it\n")
        sys.stdout.flush()
    elif MODE == "a-list":
        say([right])
    elif MODE == "another-seq":
        say(right | {"seq": -1})
    elif MODE == "two-answers":
        sys.stdout.write(text + "\n" + text + "\n")
        sys.stdout.flush()
    elif MODE == "closes":
        os.close(1)
        time.sleep(60)
    elif MODE == "no-parameter":
        say(right | {"after": [{} for _ in right["after"]]})
    elif MODE == "few-steps":
        say(right | {"after": right["after"][:-1]})
    elif MODE == "few-digits":
        say(
            right
            | {"after": [{"w": {"theta": "3f"}, "u": {"theta": "3f"}, "b": {"theta": "3f"}}] * len(right["after"])}
        )
    elif MODE == "decimals":
        say(
            right
            | {"after": [{"w": {"theta": [1.0]}, "u": {"theta": [1.0]}, "b": {"theta": [1.0]}}] * len(right["after"])}
        )
    elif MODE == "numbers-as-text":
        say({"seq": request["seq"], "after": "3f800000"})
    elif MODE == "raises":
        say({"seq": request["seq"], "errored": True, "error": {"kind": "KeyError", "message": "w"}})
    elif MODE == "refuses":
        say({"seq": request["seq"], "rejected": True, "error": {"kind": "ValueError", "message": "lr"}})
    elif MODE in ("lies", "has-nothing"):
        say({"seq": request["seq"], "unsupported": ["optimizer:SGD"]})
    elif MODE == "skips":
        say({"seq": request["seq"], "skipped": True, "reason": "issue 12"})
    elif MODE == "odd-field":
        say(right | {"mood": "good"})
    else:
        say(right)


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["cmd"] == "bye":
            sys.exit(0)
        if asked["cmd"] == "hello":
            hello()
        else:
            run(asked)
