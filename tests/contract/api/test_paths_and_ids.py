"""A path is taken as it stands, in every way in, and ids are read in any case (spec sections 1 and 2)."""

import json
from collections.abc import Callable

import pytest

from tests.contract.operations import CREATE, NOWHERE, ON_SESSION, Operation
from tests.harness import BASE, Api, direct_way, hot_way, quart_way, running_api
from vigil.actors.core.quotas import Limit
from vigil.server.api.routes import ROUTES

# --- ids


@pytest.mark.parametrize("operation", ON_SESSION, ids=lambda operation: str(operation.name))
@pytest.mark.parametrize("written", [str.upper, str.title], ids=["upper", "mixed"])
async def test_a_session_id_is_read_in_any_case_and_written_lower(
    api: Api, operation: Operation, written: Callable[[str], str]
) -> None:
    session_id = (await api.create())["sessionId"]
    assert session_id == session_id.lower()
    answer = await operation(api, written(session_id))
    assert answer.status == operation.status
    assert answer.json.get("sessionId", session_id) == session_id


@pytest.mark.parametrize("header", ["Authorization", "X-API-KEY"])
async def test_a_tokens_session_id_is_read_in_any_case_and_its_signature_in_its_own(
    api: Api, header: str
) -> None:
    created = await api.create()
    session_id, _, signature = created["sessionToken"].rpartition(".")
    for path, token in (
        (session_id, f"{session_id.upper()}.{signature}"),
        (session_id.upper(), created["sessionToken"]),
        (session_id.upper(), f"{session_id.upper()}.{signature}"),
    ):
        presented = f"Bearer {token}" if header == "Authorization" else token
        answer = await api.request("GET", f"/{path}", credential=None, headers={header: presented})
        assert (answer.status, answer.json["sessionId"]) == (200, session_id)
    wrong = await api.request("GET", f"/{session_id}", credential=f"{session_id}.{signature.swapcase()}")
    assert wrong.status == 401


async def test_both_cases_of_an_id_are_one_session_to_limits_keys_and_tombstones(api: Api) -> None:
    await api.restart(session_limit=Limit(3, 60))
    session_id = (await api.create())["sessionId"]
    key = {"Idempotency-Key": "one"}
    body = {"content": "hello"}
    first = await api.request("POST", f"/{session_id}/messages", body, headers=key)
    again = await api.request("POST", f"/{session_id.upper()}/messages", body, headers=key)
    assert again.content == first.content
    assert (await api.request("GET", f"/{session_id.upper()}")).status == 200
    assert (await api.request("GET", f"/{session_id}")).status == 429
    assert (await api.request("GET", f"/{NOWHERE}")).json["details"] == {"sessionId": NOWHERE}


# --- paths


def bent(path: str, session_id: str) -> list[str]:
    """The path in writings that are not it."""
    path = path.replace("{sessionId}", session_id)
    segments = path[1:].split("/")
    return [
        f"/{path}",
        f"//{path}",
        f"{path}/",
        f"{path}//",
        f"/.{path}",
        f"/x/..{path}",
        f"/%2f{path[1:]}",
        f"/%2F{path[1:]}",
        f"/%{ord(path[1]):02x}{path[2:]}",
        path.upper(),
        *(["/" + "//".join(segments), "/" + "%2f".join(segments)] if len(segments) > 1 else []),
        *(f"/{'/'.join(segments[:-1])}%2F{segments[-1]}" for _ in segments[1:2]),
    ]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_an_empty_segment_an_encoded_slash_and_an_encoded_letter_make_another_path(
    api: Api, route: object
) -> None:
    created = await api.create()
    session_id, path = created["sessionId"], str(route.path)  # type: ignore[attr-defined]
    for target in bent(path, session_id):
        for method in ("GET", route.method):  # type: ignore[attr-defined]
            for credential in (None, created["sessionToken"]):
                answer = await api.request(method, f"/{target}", credential=credential)
                assert (answer.status, answer.code) == (404, "NOT_FOUND"), target
    if path.count("/") > 4:
        *_, last = path.split("/")
        target = f"//{BASE[1:]}/{session_id}/%{ord(last[0]):02x}{last[1:]}"
        answer = await api.request(route.method, target, credential=None)  # type: ignore[attr-defined]
        assert (answer.status, answer.code) == (404, "NOT_FOUND")


