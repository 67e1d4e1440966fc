"""What is remembered of expired sessions, and for how long (spec section 3)."""

import heapq

from vigil.actors.core.expiry import MINUTE_MS
from vigil.actors.core.records import Tombstone
from vigil.actors.indexes.session_index import SessionIndex


class Tombstones:
    """At most `most` tombstones, each for `minutes` from its expiry; the oldest expiry is forgotten first.

    What was forgotten waits in `forgotten` until the store has forgotten it too.
    """

    def __init__(self, minutes: int, most: int) -> None:
        self.index = SessionIndex()
        self.forgotten: list[str] = []
        self._kept_ms = minutes * MINUTE_MS
        self._most = most
        self._by_id: dict[str, Tombstone] = {}
        self._oldest: list[
            tuple[int, str]
        ] = []  # a heap; entries of removed ones are skipped when they come up

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, tombstone: Tombstone) -> None:
        self._by_id[tombstone.id] = tombstone
        self.index.add(tombstone.created_at, tombstone.id, tombstone.agent_id, tombstone.user_id)
        heapq.heappush(self._oldest, (tombstone.expires_at, tombstone.id))
        while len(self._by_id) > self._most:
            self._forget_oldest()

    def get(self, session_id: str, now: int) -> Tombstone | None:
        tombstone = self._by_id.get(session_id)
        return tombstone if tombstone and now < tombstone.expires_at + self._kept_ms else None

    def __getitem__(self, session_id: str) -> Tombstone:
        return self._by_id[session_id]

    def discard(self, session_id: str) -> None:
        """Take one away; whoever asks has told the store."""
        tombstone = self._by_id.pop(session_id, None)
        if tombstone is not None:
            self.index.remove(tombstone.created_at, tombstone.id, tombstone.agent_id, tombstone.user_id)

    def forget_due(self, now: int) -> None:
        """Forget what has been kept long enough."""
        while self._oldest and self._oldest[0][0] + self._kept_ms <= now:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, session_id = heapq.heappop(self._oldest)
        if session_id in self._by_id:
            self.discard(session_id)
            self.forgotten.append(session_id)
