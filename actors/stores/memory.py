"""A store that keeps everything in this process and nothing on disk: for tests, simulations and `memory:`.

It owns no thread and waits for nothing real, so it is exact in virtual time. Its content outlives a server
that crashed inside the process: the same object can be started again.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from typing import Any

import trio

from vigil.actors.core.records import Anchor, Message, Session, Tombstone, TurnState
from vigil.actors.stores.base import (
    COMMIT_BUCKETS_S,
    KEPT,
    OWED,
    CommitStats,
    Done,
    ForgetTombstones,
    InsertMessage,
    InsertSession,
    Page,
    PendingTurn,
    ProbeDiskSpace,
    RemoveSession,
    SaveAnswer,
    SavedAnswer,
    SaveWindow,
    Snapshot,
    UpdateSession,
    UpdateTurn,
    Write,
)


class MemoryStore:
    """`Store` without durability. A commit takes no time."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}
        self._messages: dict[int, list[Message]] = {}  # by session, oldest first
        self._turns: dict[int, dict[int, TurnState]] = {}  # the owed ones, by session and message's instant
        self._answers: dict[tuple[str, str], SaveAnswer] = {}
        self._answer_keys: dict[int, list[tuple[str, str]]] = {}  # by session
        self._tombstones: dict[str, Tombstone] = {}
        self._windows: dict[tuple[str, str], SaveWindow] = {}
        self._next_key = 1
        self._clock: Callable[[], Anchor] | None = None
        self._anchor: Anchor | None = None
        self._commits = 0
        self._writes = 0

    @property
    def anchor(self) -> Anchor | None:
        return self._anchor

    async def start(self, anchor: Callable[[], Anchor]) -> Snapshot:
        self._clock = anchor
        windows, self._windows = self._windows, {}
        return Snapshot(
            sessions=list(self._sessions.values()),
            pending_turns=[turn for key in sorted(self._turns) for turn in self._owed(key)],
            tombstones=sorted(self._tombstones.values(), key=lambda tombstone: tombstone.expires_at),
            broken=(),
            windows=list(windows.values()),
            next_key=self._next_key,
        )

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        self._apply(writes)
        done(None)

    async def commit(self, writes: Sequence[Write]) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._apply(writes)

    def _apply(self, writes: Sequence[Write]) -> None:
        for write in writes:
            _APPLY[type(write)](self, write)
        if self._clock is not None:
            self._anchor = self._clock()
        self._commits += 1
        self._writes += len(writes)

    async def session(self, session_key: int) -> Session | None:
        return self._sessions.get(session_key)

    async def pending_turns(self, session_key: int) -> Sequence[PendingTurn]:
        return self._owed(session_key)

    async def history(self, session_key: int, before: int | None, after: int | None, limit: int) -> Page:
        return page_of(self._messages.get(session_key, []), before, after, limit)

    async def reply_to(self, session_key: int, created_at: int) -> Message | None:
        messages = self._messages.get(session_key, ())
        return next((message for message in messages if message.reply_to == created_at), None)

    async def turn(self, session_key: int, message_id: str) -> TurnState | None:
        messages = self._messages.get(session_key, ())
        message = next((one for one in messages if one.id == message_id), None)
        if message is None:
            return None
        kept = self._turns.get(session_key, {}).get(message.created_at)
        if kept is not None:
            return kept
        return "answered" if await self.reply_to(session_key, message.created_at) else ""

    async def saved_answer(self, scope: str, key: str) -> SavedAnswer | None:
        saved = self._answers.get((scope, key))
        return SavedAnswer(saved.body_sha256, saved.answer, saved.saved_at) if saved else None

    def statistics(self) -> CommitStats:
        buckets = (self._commits, *(0 for _ in COMMIT_BUCKETS_S))
        return CommitStats(self._commits, self._writes, 0.0, buckets)

    async def close(self) -> None:
        """Nothing to close: the store stays as it is."""

    def _owed(self, session_key: int) -> list[PendingTurn]:
        messages = self._messages.get(session_key, [])
        return [
            PendingTurn(session_key, messages[bisect_left(messages, at, key=_created_at)], turn)
            for at, turn in sorted(self._turns.get(session_key, {}).items())
            if turn in OWED
        ]

    def _insert_session(self, write: InsertSession) -> None:
        key = write.session.key
        self._sessions[key] = write.session
        self._next_key = max(self._next_key, key + 1)

    def _update_session(self, write: UpdateSession) -> None:
        self._sessions[write.session.key] = write.session

    def _insert_message(self, write: InsertMessage) -> None:
        messages = self._messages.setdefault(write.session_key, [])
        if messages and write.message.created_at <= messages[-1].created_at:
            insort(messages, write.message, key=_created_at)
        else:
            messages.append(write.message)
        self._set_turn(write.session_key, write.message.created_at, write.turn)

    def _update_turn(self, write: UpdateTurn) -> None:
        self._set_turn(*write)

    def _set_turn(self, session_key: int, created_at: int, turn: TurnState) -> None:
        if turn in KEPT:
            self._turns.setdefault(session_key, {})[created_at] = turn
        elif session_key in self._turns:
            self._turns[session_key].pop(created_at, None)

    def _save_answer(self, write: SaveAnswer) -> None:
        self._answers[write.scope, write.key] = write
        self._answer_keys.setdefault(write.session_key, []).append((write.scope, write.key))

    def _remove_session(self, write: RemoveSession) -> None:
        key = write.session_key
        for records in (self._sessions, self._messages, self._turns):
            records.pop(key, None)
        for name in self._answer_keys.pop(key, ()):
            if name in self._answers and self._answers[name].session_key == key:
                del self._answers[name]
        if write.tombstone is not None:
            self._tombstones[write.tombstone.id] = write.tombstone

    def _forget_tombstones(self, write: ForgetTombstones) -> None:
        for session_id in write.ids:
            self._tombstones.pop(session_id, None)

    def _save_window(self, write: SaveWindow) -> None:
        self._windows[write.scope, write.subject] = write


class SlowMemoryStore(MemoryStore):
    """For stores that take their time, or fail: what they do is their `commit`, a coroutine."""

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        trio.lowlevel.spawn_system_task(self._commit, writes, done)

    async def _commit(self, writes: Sequence[Write], done: Done) -> None:
        try:
            await self.commit(writes)
        except Exception as error:
            done(error)
        else:
            done(None)


_APPLY: dict[type[Write], Callable[[MemoryStore, Any], None]] = {
    InsertSession: MemoryStore._insert_session,
    UpdateSession: MemoryStore._update_session,
    InsertMessage: MemoryStore._insert_message,
    UpdateTurn: MemoryStore._update_turn,
    SaveAnswer: MemoryStore._save_answer,
    RemoveSession: MemoryStore._remove_session,
    ForgetTombstones: MemoryStore._forget_tombstones,
    SaveWindow: MemoryStore._save_window,
    ProbeDiskSpace: lambda _store, _write: None,
}


def page_of(messages: Sequence[Message], before: int | None, after: int | None, limit: int) -> Page:
    """`Store.history`, of these messages, oldest first."""
    first = 0 if after is None else bisect_right(messages, after, key=_created_at)
    end = len(messages) if before is None else bisect_left(messages, before, key=_created_at)
    size = min(limit, max(0, end - first))
    start = first if before is None and after is not None else end - size
    return Page(messages[start : start + size][::-1], size < end - first)


def _created_at(message: Message) -> int:
    return message.created_at
