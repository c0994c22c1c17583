"""Groups with ``capturable=True`` on a GPU: the scalars of the coming steps in a table there, which kernels read.

A CUDA graph repeats launches without the host. So that each repetition is the next step and not the same one again, the
host computes the scalars of many steps at once, and a step takes the row whose turn it is. The place in the table is
the step count; whoever asks the host for that reads it from the GPU.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np

from . import kernels
from .arrays import Array
from .cpu import Device, Launch
from .half_steps import fused
from .implementations import Settings, is_fused
from .scalars import packed
from .slots import Host, Run, Slots

# How long a table may get whose last row is right for ever: it takes a second or two to compute.
MOST_ROWS = 1 << 18

# A step at which the power of every float below 1 has vanished, at least as far as float64 goes.
FOREVER = 1 << 60


class Table:
    """The scalars of the coming steps of one run. Graphs know where it lies: it is filled anew, never replaced."""

    def __init__(self, device: Device, capacity: int, width: int, dtype: np.dtype[Any]) -> None:
        self.device = device
        self.capacity = capacity
        self.rows = device.zeros(capacity * width, dtype)
        self.scalars = device.zeros(width, dtype)
        # How many were taken, how many there are, and the step count before the first.
        self.position = device.zeros(3, np.dtype(np.int64))
        self.settings: Settings | None = None
        self.values: dict[str, Any] = {}  # the options that it was made from
        self.hosts: list[Host] = [None]  # before each step, and after the last; the first alone if scalars settle
        self.count = 0
        self.settles = False
        self.taken = 0  # as far as the host knows
        self.captured = False  # whether graphs may take rows
        self._halfway = False  # whether a row may have been taken for a step that failed

    def fill(self, settings: Settings, host: Host) -> None:
        """Compute and copy the rows of the steps that follow this host state. The first one is next."""
        dtype = self.rows.dtype
        needed = rows_until_settled(settings, host, dtype)
        self.settles = needed is not None and needed <= self.capacity
        numbers, hosts = _rows(settings, host, needed if self.settles and needed else self.capacity, dtype)
        self.device.copy(self.rows[: numbers.size], numbers.reshape(-1))
        self._begin(settings, len(numbers), hosts[:1] if self.settles else hosts)

    def fill_from(self, other: "Table") -> None:
        """Copy the rows of a table that was filled for the same steps."""
        self.device.copy(self.rows, other.rows)
        self.settles = other.settles
        assert other.settings is not None
        self._begin(other.settings, other.count, other.hosts)

    def _begin(self, settings: Settings, count: int, hosts: list[Host]) -> None:
        first = 0 if hosts[0] is None else hosts[0].get("step", 0)
        self.device.copy(self.position, np.array([0, count, first], np.int64))
        self.settings, self.values, self.count, self.hosts = settings, _values(settings), count, hosts
        self.taken, self._halfway = 0, False

    def holds(self, settings: Settings, host: Host) -> bool:
        """Return whether the first row is that of the step after this host state, under these settings."""
        return self.settings is settings and self.hosts[0] == host

    def fits(self, settings: Settings, host: Host) -> bool:
        """Return whether the next row is that of the step after this host state, under these settings."""
        if not self.count or self._halfway or not (self.settles or self.taken < self.count):
            return False
        same = self.settings is settings or self.values == _values(settings)
        return same and self.host(self.taken) == host

    def host(self, taken: int) -> Host:
        """Return the host state after so many steps."""
        if taken < len(self.hosts):
            return self.hosts[taken]
        if not self.settles:
            raise RuntimeError(
                f"a CUDA graph has repeated {taken} steps since the last ordinary one, but there were scalars for "
                f"{self.count}: the last {taken - self.count} used those of another step. Call step() itself at least "
                f"once in {self.count} steps, or load a state from before"
            )
        first = {"step": 0} if self.hosts[0] is None else self.hosts[0]
        return {"step": first["step"] + taken}

    def read(self) -> int:
        """Return how many rows were taken, also by graphs: then the host waits for the GPU."""
        # After a failure nobody knows whose row was taken; the next step fills the table anew.
        return int(self.device.host(self.position)[0]) if self.captured and not self._halfway else self.taken

    def take(self, recorded: bool) -> None:
        """Let the next launch read the next row."""
        self._halfway = not recorded
        kernels.tables.take_row_gpu.run(1, self.scalars.size, self.scalars, self.rows, self.position)

    def advance(self) -> None:
        """Take note that a step has been launched."""
        self.taken += 1
        self._halfway = False

    def capture(self) -> None:
        """Take note that a step has been captured: from now on rows may be taken unseen."""
        self.captured = True


def begin_step(settings: Settings, slots: Slots) -> bool:
    """Return whether a group's step is recorded by a CUDA graph and does not run. If it runs, count what graphs did."""
    if not (slots.tables or _is_capturable(settings)):
        return False
    with slots.device.here():
        recorded = kernels.jit.capturing()
    if not recorded:
        slots.catch_up()
    return recorded and _is_capturable(settings)


