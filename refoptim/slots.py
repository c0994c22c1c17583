"""The parameters of one group, dtype and device with their state, and the runs of them that can step at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, is_half
from .buffers import REAL_TYPE, FlatBuffer
from .cpu import CPU, Device
from .half import MASTER
from .neighbours import gather, gathered, is_neighbour, lie_together
from .parameter import Parameter
from .places import copied
from .state_arrays import Shape, StateArrays

# What is kept for a parameter beside arrays, such as {"step": 3}; None while there is no state. Never changed in place:
# parameters share one object for as long as they agree.
Host = dict[str, Any] | None


class MovedError(RuntimeError):
    """Parameters have moved to another device than their state's."""


class Run(NamedTuple):
    """Neighbours that can step in one launch: all have a gradient and the same host state."""

    first: int  # the first parameter, as its place in the slots
    stop: int  # behind the last one
    theta: Any
    grad: Any
    span: slice | None  # their elements in the state arrays; None is all


class Places(NamedTuple):
    """Where some parameters of a run lie, and what they are, for a kernel that steps them in one launch."""

    # A row for each: its first element, counted from the run's; of how many matrices it consists, of how many rows and
    # columns, or 0, 0 and its elements, if it has fewer than two dimensions; and where its part of each state array is,
    # counted from the first one's.
    table: Array
    elements: int  # of all of them
    longest: int  # the most elements that one has
    has_flat: bool  # whether there are any of fewer than two dimensions, and any others
    has_matrices: bool


