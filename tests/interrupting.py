"""Ctrl-C at every moment at which Python looks for it. CPython 3.11 looks behind calls and at the ends of loops."""

import dis
import signal
from functools import cache

# Behind these bytecodes Python looks for signals.
CHECKED = ("RESUME", "CALL", "JUMP_BACKWARD")


@cache
def _names(code):
    """Return the names of the bytecodes by their offsets."""
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


def _is_ours(module):
    return module.startswith("refoptim")


def interrupting(moment, is_own=_is_ours):
    """Return a trace function that sends SIGINT at this moment of some modules' code, and a list of all moments.

    A moment is a place behind which Python looks for signals, each time that it is reached.
    """
    last, been = {}, []

    def trace(frame, event, _):
        if not is_own(frame.f_globals["__name__"]):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if last.get(frame, "").startswith(CHECKED):
                been.append(frame)
                if len(been) == moment:
                    signal.raise_signal(signal.SIGINT)
            last[frame] = _names(frame.f_code)[frame.f_lasti]
        elif event == "exception":
            last[frame] = ""  # from a call that has raised Python goes to what handles that without looking
        return trace

    return trace, been
