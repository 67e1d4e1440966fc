"""Which answer a request gets that breaks several rules at once (spec section 6, "Order of checks").

A fault is something that makes a good request be refused. Every fault is tried alone, to see that it does, and
together with every fault of a later check, to see that the earlier one is what is told.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.contract.faults import FailingStore
from tests.contract.operations import (
    CREATE,
    GET,
    HEARTBEAT,
    LIST,
    NEW_SESSION,
    NOWHERE,
    RENEW,
    RETIME,
    SEND,
    Operation,
    key_without,
)
from tests.harness import OWNER, Answer, Api, WayIn, running_api
from vigil.actors.core.errors import RateLimited
from vigil.server.api.call import Site


@dataclass
class World:
    """A server with a live and an expired session, and the idempotency key `used` used.

    Its tests take `autojump_clock` themselves: a fixture cannot put them into virtual time.
    """

    api: Api
    store: FailingStore
    live: str
    expired: str
    state: ExitStack

    def use_up_the_limits(self) -> None:
        limits = self.api.site.directory.limits
        with suppress(RateLimited):
            while True:
                limits.admit(self.api.now, NEW_SESSION["userId"], NEW_SESSION["agentId"])


@dataclass
class Draft:
    """A request to be: good, until faults are worked into it."""

    operation: Operation
    session_id: str
    body: dict[str, Any]
    size: int = 0
    credential: str | None = OWNER
    query: str = ""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    async def send(self, api: Api) -> Answer:
        return await self.operation(
            api,
            self.session_id,
            self.query,
            credential=self.credential,
            content=json.dumps(self.body).encode().ljust(self.size),
            headers=self.headers,
        )


@pytest.fixture
async def world(way: Callable[[Site], WayIn]) -> AsyncIterator[World]:
    store = FailingStore()
    used = {"Idempotency-Key": "used"}
    async with running_api(way, store=store) as api:
        expired = (await api.create(timeoutConfig={"maxDurationMinutes": 1}))["sessionId"]
        await trio.sleep(60)
        live = (await CREATE(api, headers=used)).json["sessionId"]
        assert (await SEND(api, live, headers=used)).status == 201
        with ExitStack() as state:
            yield World(api, store, live, expired, state)
        store.broken = False


# --- faults


def no_credentials(_world: World, draft: Draft) -> None:
    draft.credential = None


def bad_credentials(_world: World, draft: Draft) -> None:
    draft.credential = "no-such-key"


def too_few_scopes(_world: World, draft: Draft) -> None:
    draft.credential = key_without(draft.operation.scope)


def another_sessions_token(world: World, draft: Draft) -> None:
    draft.credential = world.api.site.auth.mint("6f1f3c6f-7a01-4c55-8a52-0b5c3f0e7d1a")


def unknown_session(_world: World, draft: Draft) -> None:
    draft.session_id = NOWHERE


def expired_session(world: World, draft: Draft) -> None:
    draft.session_id = world.expired


def no_requests_left(world: World, _draft: Draft) -> None:
    world.use_up_the_limits()


def too_large(_world: World, draft: Draft) -> None:
    draft.size = 256 * 1024 + 1


def not_json_by_its_type(_world: World, draft: Draft) -> None:
    draft.headers["Content-Type"] = "text/plain"


def bad_field(_world: World, draft: Draft) -> None:
    draft.body["metadata"] = None


def unknown_query(_world: World, draft: Draft) -> None:
    draft.query = "?colour=red"


def bad_idempotency_key(_world: World, draft: Draft) -> None:
    draft.headers["Idempotency-Key"] = "two words"


def prohibited_content(_world: World, draft: Draft) -> None:
    draft.body["content"] = "<script>1</script>"


def unknown_agent(_world: World, draft: Draft) -> None:
    draft.body["agentId"] = "nobody"


def key_in_flight(world: World, draft: Draft) -> None:
    draft.headers["Idempotency-Key"] = "flying"
    scope = "owner" if draft.operation is CREATE else draft.session_id
    world.state.enter_context(world.api.site.directory.keys.claim(scope, "flying"))


def key_used_with_another_body(_world: World, draft: Draft) -> None:
    draft.headers["Idempotency-Key"] = "used"
    draft.body["metadata"] = {"another": "body"}


def store_out_of_order(world: World, _draft: Draft) -> None:
    world.store.broken = True


Fault = Callable[[World, Draft], None]
Check = Sequence[tuple[int, Fault]]

LET_IN: tuple[Check, ...] = (
    ((401, no_credentials), (401, bad_credentials)),
    ((403, too_few_scopes), (403, another_sessions_token)),
)
BODY: Check = ((413, too_large), (415, not_json_by_its_type))
FIELDS: Check = ((400, bad_field), (400, unknown_query), (400, bad_idempotency_key))
LIMIT: Check = ((429, no_requests_left),)
KEY: Check = ((409, key_in_flight), (422, key_used_with_another_body))
STORE: Check = ((503, store_out_of_order),)

ON_CREATE: tuple[Check, ...] = (*LET_IN, BODY, FIELDS, ((404, unknown_agent),), LIMIT, KEY, STORE)
ON_SESSION: tuple[Check, ...] = (
    *LET_IN,
    ((404, unknown_session), (410, expired_session)),
    LIMIT,
    BODY,
    (*FIELDS, (400, prohibited_content)),
    KEY,
    STORE,
)
ORDERS = {CREATE: ON_CREATE, SEND: ON_SESSION}

ALONE = [
    pytest.param(operation, *fault, id=f"{operation.name}: {fault[1].__name__}")
    for operation, checks in ORDERS.items()
    for check in checks
    for fault in check
]
PAIRS = [
    pytest.param(
        operation, *first, second[1], id=f"{operation.name}: {first[1].__name__}, {second[1].__name__}"
    )
    for operation, checks in ORDERS.items()
    for earlier, later in combinations(checks, 2)
    for first in earlier
    for second in later
]


def good_draft(world: World, operation: Operation) -> Draft:
    return Draft(operation, world.live if operation.names_a_session else "", dict(operation.body))


@pytest.mark.parametrize(("operation", "status", "fault"), ALONE)
async def test_each_fault_alone_is_told(
    world: World, autojump_clock: MockClock, operation: Operation, status: int, fault: Fault
) -> None:
    draft = good_draft(world, operation)
    fault(world, draft)
    assert (await draft.send(world.api)).status == status


@pytest.mark.parametrize(("operation", "status", "first", "second"), PAIRS)
async def test_of_two_faults_the_earlier_check_is_told(
    world: World, autojump_clock: MockClock, operation: Operation, status: int, first: Fault, second: Fault
) -> None:
    draft = good_draft(world, operation)
    second(world, draft)
    first(world, draft)
    assert (await draft.send(world.api)).status == status


async def test_a_draft_without_faults_is_good(world: World, autojump_clock: MockClock) -> None:
    for operation in ORDERS:
        assert (await good_draft(world, operation).send(world.api)).status == 201


# --- what the two tables do not reach


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/x/nothing", 404), ("PUT", "", 405), ("POST", "/health", 405)]
)
async def test_routing_comes_before_everything(api: Api, method: str, path: str, status: int) -> None:
    too_much = b"x" * (256 * 1024 + 1)
    answer = await api.request(method, path + "?colour=red", credential=None, content=too_much)
    assert answer.status == status


async def test_a_list_is_refused_before_its_query_is_read(api: Api) -> None:
    assert (await LIST(api, query="?limit=0", credential=None)).status == 401
    assert (await LIST(api, query="?limit=0", credential=key_without("sessions:read"))).status == 403


async def test_a_read_is_limited_before_its_query_is_read(world: World, autojump_clock: MockClock) -> None:
    assert (await GET(world.api, world.live, "?colour=red")).status == 400
    world.use_up_the_limits()
    assert (await GET(world.api, world.live, "?colour=red")).status == 429


async def test_renewing_at_the_cap_is_400_then_422_then_503(world: World, autojump_clock: MockClock) -> None:
    capped = (await world.api.create(timeoutConfig={"maxDurationMinutes": 5}))["sessionId"]
    world.store.broken = True
    assert (await RENEW(world.api, capped, body={"colour": "red"})).status == 400
    assert (await RENEW(world.api, capped)).status == 422
    assert (await RENEW(world.api, world.live)).status == 503


async def test_a_change_that_ends_the_session_is_400_before_503(
    world: World, autojump_clock: MockClock
) -> None:
    await trio.sleep(5 * 60)
    world.store.broken = True
    assert (await RETIME(world.api, world.live, body={"maxDurationMinutes": 5})).status == 400
    assert (await RETIME(world.api, world.live, body={"maxDurationMinutes": 6})).status == 503


async def test_an_agent_that_is_unknown_costs_nothing(world: World, autojump_clock: MockClock) -> None:
    before = world.api.site.directory.limits.statistics()
    answer = await CREATE(world.api, body={**NEW_SESSION, "agentId": "nobody"})
    assert answer.status == 404
    assert "RateLimit" not in answer.headers
    assert world.api.site.directory.limits.statistics() == before


@pytest.mark.parametrize("fault", [too_large, not_json_by_its_type, bad_field, key_used_with_another_body])
async def test_a_request_for_a_session_is_charged_before_its_body_is_read(
    world: World, autojump_clock: MockClock, fault: Fault
) -> None:
    draft = good_draft(world, SEND)
    fault(world, draft)
    left = [
        (await answer).headers["RateLimit"]
        for answer in (_after(world), draft.send(world.api), _after(world))
    ]
    assert [header.split(";")[1] for header in left] == ["r=58", "r=57", "r=56"]


async def _after(world: World) -> Answer:
    return await HEARTBEAT(world.api, world.live)
