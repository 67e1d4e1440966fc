"""What a user would write instead: the hot rows of the API in FastAPI, on uvicorn with uvloop and httptools.

    python -m vigil.loadtests.bench.peers.fastapi_sessions [--redis SOCKET]

Sessions in a dict, or in Redis. It checks the API key, validates with pydantic and answers in like shapes. It has
no limits, no timers, no events and no agents but a direct echo, and the dict is lost with the process.
"""

import argparse
import hmac
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, Protocol
from uuid import uuid4

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from redis.asyncio import Redis

from vigil.loadtests.bench.rig import BASE, KEY

_LIFE_MS = 30 * 60_000
_MAX_MS = 180 * 60_000
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^\S+$")]


class Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class NewSession(Model):
    agent_id: Name
    user_id: Name
    metadata: dict[str, Any] = {}


class NewMessage(Model):
    content: Annotated[str, Field(min_length=1, max_length=10_000)]
    metadata: dict[str, Any] = {}


class TimeoutConfig(Model):
    timeout_minutes: int = 30
    auto_renew: bool = True
    max_duration_minutes: int = 180
    warning_threshold_minutes: int = 5


class Session(Model):
    session_id: str
    agent_id: str
    user_id: str
    created_at: int
    last_activity: int
    expires_at: int
    max_expires_at: int
    metadata: dict[str, Any]
    timeout_config: TimeoutConfig = TimeoutConfig()
    renewal_count: int = 0
    time_remaining: int = _LIFE_MS
    is_near_expiration: bool = False
    status: str = "active"


class Message(Model):
    id: str
    content: str
    author_id: str
    is_agent: bool
    created_at: int
    metadata: dict[str, Any]


class Store(Protocol):
    async def load(self, session_id: str) -> Session | None: ...

    async def save(self, session: Session, *messages: Message) -> None: ...


class DictStore:
    """In this process, and gone with it."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._messages: dict[str, list[Message]] = {}

    async def load(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    async def save(self, session: Session, *messages: Message) -> None:
        self._sessions[session.session_id] = session
        self._messages.setdefault(session.session_id, []).extend(messages)


class RedisStore:
    """A key of JSON for each session and a list of its messages, one round trip for each call."""

    def __init__(self, path: str) -> None:
        self._redis = Redis(unix_socket_path=path)

    async def load(self, session_id: str) -> Session | None:
        found = await self._redis.get(f"session:{session_id}")
        return None if found is None else Session.model_validate_json(found)

    async def save(self, session: Session, *messages: Message) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(f"session:{session.session_id}", session.model_dump_json(), px=_LIFE_MS)
            if messages:
                pipe.rpush(f"messages:{session.session_id}", *(one.model_dump_json() for one in messages))
                pipe.pexpire(f"messages:{session.session_id}", _LIFE_MS)
            await pipe.execute()


def make_app(store: Store) -> FastAPI:
    app = FastAPI(dependencies=[Depends(_check_key)])

    async def live(session_id: str) -> Session:
        session = await store.load(session_id)
        if session is None:
            raise HTTPException(404)
        if session.expires_at <= _now():
            raise HTTPException(410)
        return session

    Live = Annotated[Session, Depends(live)]  # noqa: N806  a type

    @app.post(BASE, status_code=201)
    async def create(new: NewSession) -> Session:
        now = _now()
        session = Session(
            session_id=str(uuid4()),
            agent_id=new.agent_id,
            user_id=new.user_id,
            created_at=now,
            last_activity=now,
            expires_at=now + _LIFE_MS,
            max_expires_at=now + _MAX_MS,
            metadata=new.metadata,
        )
        await store.save(session)
        return session

    @app.get(BASE + "/{session_id}")
    async def get(session: Live) -> Session:
        return session

    @app.post(BASE + "/{session_id}/heartbeat")
    async def heartbeat(session: Live) -> Session:
        renewed = _renewed(session)
        await store.save(renewed)
        return renewed

    @app.post(BASE + "/{session_id}/messages", status_code=201)
    async def send(session: Live, new: NewMessage) -> Message:
        message = _message(new, session.user_id, is_agent=False)
        replies = [_message(new, session.agent_id, is_agent=True)] if session.agent_id == "echo" else []
        await store.save(_renewed(session), message, *replies)
        return message

    return app


def _check_key(x_api_key: Annotated[str, Header()]) -> None:
    if not hmac.compare_digest(x_api_key, KEY):
        raise HTTPException(401)


def _renewed(session: Session) -> Session:
    now = _now()
    changes = {
        "last_activity": now,
        "expires_at": min(now + _LIFE_MS, session.max_expires_at),
        "renewal_count": session.renewal_count + 1,
    }
    return session.model_copy(update=changes)


def _message(new: NewMessage, author_id: str, *, is_agent: bool) -> Message:
    return Message(
        id=str(uuid4()),
        content=new.content,
        author_id=author_id,
        is_agent=is_agent,
        created_at=_now(),
        metadata=new.metadata,
    )


def _now() -> int:
    return time.time_ns() // 1_000_000


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.peers.fastapi_sessions")
    parser.add_argument("--redis", default="", metavar="SOCKET", help="of a Redis on this machine")
    typed = parser.parse_args(argv)
    store = RedisStore(typed.redis) if typed.redis else DictStore()
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        make_app(store), loop="uvloop", http="httptools", access_log=False, log_level="error"
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
