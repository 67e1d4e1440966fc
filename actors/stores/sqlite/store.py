"""The durable store: one SQLite file, in this process.

It owns the waiting: callers that come while a batch is on its way to the disk collect here, in the event loop,
and go together when the writer reports back. Reads are short and run inline on a connection of their own, so
they see only what is committed.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from operator import attrgetter
from typing import NamedTuple, TypeVar

import apsw
import structlog
import trio

from vigil.actors.callbacks import await_callback
from vigil.actors.core.errors import Overloaded, RecordDamaged, StoreUnavailable
from vigil.actors.core.records import Anchor, Message, Session, Tombstone, TurnState
from vigil.actors.stores.base import (
    COMMIT_BUCKETS_S,
    BrokenRecord,
    CommitStats,
    Done,
    Page,
    PendingTurn,
    SavedAnswer,
    Snapshot,
    Write,
)
from vigil.actors.stores.sqlite import schema as schema
from vigil.actors.stores.sqlite.checkpoints import Checkpoints
from vigil.actors.stores.sqlite.file import (
    damaged,
    open_checkpointer,
    open_reader,
    open_writer,
    opening,
    same_file,
)
from vigil.actors.stores.sqlite.schema import ForgetWindows, Row, Unreadable
from vigil.actors.stores.sqlite.writer import Batch, Call, Outcome, Writer

log = structlog.get_logger()

WAITING_MAX = 4096
TELL_EVERY_S = 10.0  # between log lines about a disk that fails
ERASE_DELAY_S = 20.0  # from a deletion to the emptying of the log that still holds what was deleted

_INT64 = 2**63 - 1
_T = TypeVar("_T")


class _Waiting(NamedTuple):
    """A caller's writes, and the callback for their outcome."""

    call: Call
    done: Done


