"""Idempotency keys: a request that is repeated with the same key is carried out once (spec section 4).

    with keys.claim(scope, key):            raises KeyInFlight while another request with this key is under way
        saved = await keys.saved(...)       the earlier answer, or None; raises KeyReused for another body
        ... commit the command with its IdempotencyKey

The answer is stored in the same commit as the command's effects: after a crash there are both or neither. Only keys
in flight are in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from vigil.actors.core.errors import KeyInFlight, KeyReused
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.stores.base import Store

KEPT_MS = 24 * 60 * 60 * 1000


class Keys:
    """Keys in flight, and the answers that the store keeps for the rest."""

    def __init__(self, store: Store, clock: ScaledClock) -> None:
        self._store = store
        self._clock = clock
        self._in_flight: set[tuple[str, str]] = set()

    @contextmanager
    def claim(self, scope: str, key: str) -> Iterator[None]:
        """Be the only request with this key while the block runs. Raises KeyInFlight."""
        if (scope, key) in self._in_flight:
            raise KeyInFlight
        self._in_flight.add((scope, key))
        try:
            yield
        finally:
            self._in_flight.discard((scope, key))

    async def saved(self, scope: str, key: str, body_sha256: bytes) -> bytes | None:
        """The answer that was given for this key, if it was used within 24 hours."""
        saved = await self._store.saved_answer(scope, key)
        if saved is None or saved.saved_at + KEPT_MS <= self._clock.now():
            return None
        if saved.body_sha256 != body_sha256:
            raise KeyReused
        return saved.answer
