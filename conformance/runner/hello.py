"""The first request: who answers, and what it has."""

from typing import Any

from refoptim.conformance.runner.answer import PROTOCOL, Message
from refoptim.conformance.runner.transport import ProtocolError, Transport


def hello(transport: Transport, suite: str) -> Message:
    """Return who answers, and what it has.

    Raises:
        ProtocolError: it does not say so, or speaks another version of the protocol.

    """
    found = transport.ask({"cmd": "hello", "protocol": PROTOCOL, "suite": suite})
    if wrong := _wrong_hello(found):
        raise ProtocolError("hello", wrong)
    return found


def _wrong_hello(found: Message) -> str:
    """Return what is wrong with the answer to hello, nothing if it is right."""
    if found.get("errored"):
        error = found.get("error")
        return f"it failed: {error.get('kind')}: {error.get('message')}" if isinstance(error, dict) else f"{error}"
    who = found.get("implementation")
    named = isinstance(who, dict) and all(isinstance(who.get(name), str) for name in ("name", "version"))
    if found.get("ok") is not True or not named:
        return f"it does not say who it is: {str(found)[:80]}"
    if found.get("protocol") != PROTOCOL:
        return f"it speaks protocol {found.get('protocol')!r}, this is {PROTOCOL}"
    optimizers, schedulers = found.get("optimizers"), found.get("schedulers")
    lists = [*(optimizers.values() if isinstance(optimizers, dict) else ()), schedulers or []]
    if not isinstance(optimizers, dict | None) or not all(map(_is_words, lists)):
        return "its optimizers are a list of features for each name, its schedulers a list of names; or null"
    return ""


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
