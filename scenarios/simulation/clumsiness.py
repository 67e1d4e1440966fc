"""Everything that people send wrong, as a table, and the character who does."""

from typing import NamedTuple

import orjson

from vigil.scenarios.model.observed import Credential
from vigil.scenarios.simulation.faults.connection import Ask
from vigil.scenarios.simulation.person import BY_KEY, Chat, Person
from vigil.server.api.routes import BASE
from vigil.server.front.direct import Headers


class Mistake(NamedTuple):
    """A request that must be refused with `flaw`, once the checks before that one pass."""

    operation: str
    method: str
    rest: str  # of the path, below the session; for createSession and listSessions below the base
    body: bytes = b""
    flaw: int = 400
    content_type: str = "application/json"
    query: tuple[tuple[str, str], ...] = ()
    key: str | None = None


async def clumsy(person: Person) -> None:
    """Sends bad input, wrong tokens and unknown ids, between a few good requests."""
    chat, other = await person.begin(), await person.begin()
    for _ in range(person.random.randint(8, 25)):
        if chat is None or other is None:
            return
        await person.think(15)
        act = person.one_of((_mistake, _mistake, _wrong_credential, _unknown, _right))
        if not await act(chat, other):
            return


async def _mistake(chat: Chat, _other: Chat) -> bool:
    one = chat.person.one_of(MISTAKES)
    is_service = one.operation in ("createSession", "listSessions")
    path = (BASE if is_service else chat.path) + one.rest
    if one.query:
        path += "?" + "&".join(f"{name}={value}" for name, value in one.query)
    headers: Headers = [BY_KEY[0], ("Content-Type", one.content_type)]
    if one.key is not None:
        headers = [*headers, ("Idempotency-Key", one.key)]
    session = None if is_service else chat.id
    ask = Ask(
        one.operation, one.method, path, headers, one.body, session, "key", dict(one.query), one.key, one.flaw
    )
    return await chat.person.takes(await chat.person.ask(ask))


async def _wrong_credential(chat: Chat, other: Chat) -> bool:
    credentials: tuple[tuple[Credential, Headers], ...] = (
        ("other token", other.headers),
        ("none", []),
        ("bad", [("Authorization", f"Bearer {chat.token[:-1]}")]),
        ("bad", [("Authorization", "Basic dXNlcjpwYXNz")]),
        ("bad", [("X-API-KEY", "no-such-key-0123456789")]),
    )
    credential, headers = chat.person.one_of(credentials)
    operation, method, rest = chat.person.one_of(_VERBS)
    ask = Ask(operation, method, chat.path + rest, headers, b"", chat.id, credential)
    await chat.person.ask(ask)
    return True


async def _unknown(chat: Chat, _other: Chat) -> bool:
    person = chat.person
    session = person.one_of((person.uuid(), "nobody", "%20", "00000000-0000-0000-0000-000000000000"))
    operation, method, rest = person.one_of(_VERBS)
    await person.ask(
        Ask(operation, method, f"{BASE}/{session}{rest}", BY_KEY, b"", session.replace("%20", " "), "key")
    )
    if person.chance(0.3):
        await person.create("no-such-agent")
    return True


async def _right(chat: Chat, _other: Chat) -> bool:
    return await chat.person.takes(
        await chat.person.one_of((chat.send, chat.get, chat.heartbeat, chat.history))()
    )


_VERBS = (
    ("getSession", "GET", ""),
    ("heartbeat", "POST", "/heartbeat"),
    ("renewSession", "POST", "/renew"),
    ("getMessages", "GET", "/messages"),
    ("endSession", "DELETE", ""),
)


def _create(**fields: object) -> bytes:
    return orjson.dumps({"agentId": "silent", "userId": "clumsy", **fields})


def _say(**fields: object) -> bytes:
    return orjson.dumps({"content": "Hello", **fields})


_POST = ("sendMessage", "POST", "/messages")
_PATCH = ("updateTimeout", "PATCH", "/timeout")
_BEGIN = ("createSession", "POST", "")
_HISTORY = ("getMessages", "GET", "/messages")
_LIST = ("listSessions", "GET", "")

MISTAKES: tuple[Mistake, ...] = (
    Mistake(*_POST, b""),
    Mistake(*_POST, b"{"),
    Mistake(*_POST, b"null"),
    Mistake(*_POST, b'{"content": "a", "content": "b"}'),
    Mistake(*_POST, b'{"content": "\xff"}'),
    Mistake(*_POST, b'{"content": NaN}'),
    Mistake(*_POST, _say(content="")),
    Mistake(*_POST, _say(content=" \n\t ")),
    Mistake(*_POST, _say(content=7)),
    Mistake(*_POST, _say(content="x" * 10_001)),
    Mistake(*_POST, _say(content="<script>alert(1)</script>")),
    Mistake(*_POST, _say(content="#!/bin/sh\nrm -rf /")),
    Mistake(*_POST, _say(contents="Hello")),
    Mistake(*_POST, _say(transport="pigeon")),
    Mistake(*_POST, _say(metadata={"a": None})),
    Mistake(*_POST, _say(metadata={"a": {"b": {"c": {"d": {"e": {}}}}}})),
    Mistake(*_POST, _say(metadata={"a": "x" * 16_384})),
    Mistake(*_POST, _say(attachments=[{"type": "file", "url": "https://example.com/a", "name": "a.exe"}])),
    Mistake(*_POST, _say(attachments=[{"type": "file", "url": "ftp://example.com/a", "name": "a"}])),
    Mistake(*_POST, _say(), 415, "text/plain"),
    Mistake(*_POST, _say(), 415, "application/json; charset=latin-1"),
    Mistake(*_POST, b" " * (256 * 1024 + 1), 413),
    Mistake(*_POST, _say(), key="not visible"),
    Mistake(*_POST, _say(), key="x" * 256),
    Mistake(*_PATCH, b"{}"),
    Mistake(*_PATCH, b'{"timeoutMinutes": 4}'),
    Mistake(*_PATCH, b'{"timeoutMinutes": 1441}'),
    Mistake(*_PATCH, b'{"timeoutMinutes": 5.5}'),
    Mistake(*_PATCH, b'{"timeoutMinutes": null}'),
    Mistake(*_PATCH, b'{"autoRenew": 1}'),
    Mistake(*_PATCH, b'{"warningThresholdMinutes": 61}'),
    Mistake(*_PATCH, b'{"maxDurationMinutes": 0}'),
    Mistake(*_PATCH, b"[1]", 415, "application/x-www-form-urlencoded"),
    Mistake("renewSession", "POST", "/renew", b'{"minutes": 5}'),
    Mistake("heartbeat", "POST", "/heartbeat", b"[]"),
    Mistake(*_HISTORY, query=(("limit", "0"),)),
    Mistake(*_HISTORY, query=(("limit", "101"),)),
    Mistake(*_HISTORY, query=(("before", "-1"),)),
    Mistake(*_HISTORY, query=(("page", "2"),)),
    Mistake(*_BEGIN, _create(agentId="")),
    Mistake(*_BEGIN, _create(userId="two words")),
    Mistake(*_BEGIN, _create(userId="u" * 129)),
    Mistake(*_BEGIN, _create(timeoutConfig={"timeoutMinutes": "30"})),
    Mistake(*_BEGIN, _create(metadata=[])),
    Mistake(*_BEGIN, _create(), 415, "application/xml"),
    Mistake(*_LIST, query=(("limit", "1001"),)),
    Mistake(*_LIST, query=(("status", "dead"),)),
    Mistake(*_LIST, query=(("offset", "10001"),)),
)
