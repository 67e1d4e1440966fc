"""Writing: one transaction and one fsync for all callers that wait, erasure in between.

It owns the writing connection and knows nothing of Trio. Statements are short and many, commits are long and few. So
the caller's own thread carries out a batch's statements, where no lock of Python's is handed to and fro for each, and
the writer's thread commits it: one call, in which the disk is waited for and Python runs on. A removed session's
messages and saved answers are purged in chunks by that thread, each bounded in time, so that nobody's commit waits for
a long history to go. A third thread writes the log back to the main file (`Checkpoints`).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import apsw
import structlog

from vigil.actors.core.errors import RecordDamaged, StoreUnavailable
from vigil.actors.core.records import Anchor
from vigil.actors.stores.base import RemoveSession, Write
from vigil.actors.stores.sqlite.checkpoints import Checkpoints
from vigil.actors.stores.sqlite.schema import SET_ANCHOR, STATEMENTS, ForgetWindows

log = structlog.get_logger()

RETRY_S = 1.0  # until erasing is tried again after the disk or a reader was in the way
CHUNK_S = 0.003  # of deleting in one transaction; writing it out takes about as long again
CHUNK_GROWS_S = 10.0  # of purging, after which a chunk is twice as long, and so on
CHUNK_ROWS = 16  # deleted between two looks at the time
SMALL = 512  # writes of a batch that are carried out in the caller's thread
CLOSE_PURGE_S = 2.0  # of erasing before the file is closed; the rest goes after the next start

Outcome = Exception | None
Call = Sequence[Write | ForgetWindows]


class Batch(NamedTuple):
    """Callers that share a transaction, and the callback for the outcome of each and the seconds it took."""

    calls: Sequence[Call]
    anchor: Anchor | None
    report: Callable[[Sequence[Outcome], float], None]


class _Put(NamedTuple):
    """A batch on its way to the thread. `is_begun`: its statements are carried out, and it only has to be committed."""

    batch: Batch
    is_begun: bool
    began_s: float


_FIRST_PURGES = "SELECT session FROM purges LIMIT ?"
_PURGE = tuple(
    f"DELETE FROM {table} WHERE n IN (SELECT n FROM {table} WHERE session = ? LIMIT {CHUNK_ROWS})"  # noqa: S608  constants
    for table in ("messages", "saved_answers")
)
_PURGE_DONE = "DELETE FROM purges WHERE session = ?"


def _is_small(batch: Batch) -> bool:
    """Whether carrying it out holds nobody up for long."""
    return sum(map(len, batch.calls)) <= SMALL


class Writer:
    """Takes batches until `stop`. What was deleted has left all files `erase_delay_s` later."""

    def __init__(
        self,
        connection: apsw.Connection,
        checkpoints: Checkpoints,
        erase_delay_s: float,
        is_there: Callable[[], bool],
    ) -> None:
        """`is_there` tells whether the file still has its name: what is committed to one without is lost."""
        self._connection = connection
        self._is_there = is_there
        self._purging = 0  # the session whose rest is being deleted
        self._unpurgeable: set[int] = set()  # sessions whose rest stands on damaged pages
        self._checkpoints = checkpoints
        self._erase_delay_s = erase_delay_s
        self._puts: SimpleQueue[_Put | None] = SimpleQueue()
        self._use = threading.Lock()  # of the connection: held from a batch's first statement to its commit
        self._purge_at: float | None = 0.0  # when to look for something to purge; None when there is nothing
        self._purging_since: float | None = None
        self._truncate_at: float | None = 0.0  # when the log has to be emptied; None when nothing was deleted
        self._tidy()
        self._thread = threading.Thread(target=self._run, name="store writer", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Have a batch committed; one at a time. Its statements are carried out here if they are few and nothing is
        being erased right now.
        """
        began_s = perf_counter()
        is_begun = _is_small(batch) and self._use.acquire(blocking=False) and self._begin(batch)
        self._puts.put(_Put(batch, is_begun, began_s))

    def stop(self) -> None:
        """Finish what was put and end the thread; gives the connection back."""
        self._puts.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (put := self._next()) is not None:
            outcomes = self._outcomes_of(put)
            has_more_to_do = self._is_due(monotonic()) or self._checkpoints.wants_rest
            if not has_more_to_do:
                self._use.release()  # before the report: the next batch may come right after it
            put.batch.report(outcomes, perf_counter() - put.began_s)
            if has_more_to_do:
                self._tidy()
                self._use.release()
        self._finish()

    def _next(self) -> _Put | None:
        """The next batch, None to stop. Nothing else being due, erasing goes on meanwhile."""
        while True:
            due = min((at for at in (self._purge_at, self._truncate_at) if at is not None), default=None)
            try:
                return self._puts.get(timeout=None if due is None else max(0.0, due - monotonic()))
            except Empty:
                if not self._use.acquire(blocking=False):
                    return self._puts.get()  # somebody has begun a batch
                self._tidy()
                self._use.release()

    # --- batches

    def _begin(self, batch: Batch) -> bool:
        """Carry out a batch's statements, and keep the connection for its commit. Or leave all of it to the thread."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._apply(batch.calls, batch.anchor)
        except Exception:
            self._roll_back()
            self._use.release()
            return False
        return True

    def _outcomes_of(self, put: _Put) -> list[Outcome]:
        """Commit what was begun, or all of it. The connection stays in use."""
        calls, anchor, _ = put.batch
        if not self._is_there():
            return self._refuse_gone(put)
        if put.is_begun:
            outcomes = self._outcomes(lambda: self._connection.execute("COMMIT"), calls, anchor)
        else:
            self._use.acquire()
            outcomes = self._commit(calls, anchor)
        self._checkpoints.note(sum(map(len, calls)))
        return outcomes

    def _refuse_gone(self, put: _Put) -> list[Outcome]:
        if not put.is_begun:
            self._use.acquire()
        self._roll_back()
        return [
            StoreUnavailable("its file was removed or replaced while the server ran") for _ in put.batch.calls
        ]

    def _commit(self, calls: Sequence[Call], anchor: Anchor | None) -> list[Outcome]:
        """All of a batch, in the thread."""

        def whole() -> None:
            with self._transaction():
                self._apply(calls, anchor)

        return self._outcomes(whole, calls, anchor)

    def _outcomes(
        self, commit: Callable[[], object], calls: Sequence[Call], anchor: Anchor | None
    ) -> list[Outcome]:
        """All or nothing. A call that can never be committed fails alone."""
        try:
            commit()
        except (apsw.ConstraintError, apsw.TooBigError) as error:
            bug: Exception = error
        except apsw.CorruptError as error:
            bug = (
                self._whose_damage(error, anchor)
                if len(calls) == 1 and any(calls)
                else StoreUnavailable(str(error))
            )
        except apsw.Error as error:
            self._roll_back()
            return [StoreUnavailable(str(error)) for _ in calls]
        except Exception as error:
            bug = error
        else:
            return [None] * len(calls)
        self._roll_back()
        if len(calls) <= 1:
            return [bug for _ in calls]
        return [outcome for call in calls for outcome in self._commit([call], anchor)]

    def _whose_damage(self, error: apsw.Error, anchor: Anchor | None) -> Exception:
        """A page that only these writes need is their own misfortune."""
        self._roll_back()
        if self._commit([()], anchor) == [None]:
            return RecordDamaged("its pages are damaged")
        return StoreUnavailable(str(error))

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
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # --- erasure

    def _is_due(self, now: float) -> bool:
        """Whether something is to be erased."""
        return any(at is not None and now >= at for at in (self._purge_at, self._truncate_at))

    def _tidy(self) -> None:
        """Do what is due: at most one chunk of purging, at most one emptying of the log, the rest of a checkpoint."""
        now = monotonic()
        if self._purge_at is not None and now >= self._purge_at:
            self._purge_at = self._purge(now)
        if self._truncate_at is not None and now >= self._truncate_at:
            self._truncate_at = self._truncate(now)
        if self._checkpoints.wants_rest:
            self._checkpoints.write_rest(self._connection)

    def _purge(self, now: float) -> float | None:
        """Delete one chunk of what removed sessions left behind; gives when to go on."""
        if self._purging_since is None:
            self._purging_since = now
        # The longer it takes, the larger its share: it has to be done within a minute under any load.
        until = now + CHUNK_S * (1 + (now - self._purging_since) / CHUNK_GROWS_S)
        try:
            with self._transaction():
                is_done = self._purge_until(until)
        except apsw.CorruptError:
            return self._leave_behind(now)
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
            session = self._next_to_purge()
            if session is None:
                return True
            self._purging = session
            if not sum(self._delete(sql, session) for sql in _PURGE):
                self._delete(_PURGE_DONE, session)
            if monotonic() >= until:
                return False

    def _next_to_purge(self) -> int | None:
        rows: list[tuple[Any, ...]] = self._connection.execute(
            _FIRST_PURGES, (len(self._unpurgeable) + 1,)
        ).fetchall()
        return next((session for (session,) in rows if session not in self._unpurgeable), None)

    def _leave_behind(self, now: float) -> float:
        """What is left of a session stands on damaged pages: others go on to be erased. Gives when to go on."""
        if self._purging in self._unpurgeable:
            return now + RETRY_S
        self._unpurgeable.add(self._purging)
        log.error("what an ended session has left behind cannot be erased: its pages are damaged")
        return now

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
