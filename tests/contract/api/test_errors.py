"""Every way a request can fail (spec section 9): each code once, its exact shape, and what a failure leaves behind."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock

from tests.contract.faults import FailingStore, SlowStore
from tests.contract.logs import captured_logs
from tests.contract.operations import (
    CREATE,
    END,
    GET,
    HEALTH,
    HEARTBEAT,
    HISTORY,
    LIST,
    NEW_SESSION,
    NOWHERE,
    ON_SESSION,
    RENEW,
    RETIME,
    SEND,
    Operation,
    key_without,
    subject,
)
from tests.harness import AGENTS, Answer, Api
from vigil.actors.agents.base import AgentEntry, Reply, Turn
from vigil.actors.core.commands import Transition
from vigil.actors.core.lifecycle import step
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import Anchor
from vigil.actors.runtime import actor as actor_module
from vigil.actors.runtime.creation import Rules
from vigil.actors.stores.base import BrokenRecord, Snapshot
from vigil.actors.stores.memory import MemoryStore
from vigil.actors.turns.turns import WAITING_MAX

KEY = {"Idempotency-Key": "one"}


class Told(NamedTuple):
    """How an error is told, but for the words of its message."""

    status: int
    error: str
    code: str
    details: Any
    headers: dict[str, str] | None = None


async def _invalid(api: Api) -> tuple[Answer, Told]:
    details = {"errors": [{"path": "limit", "message": "must be at least 1"}]}
    answer = await LIST(api, query="?limit=0")
    return answer, Told(400, "ValidationError", "VALIDATION_ERROR", details)


async def _unauthenticated(api: Api) -> tuple[Answer, Told]:
    headers = {"WWW-Authenticate": 'Bearer realm="vigil"'}
    answer = await LIST(api, credential=None)
    return answer, Told(401, "UnauthenticatedError", "UNAUTHENTICATED", {}, headers)


async def _forbidden(api: Api) -> tuple[Answer, Told]:
    challenge = 'Bearer realm="vigil", error="insufficient_scope", scope="sessions:read"'
    answer = await LIST(api, credential=key_without("sessions:read"))
    return answer, Told(403, "ForbiddenError", "FORBIDDEN", {}, {"WWW-Authenticate": challenge})


async def _no_agent(api: Api) -> tuple[Answer, Told]:
    answer = await CREATE(api, body={**NEW_SESSION, "agentId": "nobody"})
    return answer, Told(404, "AgentNotFoundError", "AGENT_NOT_FOUND", {"agentId": "nobody"})


async def _no_session(api: Api) -> tuple[Answer, Told]:
    answer = await GET(api, NOWHERE)
    return answer, Told(404, "SessionNotFoundError", "SESSION_NOT_FOUND", {"sessionId": NOWHERE})


async def _nothing_there(api: Api) -> tuple[Answer, Told]:
    return await api.request("GET", "//nothing"), Told(404, "NotFoundError", "NOT_FOUND", {})


async def _wrong_method(api: Api) -> tuple[Answer, Told]:
    told = Told(405, "MethodNotAllowedError", "METHOD_NOT_ALLOWED", {}, {"Allow": "GET, HEAD, POST"})
    return await api.request("DELETE", ""), told


async def _key_in_flight(api: Api) -> tuple[Answer, Told]:
    store = SlowStore()
    await api.restart(store=store)
    store.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: CREATE(api, headers=KEY))
        await store.reached.wait()
        answer = await CREATE(api, headers=KEY)
        store.gate.set()
    return answer, Told(409, "IdempotencyConflictError", "IDEMPOTENCY_CONFLICT", {})


async def _expired(api: Api) -> tuple[Answer, Told]:
    created = await api.create()
    await trio.sleep(30 * 60)
    details = {
        "sessionId": created["sessionId"],
        "expiresAt": created["expiresAt"],
        "reason": "inactivity",
        "lastActivity": created["createdAt"],
        "renewalCount": 0,
    }
    return await GET(api, created["sessionId"]), Told(410, "SessionExpiredError", "SESSION_EXPIRED", details)


async def _too_large(api: Api) -> tuple[Answer, Told]:
    answer = await CREATE(api, content=b" " * (256 * 1024 + 1))
    return answer, Told(413, "PayloadTooLargeError", "PAYLOAD_TOO_LARGE", {})


async def _wrong_type(api: Api) -> tuple[Answer, Told]:
    answer = await CREATE(api, content=b"<xml/>", headers={"Content-Type": "text/xml"})
    return answer, Told(415, "UnsupportedMediaTypeError", "UNSUPPORTED_MEDIA_TYPE", {})


async def _renewal_at_the_cap(api: Api) -> tuple[Answer, Told]:
    session_id = (await api.create(timeoutConfig={"maxDurationMinutes": 5}))["sessionId"]
    details = {"sessionId": session_id, "reason": "max_duration"}
    return await RENEW(api, session_id), Told(422, "SessionRenewalError", "SESSION_RENEWAL_FAILED", details)


async def _key_reused(api: Api) -> tuple[Answer, Told]:
    await CREATE(api, headers=KEY)
    answer = await CREATE(api, headers=KEY, body={**NEW_SESSION, "userId": "another"})
    return answer, Told(422, "IdempotencyKeyReusedError", "IDEMPOTENCY_KEY_REUSED", {})


async def _limited(api: Api) -> tuple[Answer, Told]:
    await api.restart(session_limit=Limit(1, 60))
    session_id = await subject(api, GET)
    await GET(api, session_id)
    details = {"scope": "session", "limit": 1, "windowSeconds": 60, "retryAfterMs": 60_000}
    told = Told(429, "RateLimitedError", "RATE_LIMITED", details, {"Retry-After": "60"})
    return await GET(api, session_id), told


async def _bug(api: Api) -> tuple[Answer, Told]:
    api.site.health.check = None  # type: ignore[assignment,method-assign]
    answer = await HEALTH(api)
    details = {"requestId": answer.headers["X-Request-Id"]}
    return answer, Told(500, "InternalError", "INTERNAL_ERROR", details)


async def _full(api: Api) -> tuple[Answer, Told]:
    await api.restart(rules=Rules(session_max=1))
    await api.create()
    return await CREATE(api), Told(503, "OverloadedError", "OVERLOADED", {}, {"Retry-After": "60"})


async def _store_down(api: Api) -> tuple[Answer, Told]:
    store = FailingStore()
    await api.restart(store=store)
    store.broken = True
    answer = await CREATE(api)
    store.broken = False
    return answer, Told(503, "StoreUnavailableError", "STORE_UNAVAILABLE", {}, {"Retry-After": "1"})


EVERY: tuple[Callable[[Api], Awaitable[tuple[Answer, Told]]], ...] = (
    _invalid,
    _unauthenticated,
    _forbidden,
    _no_agent,
    _no_session,
    _nothing_there,
    _wrong_method,
    _key_in_flight,
    _expired,
    _too_large,
    _wrong_type,
    _renewal_at_the_cap,
    _key_reused,
    _limited,
    _bug,
    _full,
    _store_down,
)  # AGENT_FAILED and AGENT_TIMEOUT come with the transport that waits for the agent


@pytest.mark.parametrize("produce", EVERY, ids=lambda produce: produce.__name__.strip("_"))
async def test_each_error_has_its_status_name_code_details_and_headers(
    api: Api, autojump_clock: MockClock, produce: Callable[[Api], Awaitable[tuple[Answer, Told]]]
) -> None:
    answer, told = await produce(api)
    body = answer.json
    assert list(body) == ["error", "code", "message", "details"]
    assert isinstance(body["message"], str)
    assert 0 < len(body["message"]) < 200
    assert (answer.status, body["error"], body["code"], body["details"]) == told[:4]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    challenges = {"WWW-Authenticate", "Allow", "Retry-After"}
    assert {name: answer.headers[name] for name in challenges if name in answer.headers} == (
        told.headers or {}
    )


async def test_a_server_that_stops_is_not_ready_in_the_same_shape(api: Api) -> None:
    api.site.ready = False
    answer = await api.request("GET", "//readyz", credential=None)
    assert (answer.status, answer.code, answer.json["error"]) == (503, "OVERLOADED", "OverloadedError")
    assert answer.headers["Retry-After"] == "1"


# --- bugs


async def _boom(*_args: object, **_options: object) -> Any:
    raise RuntimeError("the password is hunter2, see /etc/vigil")


async def test_a_bug_leaks_nothing_but_the_request_id_and_is_logged(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await subject(api, HISTORY)
    monkeypatch.setattr(api.site.directory.store, "history", _boom)
    with captured_logs() as lines:
        answer = await HISTORY(api, session_id, headers={"X-Request-Id": "abc"})
    assert (answer.status, answer.json["details"]) == (500, {"requestId": "abc"})
    seen = repr(answer.headers) + answer.content.decode()
    assert not any(word in seen for word in ("hunter2", "RuntimeError", "vigil/", "/etc", "Traceback"))
    (crash,) = [line for line in lines if line["log_level"] == "error"]
    assert (crash["request_id"], str(crash["exc_info"])) == ("abc", "the password is hunter2, see /etc/vigil")


@pytest.fixture
async def victim(api: Api, monkeypatch: pytest.MonkeyPatch) -> str:
    """A session whose every command is a bug."""
    session_id = await subject(api, GET)

    def faulty_step(state: Any, command: Any, now: int) -> Transition:
        if state.id == session_id:
            raise RuntimeError("the password is hunter2")
        return step(state, command, now)

    monkeypatch.setattr(actor_module, "step", faulty_step)
    return session_id


async def test_a_crashed_session_is_500_on_that_request_alone(
    api: Api, autojump_clock: MockClock, victim: str
) -> None:
    other = await subject(api, SEND)
    answer = await SEND(api, victim)
    assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
    assert "hunter2" not in answer.content.decode()
    assert (await SEND(api, other)).status == 201
    assert (await GET(api, victim)).status == 200


async def test_a_quarantined_session_is_500_on_its_id_alone_until_it_is_deleted(
    api: Api, autojump_clock: MockClock, victim: str
) -> None:
    for _ in range(3):
        assert (await HEARTBEAT(api, victim)).status == 500
        await trio.sleep(1)
    for operation in ON_SESSION:
        if operation is not END:
            answer = await operation(api, victim, headers={"X-Request-Id": "abc"})
            assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
            assert answer.json["details"] == {"requestId": "abc"}
            assert "quarantine" not in answer.content.decode()
    assert (await api.create())["status"] == "active"
    assert (await END(api, victim)).status == 200
    assert (await GET(api, victim)).status == 404


class HalfReadable(MemoryStore):
    """A store with one record that cannot be read."""

    async def start(self, anchor: Callable[[], Anchor]) -> Snapshot:
        snapshot = await super().start(anchor)
        return snapshot._replace(broken=[BrokenRecord(7, NOWHERE, "not valid JSON")], next_key=8)


async def test_a_record_that_cannot_be_restored_is_500_until_it_is_deleted(api: Api) -> None:
    await api.restart(store=HalfReadable())
    answer = await GET(api, NOWHERE)
    assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
    assert (await END(api, NOWHERE)).status == 200
    assert (await GET(api, NOWHERE)).status == 404


# --- 503


@pytest.mark.parametrize("operation", [SEND, RENEW, RETIME, HEARTBEAT, END], ids=lambda one: str(one.name))
async def test_what_cannot_be_committed_is_503_and_did_not_happen(
    api: Api, autojump_clock: MockClock, operation: Operation
) -> None:
    store = FailingStore()
    await api.restart(store=store)
    session_id = await subject(api, operation)
    before = await api.get(session_id)
    store.broken = True
    answer = await operation(api, session_id)
    assert (answer.status, answer.code) == (503, "STORE_UNAVAILABLE")
    assert (answer.json["details"], answer.headers["Retry-After"]) == ({}, "1")
    assert "secret" not in answer.content.decode()
    assert await api.get(session_id) == before
    assert (await HISTORY(api, session_id)).json["messages"] == []
    store.broken = False
    await trio.sleep(1)
    assert (await operation(api, session_id)).status == operation.status


async def test_a_session_that_could_not_be_stored_is_not_there(api: Api) -> None:
    store = FailingStore()
    await api.restart(store=store)
    store.broken = True
    assert (await CREATE(api)).status == 503
    store.broken = False
    assert (await LIST(api)).json["stats"]["totalSessions"] == 0


async def test_the_session_cap_is_503_until_a_session_goes(api: Api) -> None:
    await api.restart(rules=Rules(session_max=2))
    first = (await api.create())["sessionId"]
    await api.create()
    answer = await CREATE(api)
    assert (answer.status, answer.code) == (503, "OVERLOADED")
    assert int(answer.headers["Retry-After"]) >= 1
    await END(api, first)
    assert (await CREATE(api)).status == 201


async def test_a_full_mailbox_is_503_at_once_and_loses_nobody_who_waits(
    api: Api, autojump_clock: MockClock
) -> None:
    store = SlowStore()
    await api.restart(store=store, session_limit=Limit(1000, 60))
    session_id = await subject(api, SEND)
    store.gate = trio.Event()
    waited: list[Answer] = []

    async def wait(operation: Operation) -> None:
        waited.append(await operation(api, session_id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, SEND)
        await store.reached.wait()
        for _ in range(64):
            nursery.start_soon(wait, HEARTBEAT)
        await trio.testing.wait_all_tasks_blocked()
        refused = await HEARTBEAT(api, session_id)
        assert waited == []
        store.gate.set()
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "OVERLOADED", "1")
    assert sorted(answer.status for answer in waited) == [200] * 64 + [201]


class Hanging:
    async def reply(self, _turn: Turn) -> Reply:
        await trio.sleep_forever()
        raise AssertionError


async def test_256_turns_may_wait_beside_the_one_that_runs_and_one_more_is_503(
    api: Api, autojump_clock: MockClock
) -> None:
    agents = {**AGENTS, "hanging": AgentEntry("hanging", "Hanging", Hanging())}
    await api.restart(agents=agents, session_limit=Limit(1000, 60))
    session_id = (await api.create(agentId="hanging"))["sessionId"]
    statuses: Sequence[int] = [(await SEND(api, session_id)).status for _ in range(1 + WAITING_MAX)]
    assert set(statuses) == {201}
    refused = await SEND(api, session_id)
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "OVERLOADED", "1")
    last = (await HISTORY(api, session_id)).json["messages"][0]
    assert (await HEARTBEAT(api, session_id)).status == 200
    assert (await HISTORY(api, session_id)).json["messages"][0] == last
