"""The client: begins and finds sessions, asks for health. What one session can do is in `session.py`."""

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, Self

import httpx

from vigil_client._async.caller import AsyncCaller
from vigil_client._async.session import AsyncSession
from vigil_client.answers import read
from vigil_client.calls import BASE, Call, given, idempotency, posted
from vigil_client.models import CreatedSession, Health, ListedSession, SessionList
from vigil_client.retrying import Retrying
from vigil_client.version import USER_AGENT

LONGEST_PAGE = 1000


class AsyncVigil:
    """A Vigil server at a URL. Close it, or use it with `with`.

    `url` and `api_key` are by default what VIGIL_URL and VIGIL_API_KEY say. A client that only opens sessions by
    their tokens needs no key. `retries` is how often a call is tried again that had no answer, or a refusal
    that will pass; 0 turns it off. All pauses of one call together are at most `max_wait_s`.
    `answer_timeout_s` is how long an agent may be silent. Every request that makes something carries an
    idempotency key, so a second try does nothing twice.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        retries: int = 3,
        max_wait_s: float = 30.0,
        timeout_s: float = 30.0,
        answer_timeout_s: float = 300.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        http = httpx.AsyncClient(
            base_url=_checked(url or os.environ.get("VIGIL_URL", "http://127.0.0.1:3000")),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),  # listeners keep theirs
            transport=transport,
        )
        self._caller = AsyncCaller(
            http,
            api_key or os.environ.get("VIGIL_API_KEY"),
            Retrying(retries, max_wait_s),
            timeout_s,
            answer_timeout_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._caller.aclose()

    async def create(
        self,
        *,
        agent_id: str,
        user_id: str,
        metadata: Mapping[str, Any] | None = None,
        timeout_minutes: int | None = None,
        auto_renew: bool | None = None,
        max_duration_minutes: int | None = None,
        warning_threshold_minutes: int | None = None,
        idempotency_key: str | None = None,
        recreate: bool = False,
    ) -> AsyncSession:
        """Begin a session. What is left out is as the agent's config says.

        With `recreate`, a message, stream or heartbeat that finds the session gone (404, 410) begins another one
        like it and goes there; `session.id` is then another, and its history is empty.
        """
        config = given(
            timeout_minutes=timeout_minutes,
            auto_renew=auto_renew,
            max_duration_minutes=max_duration_minutes,
            warning_threshold_minutes=warning_threshold_minutes,
        )
        wanted = given(agent_id=agent_id, user_id=user_id, metadata=metadata, timeout_config=config or None)

        async def begin(key: str | None = None) -> CreatedSession:
            call = posted(BASE, wanted, headers=idempotency(key))
            return read(CreatedSession, await self._caller.ask(call))

        created = await begin(idempotency_key)
        session = AsyncSession(self._caller, created.session_id, created.session_token)
        session.created = created
        session.begin_another = begin if recreate else None
        return session

    def session(self, session_id: str, token: str | None = None) -> AsyncSession:
        """A session that exists. With its own token no API key is needed. Nothing is sent yet."""
        return AsyncSession(self._caller, session_id, token)

    async def list(
        self,
        *,
        agent_id: str | None = None,
        user_id: str | None = None,
        status: Literal["active", "expired", "all"] = "active",
        limit: int = 50,
        offset: int = 0,
    ) -> SessionList:
        """One page, newest first. `sessions()` goes through all of them."""
        query = given(agent_id=agent_id, user_id=user_id, status=status, limit=limit, offset=offset)
        return read(SessionList, await self._caller.ask(Call("GET", BASE, query=query)))

    async def sessions(
        self,
        *,
        agent_id: str | None = None,
        user_id: str | None = None,
        status: Literal["active", "expired", "all"] = "active",
    ) -> AsyncIterator[ListedSession]:
        """Every session once, newest first, page by page. The server lists the newest 11 000; filter for the rest.

        One that begins or ends meanwhile may be missed; none comes twice.
        """
        seen: set[str] = set()
        offset = 0
        while offset <= 10 * LONGEST_PAGE:
            page = await self.list(
                agent_id=agent_id, user_id=user_id, status=status, limit=LONGEST_PAGE, offset=offset
            )
            for session in page.sessions:
                if session.session_id not in seen:
                    yield session
            seen.update(session.session_id for session in page.sessions)
            offset += LONGEST_PAGE
            if offset >= page.total:
                return

    async def health(self) -> Health:
        """How the service is. An unhealthy one is an answer, not an error."""
        call = Call("GET", f"{BASE}/health", good_statuses=frozenset({503}))
        return read(Health, await self._caller.ask(call))


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no address of a server: it begins with http:// or https://")
    return url
