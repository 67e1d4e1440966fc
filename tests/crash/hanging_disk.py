"""`vigil serve` on a disk that stops to answer once the file HANG is there: commits, or reads, then wait for ever.

An entry script for tests: `python -m tests.crash.hanging_disk COMMIT|READ FILE serve ...`.
"""

import hashlib
import sys
import threading
from pathlib import Path
from typing import Any

import vigil.__main__ as vigil
from vigil.actors.stores.sqlite.store import SqliteStore
from vigil.actors.stores.sqlite.writer import Writer
from vigil.server.ops import last_resort


def main() -> int:
    what, file, *words = sys.argv[1:]
    hang = Path(file)
    commit, rows = Writer._outcomes_of, SqliteStore._rows

    def hanging_commit(self: Writer, *arguments: Any) -> Any:
        if hang.exists():
            threading.Event().wait()
        return commit(self, *arguments)

    def hanging_read(self: SqliteStore, *arguments: Any) -> Any:
        if hang.exists():  # in the event loop, in a call of the system's that no signal ends
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
        return rows(self, *arguments)

    if what == "COMMIT":
        Writer._outcomes_of = hanging_commit  # type: ignore[assignment, method-assign]
    else:
        SqliteStore._rows = hanging_read  # type: ignore[assignment, method-assign]
    last_resort.AFTER_GRACE_S = 0.7
    return vigil.main(words)


if __name__ == "__main__":
    sys.exit(main())