class SqliteStore:
    """`Store` in the file at `path`, which one process at a time may open. Raises StoreError.

    A file that is empty or missing is a new one, and an error unless it `may_be_new`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        erase_delay_s: float = ERASE_DELAY_S,
        may_be_new: bool = True,
    ) -> None:
        self._path = os.path.realpath(path)
        with opening(self._path), ExitStack() as resources:
            writer = open_writer(self._path, resources, may_be_new=may_be_new)
            self._reader = open_reader(self._path, resources)
            anchor = self._reader.execute(schema.ANCHOR).fetchone()
            checkpoints = Checkpoints(open_checkpointer(self._path, resources))
            resources.callback(checkpoints.stop)
            self._writer = Writer(writer, checkpoints, erase_delay_s, same_file(self._path))
            self._resources = resources.pop_all()
        self._anchor = Anchor(*anchor) if anchor else None
        self._clock: Callable[[], Anchor] | None = None
        self._waiting: list[_Waiting] = []
        self._met_damage = False  # in what was read last of many records
        self._is_writing = False
        self._under_way = 0  # callers whose batch is with the writer
        self._is_closed = False
        self._tell_at = 0.0
        self._commits = self._writes = 0
        self._seconds = 0.0
        self._buckets = [0] * (len(COMMIT_BUCKETS_S) + 1)

    @property
    def anchor(self) -> Anchor | None:
        return self._anchor

    async def start(self, anchor: Callable[[], Anchor]) -> Snapshot:
        with opening(self._path):
            snapshot = self._snapshot()
            self._clock = anchor
            if snapshot.windows:
                with suppress(RecordDamaged):  # they stay, and count for less and less
                    await await_callback(partial(self._submit, [ForgetWindows()]))
        return snapshot

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        if self._is_closed:
            done(StoreUnavailable("the store is closed"))
        elif len(self._waiting) >= WAITING_MAX:
            done(Overloaded(f"{WAITING_MAX} changes wait for the disk already"))
        else:
            self._submit(writes, done)

    async def commit(self, writes: Sequence[Write]) -> None:
        await await_callback(partial(self.submit, writes))

    async def session(self, session_key: int) -> Session | None:
        with suppress(Unreadable):
            return self._session(session_key)
        return None

    async def pending_turns(self, session_key: int) -> Sequence[PendingTurn]:
        return [schema.pending_turn_of(row) for row in self._rows(schema.PENDING_TURNS_OF, session_key)]

    async def history(self, session_key: int, before: int | None, after: int | None, limit: int) -> Page:
        is_forward = before is None and after is not None
        order = "ASC" if is_forward else "DESC"
        bounds = (
            -1 if after is None else min(after, _INT64),
            _INT64 if before is None else min(before, _INT64),
        )
        rows = self._rows(f"{schema.HISTORY} {order} LIMIT ?", session_key, *bounds, limit + 1)
        messages = [schema.message_of(row) for row in rows[:limit]]
        return Page(messages[::-1] if is_forward else messages, len(rows) > limit)

    async def reply_to(self, session_key: int, created_at: int) -> Message | None:
        rows = self._rows(schema.REPLY_TO, session_key, created_at)
        return schema.message_of(rows[0]) if rows else None

    async def turn(self, session_key: int, message_id: str) -> TurnState | None:
        rows = self._rows(schema.TURN, session_key, message_id)
        return rows[0][0] if rows else None

    async def saved_answer(self, scope: str, key: str) -> SavedAnswer | None:
        rows = self._rows(schema.SAVED_ANSWER, scope, key)
        return SavedAnswer(*rows[0]) if rows else None

    def statistics(self) -> CommitStats:
        waiting = self._under_way + len(self._waiting)
        return CommitStats(self._commits, self._writes, self._seconds, tuple(self._buckets), waiting)

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        with trio.CancelScope(shield=True):
            with suppress(StoreUnavailable):
                await await_callback(
                    partial(self._submit, ())
                )  # it is in the last batch: nobody else comes any more
            await trio.to_thread.run_sync(self._writer.stop)
        self._resources.close()

    # --- writing

    def _submit(self, call: Call, done: Done) -> None:
        self._waiting.append(_Waiting(call, done))
        if not self._is_writing:
            # Not at once: whoever else commits in this round of the scheduler comes along.
            self._is_writing = True
            trio.lowlevel.current_trio_token().run_sync_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Give everybody who waits to the writer, in one batch."""
        batch, self._waiting = self._waiting, []
        self._under_way = len(batch)
        anchor = self._clock() if self._clock else None
        token = trio.lowlevel.current_trio_token()

        def report(outcomes: Sequence[Outcome], seconds: float) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._on_committed, batch, anchor, outcomes, seconds)

        self._writer.put(Batch([waiting.call for waiting in batch], anchor, report))

    def _on_committed(
        self, batch: Sequence[_Waiting], anchor: Anchor | None, outcomes: Sequence[Outcome], seconds: float
    ) -> None:
        """The writer has reported back: tell everybody in the batch, hand over the next."""
        if None in outcomes:
            self._anchor = anchor
            self._commits += 1
            committed = zip(batch, outcomes, strict=True)
            self._writes += sum([len(waiting.call) for waiting, outcome in committed if outcome is None])
            self._seconds += seconds
            self._buckets[bisect_left(COMMIT_BUCKETS_S, seconds)] += 1
        for waiting, outcome in zip(batch, outcomes, strict=True):
            waiting.done(outcome)
        self._tell_operator(outcomes)
        self._under_way = 0
        self._is_writing = bool(self._waiting)
        if self._is_writing:
            self._hand_over()

    def _tell_operator(self, outcomes: Sequence[Outcome]) -> None:
        """That the disk fails, and why, but not for every request."""
        failures = (outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable | RecordDamaged))
        failure = next(failures, None)
        if failure is None or trio.current_time() < self._tell_at:
            return
        self._tell_at = trio.current_time() + TELL_EVERY_S
        if isinstance(failure, StoreUnavailable):
            log.error("the store cannot commit: what needs it gets 503", path=self._path, why=failure.why)
        else:
            log.error("a commit met damage: what needs it gets 500", why=damaged(self._path))

    # --- reading

    def _snapshot(self) -> Snapshot:
        """Raises Unreadable when damage is not confined to single records."""
        try:
            sessions, turns, broken = self._load_all()
        except Unreadable:
            sessions, turns, broken = self._load_each()
        return Snapshot(
            sessions=sessions,
            pending_turns=turns,
            tombstones=sorted(self._tombstones(), key=attrgetter("expires_at")),
            broken=broken,
            windows=list(self._sound(schema.WINDOWS, schema.window_of)),
            next_key=self._rows(schema.NEXT_KEY)[0][0] or 1,
        )

    def _load_all(self) -> tuple[list[Session], list[PendingTurn], list[BrokenRecord]]:
        """Raises Unreadable when a single record is damaged."""
        with _reading():
            sessions = [schema.session_of(row) for row in self._reader.execute(schema.SESSIONS)]
            turns = [schema.pending_turn_of(row) for row in self._reader.execute(schema.PENDING_TURNS)]
        return sessions, turns, []

    def _load_each(self) -> tuple[list[Session], list[PendingTurn], list[BrokenRecord]]:
        sessions: list[Session] = []
        turns: list[PendingTurn] = []
        broken = []
        with _reading(), self._reader:  # one transaction for all these queries
            for key, session_id in self._rows(schema.NAMES):
                try:
                    session = self._session(key)
                    owed = [schema.pending_turn_of(row) for row in self._rows(schema.PENDING_TURNS_OF, key)]
                except Unreadable as error:
                    broken.append(BrokenRecord(key, (session_id or b"").decode(errors="replace"), str(error)))
                else:
                    sessions.extend([session] if session else [])
                    turns.extend(owed)
        return sessions, turns, broken

    def _session(self, key: int) -> Session | None:
        """Raises Unreadable."""
        rows = self._rows(schema.SESSION, key)
        return schema.session_of(rows[0]) if rows else None

    def _tombstones(self) -> Iterable[Tombstone]:
        """Those that can be read: where pages are damaged, from both ends up to these."""
        found = {tombstone.id: tombstone for tombstone in self._sound(schema.TOMBSTONES, schema.tombstone_of)}
        if self._met_damage:
            backwards = self._sound(f"{schema.TOMBSTONES} DESC", schema.tombstone_of)
            found |= {tombstone.id: tombstone for tombstone in backwards}
        return found.values()

    def _sound(self, sql: str, record_of: Callable[[Row], _T]) -> Iterator[_T]:
        """The records without those that are damaged, up to a page that is."""
        self._met_damage = False
        with _reading():
            try:
                rows = self._reader.execute(sql)
                while True:
                    with suppress(Unreadable, UnicodeDecodeError):
                        yield record_of(next(rows))
            except StopIteration:
                return
            except apsw.CorruptError:
                self._met_damage = True
                log.error("tombstones or windows on damaged pages are left out", why=damaged(self._path))  # noqa: TRY400

    def _rows(self, sql: str, *bindings: int | str) -> list[Row]:
        with _reading():
            return self._reader.execute(sql, bindings).fetchall()


@contextmanager
def _reading() -> Iterator[None]:
    """Tell damage, which stays, from a disk that fails right now."""
    try:
        yield
    except apsw.CorruptError as error:
        raise Unreadable("its pages are damaged") from error
    except UnicodeDecodeError as error:
        raise Unreadable("its text is damaged") from error
    except apsw.Error as error:
        raise StoreUnavailable(str(error)) from error