def reads_table(settings: Settings) -> bool:
    """Return whether kernels take a group's scalars from a table, where the parameters are on a GPU."""
    return _is_capturable(settings) and is_fused(settings.group)


def _is_capturable(settings: Settings) -> bool:
    # Groups may have options that their optimizer does not know.
    return bool(settings.group.get("capturable")) and "capturable" in settings.algorithm.defaults


def check_capture(settings: Settings, slots: Slots, runs: list[Run]) -> None:
    """Raise if a step cannot be captured, in which nothing may be allocated or copied from the host."""
    if not is_fused(settings.group):
        raise RuntimeError("foreach=True and fused=False cannot be captured in a CUDA graph: leave both at None")
    for run in runs:
        table = slots.tables.get(_key(settings, slots, run))
        if table is None or not table.fits(settings, slots.host_of(run.first)):
            raise RuntimeError(
                "a step to be captured in a CUDA graph must find its scalars on the GPU: run one step first, with the "
                "same options, and gradients for the same parameters"
            )


def plan_with_table(settings: Settings, slots: Slots, run: Run, *, recorded: bool) -> list[Launch]:
    """Return what computes the step of a run with the scalars of a table, filled anew if it must be."""
    key, host = _key(settings, slots, run), slots.host_of(run.first)
    table = slots.tables.get(key) or _new_table(settings, slots, host, key[-1])
    if not table.fits(settings, host):
        alike = (other for other in slots.tables.values() if other.holds(settings, host))
        same = next((other for other in alike if other.rows.size == table.rows.size), None)
        if same is None or same is table:
            table.fill(settings, host)
        else:
            table.fill_from(same)
    slots.tables[key] = table
    step: Launch = (settings.variant.kernel, (*slots.arrays_of(run, settings.state_of(slots)), table.scalars))
    if slots.is_half:
        step = fused(settings, slots, run, table.scalars, table.position)
    calls: list[Launch] = [(table.take, (recorded,)), step]
    return [*slots.device.launches(calls), (table.capture if recorded else table.advance, ())]


def _new_table(settings: Settings, slots: Slots, host: Host, dtype: np.dtype[Any]) -> Table:
    """Return an empty table, and drop those that nobody will use again."""
    for key, table in list(slots.tables.items()):
        if not table.captured and table.host(table.taken) != slots.host_of(key[0]):
            del slots.tables[key]
    width = len(settings.algorithm._scalars(settings.options, host))
    needed = rows_until_settled(settings, host, dtype) or 0
    return Table(slots.device, max(settings.algorithm.table_rows, needed), width, dtype)


def _key(settings: Settings, slots: Slots, run: Run) -> tuple[int, int, Any, np.dtype[Any]]:
    dtype = slots.arithmetic if settings.wide is None else settings.wide
    return run.first, run.stop, settings.variant.kernel, dtype


def rows_until_settled(settings: Settings, host: Host, dtype: np.dtype[Any]) -> int | None:
    """Return how many rows there are until all further ones are the same. None if there are too many, or no end."""
    algorithm, options = settings.algorithm, settings.options
    names = algorithm._powers(options)
    if names is None:
        return None
    # Scalars are monotonic in each power, so that between those with one power and those with none lie all others.
    alone = [options._replace(**{other: 0.0 for other in names if other != name}) for name in names] or [options]

    def row(options: Any, step: int) -> bytes:
        return packed(algorithm._scalars(options, {"step": step}), dtype).tobytes()

    limits = [row(options, FOREVER) for options in alone]
    start = 0 if host is None else host["step"]
    low, high = start, start + MOST_ROWS - 1

    def settled(step: int) -> bool:
        return all(row(options, step) == limit for options, limit in zip(alone, limits, strict=True))

    if not settled(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if settled(middle) else (middle + 1, high)
    return low - start + 1


def _rows(settings: Settings, host: Host, count: int, dtype: np.dtype[Any]) -> tuple[Array, list[Host]]:
    """Return the scalars of this many steps, and the host states before them and after the last."""
    hosts = [host]
    rows = [packed(_next(settings, hosts), dtype)]
    while len(rows) < count:
        try:
            rows.append(packed(_next(settings, hosts), dtype))
        except (ValueError, ArithmeticError):
            break  # a later step will raise it
    return np.stack(rows), hosts


def _next(settings: Settings, hosts: list[Host]) -> tuple[float, ...]:
    """Return the scalars of a step, and append the host state after it."""
    scalars = settings.algorithm._scalars(settings.options, hosts[-1])
    hosts.append(settings.algorithm._advance(settings.group, hosts[-1]))
    return scalars


def _values(settings: Settings) -> dict[str, Any]:
    """Return a copy of a group's options that can be compared."""
    return dict(_options(settings.group))


def _options(group: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in group.items():
        if name not in ("params", "param_names"):
            yield name, np.asarray(value).tolist() if hasattr(value, "__array__") else deepcopy(value)
