"""The thread that writes: one transaction and one fsync for all callers that wait, erasure in between.

It owns the writing connection and knows nothing of Trio. A removed session's messages and saved answers are
purged in chunks, each bounded in time, so that nobody's commit waits for a long history to go.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import NamedTuple

import apsw

from actors.clock import Anchor
from actors.errors import StoreUnavailable
from actors.stores.base import RemoveSession, Write
from actors.stores.sqlite_schema import SET_ANCHOR, STATEMENTS, ForgetWindows

RETRY_S = 1.0  # until erasing is tried again after the disk or a reader was in the way
CHUNK_S = 0.003  # of deleting in one transaction; writing it out takes about as long again
CHUNK_GROWS_S = 10.0  # of purging, after which a chunk is twice as long, and so on
CHUNK_ROWS = 16  # deleted between two looks at the time
CLOSE_PURGE_S = 2.0  # of erasing before the file is closed; the rest goes after the next start

Outcome = Exception | None
Call = Sequence[Write | ForgetWindows]


class Batch(NamedTuple):
    """Callers that share a transaction, and who is told what became of each and how many seconds it took."""

    calls: Sequence[Call]
    anchor: Anchor | None
    report: Callable[[Sequence[Outcome], float], None]


_FIRST_PURGE = "SELECT session FROM purges LIMIT 1"
_PURGE = tuple(
    f"DELETE FROM {table} WHERE n IN (SELECT n FROM {table} WHERE session = ? LIMIT {CHUNK_ROWS})"  # noqa: S608  constants
    for table in ("messages", "saved_answers")
)
_PURGE_DONE = "DELETE FROM purges WHERE session = ?"


class Writer:
    """Takes batches until `stop`. What was deleted has left all files `erase_delay_s` later."""

    def __init__(self, connection: apsw.Connection, erase_delay_s: float) -> None:
        self._connection = connection
        self._erase_delay_s = erase_delay_s
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._purge_at: float | None = 0.0  # when to look for something to purge; None when there is nothing
        self._purging_since: float | None = None
        self._truncate_at: float | None = 0.0  # when the log has to be emptied; None when nothing was deleted
        self._tidy()
        self._thread = threading.Thread(target=self._run, name="store writer", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        self._batches.put(batch)

    def stop(self) -> None:
        """Finish what was put and end the thread; gives the connection back."""
        self._batches.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            started = perf_counter()
            outcomes = self._commit(batch.calls, batch.anchor)
            batch.report(outcomes, perf_counter() - started)
            self._tidy()
        self._finish()

    def _next(self) -> Batch | None:
        """The next batch, None to stop. Nothing else being due, erasing goes on meanwhile."""
        while True:
            due = min((at for at in (self._purge_at, self._truncate_at) if at is not None), default=None)
            try:
                return self._batches.get(timeout=None if due is None else max(0.0, due - monotonic()))
            except Empty:
                self._tidy()

    # --- batches

    def _commit(self, calls: Sequence[Call], anchor: Anchor | None) -> list[Outcome]:
        """Commit all or nothing. A call that can never be committed is told so and takes nobody with it."""
        try:
            with self._transaction():
                self._apply(calls, anchor)
        except (apsw.ConstraintError, apsw.TooBigError) as error:
            bug: Exception = error
        except apsw.Error as error:
            return [StoreUnavailable(str(error)) for _ in calls]
        except Exception as error:
            bug = error
        else:
            return [None] * len(calls)
        if len(calls) == 1:
            return [bug]
        return [outcome for call in calls for outcome in self._commit([call], anchor)]

    def _apply(self, calls: Sequence[Call], anchor: Anchor | None) -> None:
        groups: dict[type, list[Write | ForgetWindows]] = {}
        for call in calls:
            for write in call:
                groups.setdefault(type(write), []).append(write)
        for kind, statements in STATEMENTS.items():
            if writes := groups.get(kind):
                for sql, bindings in statements:
                    self._connection.executemany(sql, bindings(writes))
        if anchor is not None:
            self._connection.execute(SET_ANCHOR, anchor)
        if RemoveSession in groups:
            self._purge_at = 0.0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # --- erasure

    def _tidy(self) -> None:
        """Do what is due of erasing: at most one chunk of purging, at most one emptying of the log."""
        now = monotonic()
        if self._purge_at is not None and now >= self._purge_at:
            self._purge_at = self._purge(now)
        if self._truncate_at is not None and now >= self._truncate_at:
            self._truncate_at = self._truncate(now)

    def _purge(self, now: float) -> float | None:
        """Delete one chunk of what removed sessions left behind; gives when to go on."""
        if self._purging_since is None:
            self._purging_since = now
        # The longer it takes, the larger its share: it has to be done within a minute under any load.
        until = now + CHUNK_S * (1 + (now - self._purging_since) / CHUNK_GROWS_S)
        try:
            with self._transaction():
                is_done = self._purge_until(until)
        except apsw.Error:
            return now + RETRY_S
        if self._truncate_at is None:
            self._truncate_at = now + self._erase_delay_s
        if not is_done:
            return now
        self._purging_since = None
        return None

    def _purge_until(self, until: float) -> bool:
        """Gives whether nothing is left to purge."""
        while True:
            session = self._connection.execute(_FIRST_PURGE).get
            if session is None:
                return True
            if not sum(self._delete(sql, session) for sql in _PURGE):
                self._delete(_PURGE_DONE, session)
            if monotonic() >= until:
                return False

    def _delete(self, sql: str, session: int) -> int:
        """Gives how many rows it deleted."""
        self._connection.execute(sql, (session,))
        return self._connection.changes()

    def _truncate(self, now: float) -> float | None:
        """Write the log back and empty it; gives when to try again if the disk or a reader is in the way."""
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.Error:
            return now + RETRY_S
        return None

    def _finish(self) -> None:
        until = monotonic() + CLOSE_PURGE_S
        while self._purge_at is not None and monotonic() < until:
            self._purge_at = self._purge(monotonic())
        self._truncate(monotonic())