class Slots:
    """Some parameters with their state: arrays, each flat and in the parameters' order, and host state.

    The parameters move into one buffer when ``occupy`` is called, which does not fail: there is room for them by then.
    While all parameters agree, ``host`` is what they share and ``hosts`` is None. When they part, because some had no
    gradient, ``hosts`` has an entry for each.
    """

    def __init__(
        self,
        params: list[Parameter],
        initial_host: dict[str, Any],
        array_names: tuple[str, ...],
        shapes_of: Callable[[Shape], Mapping[str, Shape | None]] = lambda _: {},
        wide_state: bool = False,  # whether the state of parameters of 16 bits is float32
    ) -> None:
        self.params = params
        self.device = params[0].place
        self._move: Callable[[], None] | None = gathered(params, self.device)
        self.places = {param: place for place, param in enumerate(params)}
        self.initial_host = initial_host
        self.array_names = array_names
        self.dtype: np.dtype[Any] = params[0].dtype
        self.real = REAL_TYPE[self.dtype]
        self.is_half = is_half(self.dtype)
        # What is computed in, as a rule.
        self.arithmetic = np.dtype(np.float32) if self.is_half else self.real
        self.has_wide_state = wide_state and self.is_half
        kinds = (self.arithmetic, self.arithmetic) if self.has_wide_state else (self.dtype, self.real)
        self.state = StateArrays([param.shape for param in params], shapes_of, *kinds, self.device)
        self.extras: dict[int, dict[Any, Any]] = {}
        self.host: Host = None
        self.hosts: list[Host] | None = None
        self._whole: list[Run] | None = None
        self._taken: tuple[Run, tuple[str, ...], tuple[Any, ...]] | None = None
        self._home: tuple[Any, int] = (None, 0)
        # What all of them launched last, if it can be launched again for as long as they go on as they were.
        self.ready: Any = None
        # Of how many rows which ones have state, by parameter; known where sparse gradients have made it.
        self.touched: dict[int, tuple[int, np.ndarray[Any, Any]]] = {}
        # The scalars of coming steps on a GPU, by what takes them; see the module ``tables``.
        self.tables: dict[Any, Any] = {}
        self._filled = False  # whether state that has not begun may be other than 0

    def occupy(self) -> None:
        """Move the parameters into their buffer."""
        if self._move is not None:
            self._move()
            self._move = None  # it knows the buffer, which others may leave

    def runs(self, stateful: bool) -> list[Run]:
        """Return what has a gradient, cut where neighbours differ in host state or do not touch in memory."""
        buffer = self.params[0].buffer
        # Only while all lie in one piece does the first one's buffer tell when any of them leaves.
        if buffer is None or self._whole is None or self._home != (buffer, buffer.moves):
            buffer = self._settle()
        if buffer.missing == 0 and self._whole is not None and (self.hosts is None or not stateful):
            return self._whole
        return list(self._cut(stateful))

    def goes_on(self, stateful: bool) -> bool:
        """Return whether parameters lie where the last run of all had them, with gradients, and have the same state."""
        (home, moves), begun = self._home, self.host is not None or not stateful
        is_home = self.params[0].buffer is home is not None and home.moves == moves and home.missing == 0
        return is_home and begun and self.hosts is None and not self.touched

    def _settle(self) -> FlatBuffer:
        """Find the run of all parameters, if they lie in one piece, as they do until another optimizer moves some."""
        self.ready = None
        if any(param.place is not self.device for param in self.params):
            raise MovedError
        if any(param.is_loose for param in self.params):
            # An optimizer with differentiable=True has taken them out.
            gather(self.params)
        buffer = self.params[0].buffer
        assert buffer is not None
        count = len(self.params)
        self._whole = [Run(0, count, *self._slices(0, count), None)] if lie_together(self.params) else None
        self._home = (buffer, buffer.moves)
        return buffer

    def _cut(self, stateful: bool) -> Iterator[Run]:
        first = None
        for place, param in enumerate(self.params):
            if first is not None and not self._continues(place, stateful):
                yield self._run(first, place)
                first = None
            if first is None and param.has_flat_grad:
                first = place
        if first is not None:
            yield self._run(first, len(self.params))

    def _continues(self, place: int, stateful: bool) -> bool:
        left, right = self.params[place - 1], self.params[place]
        agree = not stateful or self.host_of(place - 1) == self.host_of(place)
        return right.has_flat_grad and agree and is_neighbour(left, right)

    def _run(self, first: int, stop: int) -> Run:
        span = slice(self.state.offsets[first], self.state.offsets[stop])
        return Run(first, stop, *self._slices(first, stop), span)

    def _slices(self, first: int, stop: int) -> tuple[Any, Any]:
        param = self.params[first]
        assert param.buffer is not None
        begin = param.offset * (self.dtype.itemsize // self.real.itemsize)
        end = begin + self.state.offsets[stop] - self.state.offsets[first]
        return param.buffer.theta[begin:end], param.buffer.grad[begin:end]

    def arrays_of(self, run: Run, names: tuple[str, ...]) -> tuple[Any, ...]:
        """Return parameters, gradients and these state arrays of a run, in the order in which kernels take them."""
        arrays = self.state.arrays
        if run.span is not None:
            return (run.theta, run.grad, *[arrays[name][run.span] for name in names])
        if self._taken is None or self._taken[0] is not run or self._taken[1] is not names:
            self._taken = (run, names, (run.theta, run.grad, *[arrays[name] for name in names]))
        return self._taken[2]

    def each(self, run: Run) -> Iterator[Run]:
        """Cut a run into its parameters."""
        for place in range(run.first, run.stop):
            yield self.run_of(place)

    def run_of(self, place: int) -> Run:
        """Return a parameter as a run of its own."""
        return self._run(place, place + 1)

    def sparse_places(self) -> list[int]:
        """Return the parameters whose gradient is sparse."""
        return [place for place, param in enumerate(self.params) if param.has_sparse_grad]

    def forget_rows(self, first: int, stop: int) -> None:
        """Take note that the state of these parameters was written everywhere."""
        for place in range(first, stop):
            self.touched.pop(place, None)

    def shaped_arrays(self, places: Iterable[int], names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """Yield values, gradient and state arrays of each parameter, in their shapes. What it lacks is empty."""
        state, see = self.state, self.device.kernels_array
        nothing = self.device.zeros(0, state.real)
        for place in places:
            param = self.params[place]
            own = (nothing if state.shape_of(name, place) is None else state.shaped(name, place) for name in names)
            yield (see(param.data), see(param.grad), *own)

    def shared_arrays(self, first: int, stop: int, names: tuple[str, ...]) -> tuple[Any, ...]:
        """Return parameters, gradients and state arrays of neighbours, flat, whatever the shapes of their state."""
        return (*self._slices(first, stop), *(self.state.between(name, first, stop) for name in names))

    def shaped_places(self, places: Iterable[int], first: int, names: tuple[str, ...]) -> Places:
        """Return what some parameters are, and where in the shared arrays from this first one on."""
        rows, sizes = [], []
        for place in places:
            param = self.params[place]
            matrices = (prod(param.shape[:-2]), *param.shape[-2:]) if param.ndim > 1 else (0, 0, param.size)
            start = self.state.offsets[place] - self.state.offsets[first]
            own = (self.state.start_of(name, place) - self.state.start_of(name, first) for name in names)
            rows.append((start, *matrices, *own))
            sizes.append(param.size)
        table = np.array(rows, np.int64)
        has_flat, has_matrices = (bool(are.any()) for are in (table[:, 1] == 0, table[:, 1] != 0))
        return Places(table, sum(sizes), max(sizes), has_flat, has_matrices)

    def prepare(self, names: tuple[str, ...], fill: Mapping[str, float]) -> None:
        """Make sure that these state arrays exist. It shows nowhere until a parameter has state."""
        for name in names:
            if name not in self.state.arrays:
                # Master weights of zero are those of parameters of zero; others are found to differ from theirs.
                if name != MASTER and any(self._lacks(name, place) for place in range(len(self.params))):
                    raise KeyError(
                        f"{name}: the option that needs this state was switched on after the first step; "
                        f"the state has {', '.join(self.state.arrays)}"
                    )
                self.state.make(name)
        if any(fill.values()) or self._filled:
            self._fill(names, fill)
            self._filled = any(fill.values())

    def _lacks(self, name: str, place: int) -> bool:
        """Return whether a parameter with state would have this array too, had it been there from the start."""
        return self.host_of(place) is not None and self.state.shape_of(name, place) is not None

    def _fill(self, names: tuple[str, ...], values: Mapping[str, float]) -> None:
        """Write the initial values of state that has not begun: the only place that knows them all is the step."""
        if self.hosts is None and self.host is not None:
            return
        places = [None] if self.hosts is None else [place for place, host in enumerate(self.hosts) if host is None]
        for name in names:
            for place in places:
                self.state.fill(name, place, values.get(name, 0.0))

    def host_of(self, place: int) -> Host:
        """Return a parameter's host state."""
        return self.host if self.hosts is None else self.hosts[place]

    def catch_up(self) -> None:
        """Count the steps that CUDA graphs have repeated since the host last looked; the host waits for them."""
        for (first, stop, *_), table in self.tables.items():
            taken = table.read()
            if taken != table.taken:
                before, after = table.host(table.taken), table.host(taken)
                if any(self.host_of(place) != before for place in range(first, stop)):
                    raise RuntimeError(
                        f"a CUDA graph has repeated {taken - table.taken} steps that go on from a state with "
                        f"{before}, but meanwhile the state has changed: capture the graph anew after such a change"
                    )
                self.set_host(first, stop, after)
                table.taken = taken

    def set_host(self, first: int, stop: int, host: Host) -> None:
        """Give these parameters the same host state."""
        if stop - first == len(self.params):
            self.host, self.hosts = host, None
            return
        if self.hosts is None:
            self.hosts = [self.host] * len(self.params)
        self.hosts[first:stop] = [host] * (stop - first)
        # The last one is asked first: setting one after the other then takes linear time.
        if self.hosts[-1] == host and all(other == host for other in self.hosts):
            self.host, self.hosts = host, None

    def saved(self, copy: bool) -> list[dict[Any, Any]]:
        """Return each parameter's state: with its arrays, or with parts of one copy of each flat array."""
        hosts = [self.host] * len(self.params) if self.hosts is None else self.hosts
        entries: list[dict[Any, Any]] = [{} if host is None else host.copy() for host in hosts]
        if not copy:
            # Whoever has the arrays may write into them anywhere.
            self.touched.clear()
        for name in self.state.arrays if self.host is not None or self.hosts is not None else ():
            views = self.state.copies(name) if copy else self.state.views(name)
            for entry, view in zip(entries, views, strict=True):
                entry[name] = view
            for place in self.state.lacking(name):
                del entries[place][name]
        if self.hosts is not None:
            entries = [{} if host is None else entry for host, entry in zip(hosts, entries, strict=True)]
        for place, extra in self.extras.items():
            entries[place] |= copied(extra) if copy else extra
        return entries

    def restore(self, place: int, entry: Mapping[Any, Any]) -> None:
        """Give a parameter without state a copy of this one, which has been checked."""
        numbers = {name: value for name, value in entry.items() if name in self.initial_host}
        if numbers:
            self.set_host(place, place + 1, {**self.initial_host, **numbers})
        for name in self.array_names:
            if name in entry:
                self.write(name, place, entry[name])
        known = {*self.initial_host, *self.array_names}
        extra = {name: value for name, value in entry.items() if name not in known}
        if extra:
            self.extras[place] = copied(extra)

    def write(self, name: str, place: int, values: Any) -> None:
        """Copy values into a parameter's part of a state array."""
        self.state.write(name, place, values)
        self.touched.pop(place, None)
        if self.host_of(place) is None:
            self.set_host(place, place + 1, dict(self.initial_host))

    def clear(self, place: int) -> None:
        """Forget a parameter's state: its next step is its first."""
        self.set_host(place, place + 1, None)
        self.extras.pop(place, None)
        self.touched.pop(place, None)
        self.state.erase(place)

    def moved(self, device: Device) -> Callable[[], None]:
        """Copy parameters and state arrays to a device. Until what this returns is called nothing has changed."""
        self.catch_up()
        if device is self.device and all(param.place is device for param in self.params):
            return lambda: None
        occupy, move_state = gathered(self.params, device), self.state.moved(device)

        def move() -> None:
            occupy()
            move_state()
            self.device, self.tables = device, {}
            self._whole, self._taken, self._home, self.ready = None, None, (None, 0), None

        return move

    def __getstate__(self) -> dict[str, Any]:
        self.catch_up()
        kept = self.__dict__ | {"_whole": None, "_taken": None, "_home": (None, 0), "ready": None, "tables": {}}
        if self.device is not CPU:
            kept["extras"] = {place: copied(entry) for place, entry in self.extras.items()}
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Copied parameters come one by one.
        gathered(self.params, self.device)()
