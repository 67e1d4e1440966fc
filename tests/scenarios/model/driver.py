"""Random requests of a few people to a real server in this process, each told to the reference model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any
from urllib.parse import urlencode

import orjson
import trio

from vigil.actors.core.errors import StoreUnavailable
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.stores.base import Write
from vigil.actors.stores.memory import SlowMemoryStore
from vigil.scenarios.model import Model
from vigil.scenarios.model.observed import Answered, Sent
from vigil.scenarios.virtual.in_process import KEY, Disconnected, InProcessServer
from vigil.server.api.routes import ROUTES

PATHS = {route.name: (route.method, route.path) for route in ROUTES}


class Heard(Iterable[tuple[str, str]]):
    """Headers that tell when the server reads them: that is when the request is sent."""

    def __init__(self, headers: list[tuple[str, str]], tell: Any) -> None:
        self._headers = headers
        self._tell = tell

    def __iter__(self) -> Iterator[tuple[str, str]]:
        self._tell()
        return iter(self._headers)


class People:
    """Everybody knows every session and token."""

    def __init__(self, server: InProcessServer, model: Model, random: Random) -> None:
        self.server = server
        self.model = model
        self.random = random
        self.tokens: dict[str, str] = {}
        self.number = 0
        self.statuses: list[tuple[str, int]] = []
        self.listeners = 0
        self.frames = 0
        self.tamper: Callable[[Answered], Answered] = lambda answer: answer
        self.tamper_frame: Callable[[Any], Any] = lambda event: event

    async def ask(
        self, operation: str, session: str | None = None, body: Any = None, **more: Any
    ) -> Answered | None:
        """One request, told to the model. None when its answer was lost."""
        method, path = PATHS[operation]
        query = {name: str(value) for name, value in more.get("query", {}).items()}
        target = path.replace("{sessionId}", session or "") + (f"?{urlencode(query)}" if query else "")
        content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        credential = more.get("credential", "key")
        headers = self._headers(credential, session, more.get("key"), is_json=body is not None)
        number = -1

        def tell() -> None:
            nonlocal number
            number, self.number = self.number, self.number + 1
            key, flaw = more.get("key"), more.get("flaw")
            now = self.server.now
            self.model.sent(Sent(number, "p", operation, session, credential, now, content, query, key, flaw))

        try:
            answer = await self.server.request(method, target, Heard(headers, tell), content)
        except Disconnected:
            if number >= 0:
                self.model.lost(number, self.server.now)
            return None
        if more.get("lose"):
            self.model.lost(number, self.server.now)
            return None
        names = {name.lower(): value for name, value in answer.headers}
        answered = Answered(self.server.now, answer.status, names, answer.body)
        self.statuses.append((operation, answer.status))
        self.model.answered(number, self.tamper(answered))
        return answered

    async def begin(self, agent: str, user: str, **config: Any) -> str:
        answer = await self.ask(
            "createSession", None, {"agentId": agent, "userId": user, "timeoutConfig": config}
        )
        assert answer is not None
        body = orjson.loads(answer.body)
        self.tokens[body["sessionId"]] = body["sessionToken"]
        return str(body["sessionId"])

    async def listen(self, session: str, after: int | None, for_s: float) -> None:
        """One listener, told to the model from its handshake to its end."""
        name, number = f"listener {self.listeners}", -1
        self.listeners += 1
        query = {} if after is None else {"lastEventId": str(after)}
        target = PATHS["listenToEvents"][1].replace("{sessionId}", session) + (
            f"?{urlencode(query)}" if query else ""
        )

        def tell() -> None:
            nonlocal number
            number, self.number = self.number, self.number + 1
            now = self.server.now
            self.model.sent(Sent(number, "p", "listenToEvents", session, "key", now, b"", query, None, None))

        headers = Heard([("Authorization", f"Bearer {KEY}")], tell)
        async with self.server.listen(target, headers) as listener:
            answer = listener.answer
            names = {key.lower(): value for key, value in answer.headers}
            self.model.answered(number, Answered(self.server.now, answer.status, names, answer.body))
            if answer.status != 101:
                return
            self.model.listener_opened(name, session, after, self.server.now, 101)
            with trio.move_on_after(for_s):
                async for frame in listener:
                    self.frames += 1
                    self.model.frame(name, self.server.now, self.tamper_frame(orjson.loads(frame)))
        if self.server.is_up or listener.close_code is not None:
            self.model.listener_closed(name, self.server.now, listener.close_code)

    def _headers(
        self, credential: str, session: str | None, key: str | None, *, is_json: bool
    ) -> list[tuple[str, str]]:
        other = next((id_ for id_ in self.tokens if id_ != session), "")
        bearer = {
            "key": KEY,
            "bad": "no-such-key-000000000",
            "token": self.tokens.get(session or other),
            "other token": self.tokens.get(other),
        }.get(credential)
        headers = [("Authorization", f"Bearer {bearer}")] if bearer else []
        if key is not None:
            headers.append(("Idempotency-Key", key))
        if is_json:
            headers.append(("Content-Type", "application/json"))
        return headers


async def eavesdrop(people: People, times: int, pause_s: float) -> None:
    """Listens to one session after the other."""
    random = people.random
    for _ in range(times):
        await trio.sleep(random.random() * pause_s)
        if people.tokens and people.server.is_up:
            session = random.choice(list(people.tokens)[-10:])
            after = random.choice([None, None, 0, 3])
            await people.listen(session, after, random.random() * pause_s * 20)


class Store(SlowMemoryStore):
    """A store that is as slow as it is told, refuses when it is told, and may lose what was under way in a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.delay_s = 0.0
        self.is_full = False
        self.is_dead = False

    async def commit(self, writes: Sequence[Write]) -> None:
        if self.is_full:
            raise StoreUnavailable("full")
        if self.delay_s:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.delay_s)
        if self.is_dead:
            raise StoreUnavailable("crashed")
        await super().commit(writes)


