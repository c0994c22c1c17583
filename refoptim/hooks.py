"""Hooks: functions that run before or after a step, a save or a load, each with a handle that removes it."""

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from itertools import count
from types import TracebackType
from typing import Any

Hook = Callable[..., Any]
Hooks = OrderedDict[int, Hook]

_ids = count()


class RemovableHandle:
    """Removes a hook: call ``remove()``, or use it as a context manager. Removing twice does nothing."""

    def __init__(self, hooks: Hooks) -> None:
        self.id = next(_ids)
        self._hooks = hooks

    def remove(self) -> None:
        """Remove the hook."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> "RemovableHandle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def register(hooks: Hooks, hook: Hook, prepend: bool = False) -> RemovableHandle:
    """Add a hook behind the others, or before them, and return its handle."""
    if not callable(hook):
        raise TypeError(f"a hook must be callable, but got {hook!r}")
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


_global_pre: Hooks = OrderedDict()
_global_post: Hooks = OrderedDict()


def register_optimizer_step_pre_hook(hook: Hook) -> RemovableHandle:
    """Run ``hook(optimizer, args, kwargs)`` before every step of every optimizer."""
    return register(_global_pre, hook)


def register_optimizer_step_post_hook(hook: Hook) -> RemovableHandle:
    """Run ``hook(optimizer, args, kwargs)`` after every step of every optimizer."""
    return register(_global_post, hook)


class HookRegistry:
    """The hooks of one optimizer, and the methods that add to them."""

    def __init__(self) -> None:
        self._reset_hooks()

    def _reset_hooks(self) -> None:
        self._step_pre: Hooks = OrderedDict()
        self._step_post: Hooks = OrderedDict()
        self._save_pre: Hooks = OrderedDict()
        self._save_post: Hooks = OrderedDict()
        self._load_pre: Hooks = OrderedDict()
        self._load_post: Hooks = OrderedDict()
        self._in_step = False

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Run ``hook(optimizer, args, kwargs)`` before each step; it may return new ``(args, kwargs)``."""
        return register(self._step_pre, hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """Run ``hook(optimizer, args, kwargs)`` after each step."""
        return register(self._step_post, hook)

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Run ``hook(optimizer)`` before ``state_dict`` reads anything."""
        return register(self._save_pre, hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Run ``hook(optimizer, state_dict)`` on what ``state_dict`` returns; it may return another one."""
        return register(self._save_post, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Run ``hook(optimizer, state_dict)`` before ``load_state_dict``; it may return another state_dict."""
        return register(self._load_pre, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Run ``hook(optimizer)`` after ``load_state_dict``."""
        return register(self._load_post, hook, prepend)


def with_step_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a class's ``step`` so that hooks run around it: global, own, the step, own, global."""

    @wraps(step)
    def hooked(self: HookRegistry, *args: Any, **kwargs: Any) -> Any:
        # A step that calls the one it inherits, wrapped too, is one step.
        if self._in_step or not (_global_pre or self._step_pre or _global_post or self._step_post):
            return step(self, *args, **kwargs)
        args = (self, *args)
        for hook in (*_global_pre.values(), *self._step_pre.values()):
            replaced = hook(self, args, kwargs)
            if replaced is None:
                continue
            if not isinstance(replaced, tuple) or len(replaced) != 2:
                raise RuntimeError(f"{step} must return None or a tuple of (new_args, new_kwargs), but got {replaced}.")
            args, kwargs = replaced
        self._in_step = True
        try:
            result = step(*args, **kwargs)
        finally:
            self._in_step = False
        for hook in (*self._step_post.values(), *_global_post.values()):
            hook(self, args, kwargs)
        return result

    return hooked
