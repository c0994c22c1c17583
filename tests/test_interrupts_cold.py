"""Ctrl-C before the first step, while Numba is imported or compiles: neither is left half done."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")

# Ctrl-C comes whenever so many more modules have been looked for, or passes of the compiler begun or ended.
COLD = """
import json, signal, sys
import numpy as np
import refoptim as optim

signal.signal(signal.SIGINT, signal.default_int_handler)
kind, stride, asked = sys.argv[1], int(sys.argv[2]), 0

def ask(*_):
    global asked
    asked += 1
    if asked % stride == 0:
        signal.raise_signal(signal.SIGINT)

class Finder:
    find_spec = staticmethod(ask)

if kind == "import":
    sys.meta_path.insert(0, Finder)
else:
    from numba.core import event

    class Listener(event.Listener):
        on_start = on_end = staticmethod(ask)

    listener = Listener()
    event.register("numba:run_pass", listener)

def built(size, options):
    param = optim.Parameter(np.linspace(1, 2, size, dtype=np.float32))
    param.grad = np.full(size, 0.5, np.float32)
    return param, optim.Adam([param], lr=0.01, **options)

caught, same = 0, []
for size, options in (10, {}), (600_000, {}), (10, {"arithmetic": "float64"}):
    param, optimizer = built(size, options)
    for _ in range(20):
        try:
            optimizer.step()
        except KeyboardInterrupt:
            caught += 1
    stride = sys.maxsize
    again, other = built(size, options)
    steps = int(optimizer.state[param]["step"]) if optimizer.state[param] else 0
    for _ in range(steps):
        other.step()
    same.append(0 < steps <= 20 and param.data.tobytes() == again.data.tobytes())
    stride = int(sys.argv[2])
print(json.dumps({"asked": asked, "caught": caught, "same": same}))
"""


@pytest.mark.parametrize(("kind", "stride"), [("import", 3), ("import", 97), ("compile", 1)])
def test_steps_whose_first_ones_are_interrupted(tmp_path, kind, stride):
    command = [sys.executable, "-c", COLD, kind, str(stride)]
    surroundings = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["same"] == [True] * 3
    assert 0 < found["caught"] <= found["asked"] // stride