async def trouble(people: People, store: Store, times: int, pause_s: float) -> None:
    """Slow and full stores, crashes and clean stops, one after the other."""
    random, server, model = people.random, people.server, people.model
    for _ in range(times):
        await trio.sleep(random.random() * pause_s)
        kind = random.choice(["slow", "full", "crash", "stop", "slow crash"])
        if "slow" in kind:
            model.fault("slow", server.now)
            store.delay_s = random.choice([0.003, 0.1, 2.0])
            await trio.sleep(random.random() * pause_s)
        if kind == "full":
            model.fault("full", server.now)
            store.is_full = True
            await trio.sleep(random.random() * pause_s)
            store.is_full = False
            model.healed("full", server.now)
        if "crash" in kind:
            model.crashed(server.now)
            store.is_dead = random.random() < 0.5
            await server.crash()
        elif kind == "stop":
            model.stopped(server.now)
            await server.stop()
        if not server.is_up:
            await trio.sleep(random.choice([0, random.random() * pause_s]))
            store.is_dead = False
            server.plan = replace(server.plan, clock=ScaledClock(server.plan.clock.now()))
            await server.start()
            model.restarted(server.now, clean=kind == "stop")
        if "slow" in kind:
            store.delay_s = 0.0
            model.healed("slow", server.now)


async def live(people: People, name: str, requests: int, pause_s: float) -> None:
    """One person's random requests."""
    random = people.random
    mine: list[str] = []
    for _ in range(requests):
        await trio.sleep(random.choice([0, 0.001, random.random() * pause_s]))
        while not people.server.is_up:  # noqa: ASYNC110  as a client does
            await trio.sleep(pause_s)
        if not mine or random.random() < 0.1:
            await _begin(people, name, mine)
        else:
            session = (
                random.choice(list(people.tokens)[-20:]) if random.random() < 0.5 else random.choice(mine)
            )
            await _do(people, session)


