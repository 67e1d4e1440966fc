"""Rules of the spec, broken one at a time inside this process: how a rule is broken, and mended again.

Each breakage patches the product where its names are looked up at call time, and nothing else. It knows neither
scripts nor people.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import pytest

from vigil.actors.core import lifecycle
from vigil.actors.core.commands import Transition
from vigil.actors.core.events import Renewed
from vigil.actors.core.expiry import Phase
from vigil.actors.core.records import Session, TimeoutConfig

Patch = pytest.MonkeyPatch


_ROOMS = ("vigil.actors", "vigil.server")


DEFAULTS = TimeoutConfig(30, True, 180, 5)


class Breakage(NamedTuple):
    """A rule that does not hold any more: its section of the spec, what is wrong, and how it comes about."""

    section: int
    what: str
    apply: Callable[[Patch], None]


BREAKAGES: dict[str, Breakage] = {}


@contextmanager
def broken(breakage: Breakage) -> Iterator[None]:
    """The rule is broken until the block is left. Nothing that was computed meanwhile is remembered."""
    with pytest.MonkeyPatch.context() as patch:
        _forget_computed()
        breakage.apply(patch)
        try:
            yield
        finally:
            _forget_computed()


def _forget_computed() -> None:
    """Sessions of one seed are equal in every run, so what is cached for them would outlive the breakage."""
    for module in _modules():
        for value in list(vars(module).values()):
            if type(value) is _Cached and value is not _documentation():
                value.cache_clear()


_Cached = type(lru_cache(lambda: None))  # asked for anything else, Quart's proxies raise


def _documentation() -> Any:
    """Costs a second to make, and depends on no rule."""
    return (
        sys.modules["vigil.server.ops.site"]._documentation
        if "vigil.server.ops.site" in sys.modules
        else None
    )


def _modules() -> list[Any]:
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(_ROOMS)]


def everywhere(patch: Patch, old: object, new: object) -> None:
    """Replace a function of a module under all names that it was imported as."""
    for module in _modules():
        for name, value in list(vars(module).items()):
            if value is old:
                patch.setattr(module, name, new)


Handler = Callable[[Any, Any, int], Transition]


Apply = Callable[[Patch], None]


def breaks(section: int, name: str, what: str) -> Callable[[Apply], Apply]:
    def note(apply: Apply) -> Apply:
        BREAKAGES[name] = Breakage(section, what, apply)
        return apply

    return note


def replace_handler(
    patch: Patch,
    command: type,
    change: Callable[[Handler, Any, Any, int], Transition],
    phase: Phase = Phase.LIVE,
) -> None:
    """Have `change(handler, state, command, now)` take the place of what that command does."""
    handler = lifecycle.TABLE[phase][command]
    patch.setitem(
        lifecycle.TABLE[phase], command, lambda state, asked, now: change(handler, state, asked, now)
    )


Activity = tuple[Session, tuple[Renewed, ...]]


def at_activity(patch: Patch, change: Callable[[Session, Activity], Session]) -> None:
    """Have `change(before, (after, news))` say what the session is after a sign of life."""
    real = lifecycle._activity

    def activity(session: Session, now: int) -> Activity:
        outcome = real(session, now)
        return change(session, outcome), outcome[1]

    patch.setattr(lifecycle, "_activity", activity)
