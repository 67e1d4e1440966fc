"""Breakages of messages: their order, repeats, turns and loss."""

import json
from typing import Any

from tests.scenarios.breakages.breaking import Patch, breaks, everywhere
from vigil.actors.core import lifecycle
from vigil.actors.core.errors import (
    AgentFailed,
    AgentTimedOut,
)
from vigil.actors.core.records import Message, Session
from vigil.actors.hub.hub import Chunk, Hub
from vigil.actors.runtime import idempotency
from vigil.actors.runtime.idempotency import Keys
from vigil.actors.stores.base import Page
from vigil.actors.stores.memory import MemoryStore
from vigil.actors.turns import turns
from vigil.actors.turns.turns import Turns
from vigil.server.api import answers, errors


@breaks(4, "equal-timestamps", "messages of one millisecond have one timestamp")
def _(patch: Patch) -> None:
    patch.setattr(lifecycle, "_next_instant", lambda _session, now: now)


@breaks(4, "has-more-on-an-exact-page", "a page that takes the last message says that there are more")
def _(patch: Patch) -> None:
    async def history(self: MemoryStore, *where: Any) -> Page:
        page = await real(self, *where)
        return page._replace(has_more=page.has_more or len(page.messages) == where[-1])

    real = MemoryStore.history
    patch.setattr(MemoryStore, "history", history)


@breaks(4, "cursor-includes-its-message", "before=T gives the message at T once more")
def _(patch: Patch) -> None:
    async def history(self: MemoryStore, key: int, before: int | None, after: int | None, limit: int) -> Page:
        return await real(self, key, before if before is None else before + 1, after, limit)

    real = MemoryStore.history
    patch.setattr(MemoryStore, "history", history)


@breaks(4, "idempotency-is-forgotten", "a repeated request is done again")
def _(patch: Patch) -> None:
    async def saved(_self: Keys, *_request: Any) -> None:
        return None

    patch.setattr(Keys, "saved", saved)


@breaks(4, "idempotency-key-for-any-body", "a key that was used gives its answer to another body too")
def _(patch: Patch) -> None:
    async def saved(self: Keys, scope: str, key: str, _digest: bytes) -> bytes | None:
        kept = await self._store.saved_answer(scope, key)
        return kept.answer if kept else None

    patch.setattr(Keys, "saved", saved)


@breaks(4, "idempotency-keys-last-for-ever", "a key is still taken after 24 hours")
def _(patch: Patch) -> None:
    patch.setattr(idempotency, "KEPT_MS", 10 * idempotency.KEPT_MS)


@breaks(4, "turns-out-of-order", "the newest question is answered before those that wait")
def _(patch: Patch) -> None:
    real = Turns._submit

    def submit(self: Turns, actor: Any, *owed: Any) -> None:
        real(self, actor, *owed)
        waiting = self._queues[actor.state.id].owed
        if len(waiting) > 2:
            waiting.insert(1, waiting.pop())  # the first is being answered

    patch.setattr(Turns, "_submit", submit)


@breaks(4, "retried-for-ever", "a question whose turn a restart interrupted twice is asked a third time")
def _(patch: Patch) -> None:
    patch.setitem(turns._AFTER_RESTART, "retried", "retried")


@breaks(4, "metadata-overwrites", "a client's metadata takes the place of the server's fields")
def _(patch: Patch) -> None:
    real = answers.created_session

    def created_session(session: Session) -> dict[str, Any]:
        body = real(session)
        body.update(json.loads(session.metadata))
        return body

    everywhere(patch, real, created_session)


@breaks(4, "written-by-metadata", "a message's author is who its metadata says")
def _(patch: Patch) -> None:
    real = answers.message

    def message(said: Message) -> Any:
        return real(said) | json.loads(said.metadata)

    everywhere(patch, real, message)


@breaks(4, "a-crash-loses-a-message", "the newest message of each session is acknowledged before it is kept")
def _(patch: Patch) -> None:
    real = MemoryStore.start

    async def start(self: MemoryStore, anchor: Any) -> Any:
        for key, messages in self._messages.items():
            lost = messages.pop() if messages else None
            self._turns.get(key, {}).pop(lost.created_at if lost else 0, None)
        return await real(self, anchor)

    patch.setattr(MemoryStore, "start", start)


@breaks(4, "failures-without-the-message", "502 and 504 do not say which message has no answer")
def _(patch: Patch) -> None:
    for kind in (AgentFailed, AgentTimedOut):
        silent = errors.FAILURES[kind]._replace(details=lambda _: {})
        patch.setitem(errors.FAILURES, kind, silent)


@breaks(4, "nothing-is-streamed", "an agent's answer comes whole, without chunks before it")
def _(patch: Patch) -> None:
    def say(_self: Hub, _chunk: Chunk) -> None:
        pass

    patch.setattr(Hub, "say", say)


@breaks(11, "answers-do-not-say-why-they-end", "an agent's message has no finishReason")
def _(patch: Patch) -> None:
    real = answers.message

    def message(said: Message) -> Any:
        return real(said._replace(finish_reason=""))

    everywhere(patch, real, message)
