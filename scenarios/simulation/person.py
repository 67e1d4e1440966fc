"""One simulated person and the sessions that it holds: the verbs of the API as somebody uses them.

What a person does next is its character's business (`scenarios.simulation.people`); what happens to a request on its
way is `scenarios.simulation.faults.connection`'s.
"""

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import orjson
import trio

from vigil.scenarios.simulation.faults.connection import Ask, Connection, Ear
from vigil.scenarios.virtual.in_process import KEY
from vigil.server.api.routes import BASE
from vigil.server.api.wire_time import epoch_ms
from vigil.server.front.direct import Answer, Headers

T = TypeVar("T")

_JSON = ("Content-Type", "application/json")
BY_KEY: Headers = [("Authorization", f"Bearer {KEY}"), _JSON]
CREATED = 201
OVER = (404, 410)
RATE_LIMITED = 429
UNAVAILABLE = 503
_EARLY_SHARE = 0.2  # of those who are told to wait a while and come a second too early


class Person:
    """`random` is its own stream: what it does hangs on the seed, its number and what it is answered."""

    def __init__(self, number: int, random: Random, connection: Connection, agents: Sequence[str]) -> None:
        self.number = number
        self.user_id = f"person-{number}"
        self.random = random
        self.agents = agents
        self._connection = connection
        self._texts = 0

    @property
    def now(self) -> int:
        return self._connection.server.now

    # --- time

    async def think(self, median_s: float, sigma: float = 0.8) -> None:
        """Wait for a while: log-normal, at most twenty times the median, in whole milliseconds."""
        drawn = self.random.lognormvariate(math.log(median_s), sigma)
        await trio.sleep(round(min(drawn, 20 * median_s) * 1000) / 1000)

    async def wait_until(self, at_ms: int) -> None:
        """Go on at this instant of session time; at once when it has passed."""
        await trio.sleep(max(0, at_ms - self.now) / 1000)

    # --- chance

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def one_of(self, things: Sequence[T]) -> T:
        return self.random.choice(things)

    def uuid(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def text(self) -> str:
        """Something to say, never the same twice."""
        self._texts += 1
        return f"{self.one_of(_TEXTS)} ({self.number}.{self._texts})"

    # --- requests

    async def ask(self, ask: Ask) -> Answer | None:
        return await self._connection.request(self.number, ask)

    async def listen(self, ask: Ask, ear: Ear) -> None:
        await self._connection.listen(self.number, ask, ear)

    async def create(self, agent: str | None = None, key: str | None = None, **config: Any) -> Answer | None:
        """POST a new session. `config` is its timeoutConfig."""
        body: dict[str, Any] = {"agentId": agent or self.one_of(self.agents), "userId": self.user_id}
        if config:
            body["timeoutConfig"] = config
        if self.chance(0.1):
            body["metadata"] = self.one_of(_METADATA)
        return await self.post_session(orjson.dumps(body), key)

    async def post_session(self, body: bytes, key: str | None = None) -> Answer | None:
        return await self.ask(Ask("createSession", "POST", BASE, _with_key(BY_KEY, key), body, key=key))

    async def begin(self, agent: str | None = None, **config: Any) -> "Chat | None":
        """A new session, after a few tries if need be; None when there is none to be had."""
        for _ in range(5):
            answer = await self.create(agent, **config)
            if answer is not None and answer.status == CREATED:
                return Chat(self, answer)
            await self.takes(answer)
        return None

    async def takes(self, answer: Answer | None) -> bool:
        """React as a good client does: wait when told to. False when the session is over."""
        if answer is None or answer.status == UNAVAILABLE:
            await self.think(4)
        elif answer.status == RATE_LIMITED:
            await self.wait_as_told(answer)
        return answer is None or answer.status not in OVER

    async def wait_as_told(self, answer: Answer) -> None:
        """For as many seconds as Retry-After says; a second less, now and then."""
        wait_s = int(answer.header("retry-after") or 1)
        await trio.sleep(wait_s - 1 if wait_s > 1 and self.chance(_EARLY_SHARE) else wait_s)

    async def list_sessions(self, **query: Any) -> Answer | None:
        return await self.read("listSessions", BASE, None, BY_KEY, query)

    async def health(self) -> Answer | None:
        return await self.read("getHealth", f"{BASE}/health", None, BY_KEY, {})

    async def read(
        self, operation: str, path: str, session: str | None, headers: Headers, query: Mapping[str, Any]
    ) -> Answer | None:
        texts = {name: str(value) for name, value in query.items()}
        target = f"{path}?{urlencode(texts)}" if texts else path
        credential = "key" if headers is BY_KEY else "token"
        return await self.ask(
            Ask(operation, "GET", target, headers, session=session, credential=credential, query=texts)  # type: ignore[arg-type]
        )


class Chat:
    """A session as its owner holds it: by its token, or by the API key."""

    def __init__(self, person: Person, created: Answer) -> None:
        body = created.json()
        self.person = person
        self.id: str = body["sessionId"]
        self.token: str = body["sessionToken"]
        self.expires_at = epoch_ms(body["expiresAt"])
        self.path = f"{BASE}/{self.id}"
        self.headers: Headers = [("Authorization", f"Bearer {self.token}"), _JSON]

    async def send(
        self, text: str | None = None, *, transport: str = "websocket", key: str | None = None, **fields: Any
    ) -> Answer | None:
        body: dict[str, Any] = {"content": text or self.person.text(), **fields}
        if transport != "websocket":
            body["transport"] = transport
        if self.person.chance(0.05):
            body["metadata"] = self.person.one_of(_METADATA)
            body["attachments"] = [_ATTACHMENT]
        return await self.post_message(orjson.dumps(body), key)

    async def post_message(self, body: bytes, key: str | None = None) -> Answer | None:
        return await self._ask("sendMessage", "POST", "/messages", body, key)

    async def get(self) -> Answer | None:
        by = BY_KEY if self.person.chance(0.2) else self.headers
        return await self.person.read("getSession", self.path, self.id, by, {})

    async def history(self, **query: int) -> Answer | None:
        return await self.person.read("getMessages", f"{self.path}/messages", self.id, self.headers, query)

    async def renew(self) -> Answer | None:
        return await self._ask("renewSession", "POST", "/renew")

    async def retime(self, **fields: Any) -> Answer | None:
        return await self._ask("updateTimeout", "PATCH", "/timeout", orjson.dumps(fields))

    async def stop(self, message_id: str) -> Answer | None:
        path = f"{self.path}/messages/{message_id}/cancel"
        ask = Ask("cancelTurn", "POST", path, self.headers, b"", self.id, "token", message=message_id)
        return await self.person.ask(ask)

    async def heartbeat(self) -> Answer | None:
        return await self._ask("heartbeat", "POST", "/heartbeat")

    async def end(self) -> Answer | None:
        return await self._ask("endSession", "DELETE", "")

    async def read_back(self, limit: int, pages: int = 4) -> Answer | None:
        """Page from the newest message towards the oldest. Gives the last answer."""
        answer = await self.history(limit=limit)
        while pages and answer is not None and answer.status == 200 and answer.json()["hasMore"]:  # noqa: PLR2004
            pages -= 1
            answer = await self.history(limit=limit, before=answer.json()["cursors"]["before"])
        return answer

    async def listen(self, ear: Ear) -> None:
        query = {} if ear.last_id is None else {"lastEventId": str(ear.last_id)}
        target = f"{self.path}/events" + (f"?lastEventId={ear.last_id}" if query else "")
        ask = Ask("listenToEvents", "GET", target, self.headers, b"", self.id, "token", query)
        await self.person.listen(ask, ear)

    async def _ask(
        self, operation: str, method: str, rest: str, body: bytes = b"", key: str | None = None
    ) -> Answer | None:
        headers = _with_key(self.headers, key)
        answer = await self.person.ask(
            Ask(operation, method, self.path + rest, headers, body, self.id, "token", key=key)
        )
        if answer is not None and operation in _TELL_DEADLINE and answer.status == 200:  # noqa: PLR2004
            self.expires_at = epoch_ms(answer.json()["expiresAt"])
        return answer


_TELL_DEADLINE = ("renewSession", "updateTimeout")
_TEXTS = (
    "Hello, how can you help me today?",
    "Where is my order?",
    "Thanks, and what about the other one?",
    "Grüße aus Köln \u2603",
    "def f(a, b): return a < b and List<String> or None",
    "Wie spät ist es? 今何時ですか",
    "ok",
    "A somewhat longer message, as people write them when they are not happy at all. " * 6,
)
_METADATA: tuple[dict[str, Any], ...] = (
    {"source": "web"},
    {"tags": ["new", "urgent"], "priority": 3, "nested": {"deep": {"er": [1.5, True]}}},
    {"name": "Ünï©ode \U0001f600"},
)
_ATTACHMENT = {"type": "image", "url": "https://example.com/cat.png", "name": "cat.png", "size": 48_213}


def _with_key(headers: Headers, key: str | None) -> Headers:
    return headers if key is None else [*headers, ("Idempotency-Key", key)]