async def test_an_id_with_an_encoded_letter_is_no_uuid_as_it_stands(api: Api) -> None:
    session_id = (await api.create())["sessionId"]
    encoded = f"%{ord(session_id[0]):02x}{session_id[1:]}"
    answer = await api.request("GET", f"/{encoded}")
    assert (answer.status, answer.code) == (404, "SESSION_NOT_FOUND")
    assert (await api.request("GET", f"/{encoded}", credential=None)).status == 401


@pytest.mark.parametrize("method", ["get", "Get", "gET", "head", "post", "options"])
@pytest.mark.parametrize("path", ["", "/health", "//livez", f"/{NOWHERE}", f"/{NOWHERE}/events"])
async def test_methods_are_case_sensitive(api: Api, method: str, path: str) -> None:
    answer = await api.request(method, path, credential=None)
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
    assert "GET, HEAD" in answer.headers["Allow"]
    assert answer.json["message"].startswith(f"{method} is not allowed here")


async def test_a_method_in_lower_case_where_there_is_nothing_is_404(api: Api) -> None:
    assert (await api.request("get", "//nothing", credential=None)).status == 404


# --- a root path


@pytest.mark.parametrize("way", [quart_way, hot_way, direct_way], ids=["quart", "hot", "direct"])
async def test_a_root_path_is_taken_off_once_and_without_it_there_is_nothing(way: object) -> None:
    async with running_api(way, root_path="/chat/v1") as api:  # type: ignore[arg-type]

        async def status(method: str, target: str, body: object = None) -> int:
            return (await api.request(method, f"/{target}", body)).status

        below = f"/chat/v1{BASE}"
        created = (await api.request("POST", f"/{below}", CREATE.body)).json
        there = f"{below}/{created['sessionId']}"
        assert await status("GET", there) == 200
        assert await status("POST", f"{there}/heartbeat") == 200
        assert await status("GET", "/chat/v1/livez") == 200
        assert await status("GET", there.upper().replace("/CHAT/V1/API/MESSAGING/SESSIONS", below)) == 200
        for target in ("/livez", BASE, f"{BASE}/{created['sessionId']}", f"/chat/v1{below}", "/chat/v1"):
            assert await status("GET", target) == 404, target
        for target in ("/chat/v1/", "/chat/v1livez", "/chat/livez", "//chat/v1/livez", "/Chat/v1/livez"):
            assert await status("GET", target) == 404, target


async def test_the_description_and_its_page_work_below_a_root_path() -> None:
    async with running_api(root_path="/chat") as api:
        document = (await api.request("GET", "//chat/openapi.json", credential=None)).json
        page = (await api.request("GET", "//chat/docs", credential=None)).content.decode()
    assert [server["url"] for server in document["servers"]] == ["/chat"]
    assert 'href="openapi.json"' in page  # beside the page, wherever that is
    assert f"http://localhost:3000/chat{BASE}" in page
    assert f"localhost:3000{BASE}" not in page
    async with running_api() as api:
        document = (await api.request("GET", "//openapi.json", credential=None)).json
    assert [server["url"] for server in document["servers"]] == ["/"]


# --- what is encoded


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "GZIP", "x-unknown"])
@pytest.mark.parametrize("path", ["", "/{}/messages", "/{}/heartbeat", "/{}/renew"])
async def test_an_encoded_body_is_415_and_says_which(api: Api, path: str, encoding: str) -> None:
    target = path.format((await api.create())["sessionId"])
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    answer = await api.request("POST", target, content=json.dumps(CREATE.body).encode(), headers=headers)
    assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert encoding.split(", ")[-1] in answer.json["message"]


async def test_a_body_whose_encoding_is_identity_is_taken(api: Api) -> None:
    answer = await api.request("POST", "", CREATE.body, headers={"Content-Encoding": "Identity"})
    assert answer.status == 201


async def test_415_names_the_type_or_the_charset_that_is_wrong(api: Api) -> None:
    for content_type, wrong in (
        ("text/plain", "text/plain"),
        ("application/json; charset=latin1", "latin1"),
        ("", "no Content-Type"),
    ):
        headers = {"Content-Type": content_type}
        answer = await api.request("POST", "", content=b"{}", headers=headers)
        assert answer.status == 415
        assert wrong in answer.json["message"]