async def _begin(people: People, name: str, mine: list[str]) -> None:
    random = people.random
    agent = random.choice(["echo", "mute", "nobody"] if random.random() < 0.2 else ["echo", "mute", "tight"])
    config = {
        "timeoutMinutes": random.choice([5, 10, 60]),
        "autoRenew": random.random() < 0.6,
        "maxDurationMinutes": random.choice([5, 20, 200]),
        "warningThresholdMinutes": random.choice([1, 5, 30]),
    }
    some = {field: value for field, value in config.items() if random.random() < 0.7}
    body = {"agentId": agent, "userId": name, "metadata": {"n": people.number}, "timeoutConfig": some}
    key = random.choice([None, None, f"c{random.randrange(20)}"])
    answer = await people.ask("createSession", None, body, key=key, lose=random.random() < 0.1)
    if answer is not None and answer.status == 201:
        created = orjson.loads(answer.body)
        mine.append(created["sessionId"])
        people.tokens[created["sessionId"]] = created["sessionToken"]


async def _do(people: People, session: str) -> None:
    random = people.random
    operation = random.choice(_OPERATIONS)
    credential = random.choice(["key"] * 4 + ["token"] * 4 + ["none", "bad"])
    more: dict[str, Any] = {"credential": credential, "lose": random.random() < 0.1}
    if operation == "sendMessage":
        await _say(people, session, more)
    elif operation == "getMessages":
        await people.ask(operation, session, query=_page_query(people), **more)
    elif operation == "updateTimeout":
        await people.ask(operation, session, _change(random), **more)
    elif operation == "listSessions":
        credential = random.choice(["key", "key", "none", "token"])
        await people.ask(operation, None, query=_list_query(random), credential=credential)
    elif operation == "getHealth":
        await people.ask(operation, None)
    elif operation == "bad":
        await people.ask("sendMessage", session, {"content": "  "}, flaw=400, credential=credential)
    else:
        await people.ask(operation, session, **more)


_OPERATIONS = (
    ["sendMessage"] * 4
    + ["getMessages"] * 3
    + ["getSession", "heartbeat", "renewSession", "updateTimeout"] * 2
    + ["listSessions", "getHealth", "endSession", "bad"]
)


async def _say(people: People, session: str, more: dict[str, Any]) -> None:
    random = people.random
    body: Any = {"content": random.choice(["hello", "what?", f"number {people.number}"])}
    if random.random() < 0.2:
        body["metadata"] = {"a": [1, "x"]}
        body["attachments"] = [{"type": "image", "url": "https://example.com/a.png", "name": "a.png"}]
    body["transport"] = random.choice(["websocket", "websocket", "http", "sse"])
    more["key"] = random.choice([None, None, f"s{random.randrange(3)}"])
    if more["key"] and random.random() < 0.8:
        body = {"content": "always the same"}
    await people.ask("sendMessage", session, body, **more)


def _change(random: Random) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "timeoutMinutes": random.choice([5, 10, 60]),
        "autoRenew": random.random() < 0.5,
        "maxDurationMinutes": random.choice([1, 20, 200]),
        "warningThresholdMinutes": random.choice([1, 5, 30]),
    }
    name = random.choice(list(fields))
    return {name: fields[name]}


def _list_query(random: Random) -> dict[str, Any]:
    query = {"status": random.choice(["active", "expired", "all"]), "limit": random.choice([1, 5, 50, 1000])}
    if random.random() < 0.5:
        query["userId"] = f"user{random.randrange(5)}"
    if random.random() < 0.3:
        query["agentId"] = "echo"
    if random.random() < 0.3:
        query["offset"] = random.randrange(4)
    return query


def _page_query(people: People) -> dict[str, int]:
    random = people.random
    query = {"limit": random.choice([1, 2, 5, 50])}
    for name in ("before", "after"):
        if random.random() < 0.4:
            query[name] = people.server.now - random.randrange(0, 120_000)
    return query
