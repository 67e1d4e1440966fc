"""Which functions of the product were called, in the order of their first calls."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

from tests import ROOT

ROOMS = ("actors", "server", "scenarios", "loadtests")


@contextmanager
def noted_calls() -> Iterator[dict[str, None]]:
    """Each function that this thread, or one begun in the block, calls is a key once: `room/folder/file.py name`.

    `name` is without its class. Clear the dict to begin anew. Nothing else may use `sys.setprofile` meanwhile.
    """
    calls: dict[str, None] = {}

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and (path := _in_a_room(frame.f_code.co_filename)):
            calls.setdefault(f"{path} {frame.f_code.co_name}")

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@cache
def _in_a_room(path: str) -> str:
    """Where a file of the product stands in the repository, "" for all others. `src/vigil` holds links to the rooms."""
    found = Path(path).resolve()
    inside = found.relative_to(ROOT) if found.is_relative_to(ROOT) else Path()
    return inside.as_posix() if inside.parts[:1] and inside.parts[0] in ROOMS else ""
