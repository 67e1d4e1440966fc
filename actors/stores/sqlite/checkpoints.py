"""Writing the log back to the main file, beside the commits and not between them.

A checkpoint reads and writes some ten thousand pages and waits for the disk. On a connection and a thread of its own it
delays nobody's commit. But the log can begin anew only once all of it is written back, and under load there is always
something new in it: what came meanwhile is little, and the writer itself writes that back, between two commits.
"""

import threading
from contextlib import suppress

import apsw

# Writes between two checkpoints: the disk is slow to everybody while one is flushed, so little is better; but many
# together cost less, and that is what counts when commits are full of them.
WRITES_CALM = 512
WRITES_BUSY = 4096

_FULL = 24  # writes in a commit of a busy store


class Checkpoints:
    """Counts writes and checkpoints when there are many, until `stop`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.wants_rest = False  # what is left in the log is little, and is for the writer to write back
        self._connection = connection
        self._writes = 0
        self._many = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="store checkpoints", daemon=True)
        self._thread.start()

    def note(self, writes: int) -> None:
        """One more commit, of so many writes. Called by the writer's thread."""
        self._writes += writes
        if self._writes >= (WRITES_BUSY if writes > _FULL else WRITES_CALM):
            self._writes = 0
            self._many.set()

    def write_rest(self, connection: apsw.Connection) -> None:
        """On the writer's connection, while nobody commits: the next commit begins the log anew."""
        self.wants_rest = False
        write_back(connection)

    def stop(self) -> None:
        """End the thread."""
        self._is_over = True
        self._many.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._many.wait()
            self._many.clear()
            if self._is_over:
                return
            write_back(self._connection)
            write_back(self._connection)  # what came meanwhile, so that the rest is little indeed
            self.wants_rest = True


def write_back(connection: apsw.Connection) -> None:
    """Write back what the log holds, in nobody's way. A disk that fails is another's news: the next commit says it, and
    the log still has everything.
    """
    with suppress(apsw.Error):
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
