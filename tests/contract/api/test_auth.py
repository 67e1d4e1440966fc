"""Who is let in to what (spec section 6)."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from tests.contract.logs import captured_logs
from tests.contract.operations import (
    CREATE,
    END,
    GET,
    HEALTH,
    LIST,
    NOWHERE,
    ON_SERVICE,
    ON_SESSION,
    OPERATIONS,
    SEND,
    Operation,
    key_without,
    subject,
)
from tests.harness import KEYS, OWNER, Answer, Api, only
from vigil.server.api.auth import SCOPES, Principal

EVERY = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
EVERY_ON_SESSION = pytest.mark.parametrize("operation", ON_SESSION, ids=lambda operation: operation.name)

NO_ERROR = 'Bearer realm="vigil"'
INVALID_TOKEN = 'Bearer realm="vigil", error="invalid_token"'


class Case(NamedTuple):
    """A credential, the session that is asked for, and what comes of it."""

    credential: str | None
    session_id: str
    status: int | None  # None: as it succeeds
    challenge: str | None = None


def insufficient(operation: Operation) -> str:
    return f'Bearer realm="vigil", error="insufficient_scope", scope="{operation.scope}"'


# --- the matrix: every operation x every kind of credential


async def no_credentials(api: Api, operation: Operation) -> Case:
    return Case(None, await subject(api, operation), 401, NO_ERROR)


async def a_bad_key(api: Api, operation: Operation) -> Case:
    return Case("no-such-key", await subject(api, operation), 401, INVALID_TOKEN)


async def a_key_with_the_scope_alone(api: Api, operation: Operation) -> Case:
    return Case(only(operation.scope), await subject(api, operation), None)


async def a_key_with_all_scopes(api: Api, operation: Operation) -> Case:
    return Case(OWNER, await subject(api, operation), None)


async def a_key_without_the_scope(api: Api, operation: Operation) -> Case:
    return Case(key_without(operation.scope), await subject(api, operation), 403, insufficient(operation))


async def a_key_without_the_scope_for_no_session(api: Api, operation: Operation) -> Case:
    return Case(key_without(operation.scope), NOWHERE, 403, insufficient(operation))


async def the_sessions_own_token(api: Api, operation: Operation) -> Case:
    created = await api.create()
    if operation in ON_SERVICE:
        return Case(created["sessionToken"], "", 403, insufficient(operation))
    return Case(created["sessionToken"], created["sessionId"], None)


async def another_sessions_token(api: Api, operation: Operation) -> Case:
    token = (await api.create())["sessionToken"]
    return Case(token, await subject(api, operation), 403, insufficient(operation))


async def a_token_for_no_session(api: Api, operation: Operation) -> Case:
    return Case((await api.create())["sessionToken"], NOWHERE, 403, insufficient(operation))


async def the_token_of_an_ended_session(api: Api, operation: Operation) -> Case:
    created = await api.create()
    await END(api, created["sessionId"])
    status = 404 if operation.names_a_session else 403
    challenge = None if operation.names_a_session else insufficient(operation)
    return Case(created["sessionToken"], created["sessionId"], status, challenge)


async def an_ended_sessions_token_for_another(api: Api, operation: Operation) -> Case:
    created = await api.create()
    await END(api, created["sessionId"])
    return Case(created["sessionToken"], await subject(api, operation), 403, insufficient(operation))


async def a_token_with_a_wrong_signature(api: Api, operation: Operation) -> Case:
    created = await api.create()
    token = created["sessionToken"]
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    return Case(forged, created["sessionId"], 401, INVALID_TOKEN)


async def a_token_with_another_sessions_id(api: Api, operation: Operation) -> Case:
    mine, other = await api.create(), await api.create()
    signature = mine["sessionToken"].partition(".")[2]
    return Case(f"{other['sessionId']}.{signature}", other["sessionId"], 401, INVALID_TOKEN)


MATRIX: tuple[Callable[[Api, Operation], Awaitable[Case]], ...] = (
    no_credentials,
    a_bad_key,
    a_key_with_the_scope_alone,
    a_key_with_all_scopes,
    a_key_without_the_scope,
    a_key_without_the_scope_for_no_session,
    the_sessions_own_token,
    another_sessions_token,
    a_token_for_no_session,
    the_token_of_an_ended_session,
    an_ended_sessions_token_for_another,
    a_token_with_a_wrong_signature,
    a_token_with_another_sessions_id,
)
CODES = {401: "UNAUTHENTICATED", 403: "FORBIDDEN", 404: "SESSION_NOT_FOUND"}


@pytest.mark.parametrize("case_of", MATRIX, ids=lambda case_of: case_of.__name__)
@EVERY
async def test_who_may_do_what(
    api: Api, operation: Operation, case_of: Callable[[Api, Operation], Awaitable[Case]]
) -> None:
    case = await case_of(api, operation)
    answer = await operation(api, case.session_id, credential=case.credential)
    assert answer.status == (case.status or operation.status)
    assert answer.code == CODES.get(answer.status, "")
    assert answer.headers.get("WWW-Authenticate") == case.challenge


async def test_each_scope_opens_its_own_operations_and_no_others(api: Api) -> None:
    opened = {
        scope: {
            operation.name
            for operation in OPERATIONS
            if (await operation(api, await subject(api, operation), credential=only(scope))).status
            == operation.status
        }
        for scope in SCOPES
    }
    assert opened == {
        scope: {operation.name for operation in OPERATIONS if operation.scope == scope} for scope in SCOPES
    }


# --- after the session's end


@EVERY_ON_SESSION
async def test_a_token_outlives_its_session_to_be_told_410_and_then_404(
    api: Api, autojump_clock: MockClock, operation: Operation
) -> None:
    created = await api.create(timeoutConfig={"timeoutMinutes": 5})
    session_id, token = created["sessionId"], created["sessionToken"]
    await trio.sleep(5 * 60)
    expired = await operation(api, session_id, credential=token)
    assert expired.status == (200 if operation is END else 410)
    await trio.sleep(24 * 3600)
    assert (await operation(api, session_id, credential=token)).status == 404


@EVERY_ON_SESSION
async def test_another_sessions_token_is_403_for_an_expired_session_too(
    api: Api, autojump_clock: MockClock, operation: Operation
) -> None:
    session_id = (await api.create(timeoutConfig={"timeoutMinutes": 5}))["sessionId"]
    await trio.sleep(5 * 60)
    token = (await api.create())["sessionToken"]
    assert (await operation(api, session_id, credential=token)).status == 403


async def test_a_token_survives_a_restart(api: Api) -> None:
    created = await api.create()
    await api.restart()
    assert (await GET(api, created["sessionId"], credential=created["sessionToken"])).status == 200


async def test_with_another_secret_a_token_is_worth_nothing(api: Api) -> None:
    created = await api.create()
    await api.restart(secret=b"t" * 32)
    assert (await GET(api, created["sessionId"], credential=created["sessionToken"])).status == 401


async def test_a_revoked_key_is_401_from_then_on(api: Api) -> None:
    keys = dict(KEYS)
    await api.restart(find_key=keys.get)
    assert (await LIST(api)).status == 200
    del keys[OWNER]
    answer = await LIST(api)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, INVALID_TOKEN)


# --- the headers


async def ask(api: Api, *headers: tuple[str, str]) -> Answer:
    return await LIST(api, credential=None, headers=headers)


GOOD, BAD = "other-key-0123456789", "no-such-key"
HEADERS: dict[str, tuple[int, str | None, tuple[tuple[str, str], ...]]] = {
    "a key in Authorization": (200, None, (("Authorization", f"Bearer {GOOD}"),)),
    "the scheme in any case": (200, None, (("Authorization", f"bEARER {GOOD}"),)),
    "a key in X-API-KEY": (200, None, (("X-API-KEY", GOOD),)),
    "the header's name in any case": (200, None, (("x-api-key", GOOD),)),
    "a bad key in X-API-KEY": (401, INVALID_TOKEN, (("X-API-KEY", BAD),)),
    "an empty X-API-KEY": (401, INVALID_TOKEN, (("X-API-KEY", ""),)),
    "X-API-KEY with a scheme": (401, INVALID_TOKEN, (("X-API-KEY", f"Bearer {GOOD}"),)),
    "both good": (200, None, (("X-API-KEY", GOOD), ("Authorization", f"Bearer {GOOD}"))),
    "only X-API-KEY bad": (200, None, (("X-API-KEY", BAD), ("Authorization", f"Bearer {GOOD}"))),
    "only Authorization bad": (
        401,
        INVALID_TOKEN,
        (("X-API-KEY", GOOD), ("Authorization", f"Bearer {BAD}")),
    ),
    "X-API-KEY beside Basic": (401, INVALID_TOKEN, (("X-API-KEY", GOOD), ("Authorization", "Basic eDp5"))),
    "X-API-KEY beside an empty Authorization": (
        401,
        INVALID_TOKEN,
        (("X-API-KEY", GOOD), ("Authorization", "")),
    ),
    "no scheme": (401, INVALID_TOKEN, (("Authorization", GOOD),)),
    "no token": (401, INVALID_TOKEN, (("Authorization", "Bearer"),)),
    "two tokens": (401, INVALID_TOKEN, (("Authorization", f"Bearer {GOOD} {GOOD}"),)),
    "two Authorization headers": (401, INVALID_TOKEN, (("Authorization", f"Bearer {GOOD}"),) * 2),
    "two X-API-KEY headers": (401, INVALID_TOKEN, (("X-API-KEY", GOOD),) * 2),
    "not ASCII": (401, INVALID_TOKEN, (("Authorization", "Bearer cl\xe9"),)),
    "a cookie": (401, NO_ERROR, (("Cookie", f"token={GOOD}"),)),
}


@pytest.mark.parametrize("case", HEADERS)
async def test_how_credentials_are_presented(api: Api, case: str) -> None:
    status, challenge, headers = HEADERS[case]
    answer = await ask(api, *headers)
    assert (answer.status, answer.headers.get("WWW-Authenticate")) == (status, challenge)


async def test_when_both_come_the_scopes_are_those_of_authorization(api: Api) -> None:
    headers = {"X-API-KEY": OWNER, "Authorization": f"Bearer {only('sessions:write')}"}
    assert (await LIST(api, credential=None, headers=headers)).status == 403


async def test_a_session_token_may_come_in_x_api_key(api: Api) -> None:
    created = await api.create()
    headers = {"X-API-KEY": created["sessionToken"]}
    assert (await GET(api, created["sessionId"], credential=None, headers=headers)).status == 200
    assert (await LIST(api, credential=None, headers=headers)).status == 403


@pytest.mark.parametrize("query", [f"?token={OWNER}", f"?access_token={OWNER}", f"?api_key={OWNER}"])
async def test_a_key_in_the_query_string_is_no_credential(api: Api, query: str) -> None:
    answer = await LIST(api, query=query, credential=None)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, NO_ERROR)


# --- what must never be seen


async def test_keys_and_tokens_reach_no_log_line_no_error_and_no_metric(api: Api) -> None:
    with captured_logs() as lines:
        created = await api.create()
        session_id, token = created["sessionId"], created["sessionToken"]
        answers = [
            await SEND(api, session_id, credential=token),
            await GET(api, NOWHERE, credential=token),
            await GET(api, session_id, credential=token + "x"),
            await CREATE(api, content=b"{", headers={"Content-Type": "application/json"}),
            await LIST(api, query="?x=1"),
            await HEALTH(api, credential=only("sessions:read")),
        ]
        api.site.health.check = None  # type: ignore[assignment,method-assign]  # a bug
        answers.append(await HEALTH(api))
    assert [answer.status for answer in answers] == [201, 403, 401, 400, 400, 403, 500]
    metrics = await api.request("GET", "//metrics")
    seen = repr([answer.content for answer in answers] + [metrics.content]) + repr(lines)
    for secret in (OWNER, token.partition(".")[2], only("sessions:read")):
        assert secret not in seen


async def test_a_log_line_names_the_key_by_the_name_that_it_was_given(api: Api) -> None:
    keys = {"a-key": Principal("id", "night shift", frozenset(SCOPES))}
    await api.restart(find_key=keys.get)
    with captured_logs() as lines:
        await LIST(api, credential="a-key")
        await LIST(api, credential="b-key")
    assert [line["caller"] for line in lines if line["event"] == "request"] == ["night shift", None]
