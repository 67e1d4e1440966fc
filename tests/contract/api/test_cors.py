"""CORS (spec section 6): off unless origins are listed, and then for those alone."""

import pytest

from tests.contract.operations import CREATE, LIST, NOWHERE, key_without
from tests.harness import Answer, Api

LISTED, OTHER = "https://chat.example.com", "https://evil.example.com"
EXPOSED = {"X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy"}
PREFLIGHT = {"Origin": LISTED, "Access-Control-Request-Method": "POST"}


def cors_headers(answer: Answer) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


async def preflight(api: Api, path: str = "", **headers: str) -> Answer:
    sent = PREFLIGHT | {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.request("OPTIONS", path, credential=None, headers=sent)


# --- off


@pytest.mark.parametrize("origin", [LISTED, "http://localhost", "null", "*"])
async def test_with_no_origin_listed_no_answer_speaks_of_cors(api: Api, origin: str) -> None:
    answer = await LIST(api, headers={"Origin": origin})
    assert answer.status == 200
    assert cors_headers(answer) == set()
    assert "Vary" not in answer.headers


async def test_with_no_origin_listed_a_preflight_is_405_like_any_options(api: Api) -> None:
    answer = await preflight(api)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert cors_headers(answer) == set()


# --- on


async def test_a_listed_origin_may_read_the_answer_and_its_headers(api: Api) -> None:
    await api.restart(allowed_origins=frozenset({LISTED, "http://localhost:5173"}))
    for origin in (LISTED, "http://localhost:5173"):
        answer = await LIST(api, headers={"Origin": origin})
        assert answer.headers.get_list("Access-Control-Allow-Origin") == [origin]
        assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == EXPOSED
        assert cors_headers(answer) == {"access-control-allow-origin", "access-control-expose-headers"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": OTHER},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": LISTED + "/"},
        {"Origin": LISTED + ".evil.example"},
        {"Origin": "http://chat.example.com"},
        {"Origin": f"{LISTED}, {OTHER}"},
    ],
    ids=str,
)
async def test_any_other_origin_is_told_nothing_and_no_cache_mixes_them_up(
    api: Api, headers: dict[str, str]
) -> None:
    await api.restart(allowed_origins=frozenset({LISTED}))
    answer = await LIST(api, headers=headers)
    assert answer.status == 200  # CORS is the browser's to enforce
    assert cors_headers(answer) == set()
    assert answer.headers["Vary"] == "Origin"


async def test_errors_may_be_read_too(api: Api) -> None:
    await api.restart(allowed_origins=frozenset({LISTED}))
    origin = {"Origin": LISTED}
    answers = [
        await LIST(api, credential=None, headers=origin),
        await LIST(api, credential=key_without("sessions:read"), headers=origin),
        await LIST(api, query="?limit=0", headers=origin),
        await CREATE(api, content=b"x" * 300_000, headers=origin),
        await api.request("GET", f"/{NOWHERE}", headers=origin),
        await api.request("GET", "//nothing", headers=origin),
        await api.request("PUT", "", headers=origin),
    ]
    assert [answer.status for answer in answers] == [401, 403, 400, 413, 404, 404, 405]
    assert {answer.headers["Access-Control-Allow-Origin"] for answer in answers} == {LISTED}


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("", "GET, HEAD, POST"),
        (f"/{NOWHERE}", "DELETE, GET, HEAD"),
        (f"/{NOWHERE}/timeout", "PATCH"),
        (f"/{NOWHERE}/messages", "GET, HEAD, POST"),
    ],
)
async def test_a_preflight_from_a_listed_origin_needs_no_credentials(
    api: Api, path: str, methods: str
) -> None:
    await api.restart(allowed_origins=frozenset({LISTED}))
    answer = await preflight(api, path)
    assert (answer.status, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == LISTED
    assert answer.headers["Access-Control-Allow-Methods"] == methods
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-Id"]


async def test_a_preflight_allows_every_header_that_the_api_reads(api: Api) -> None:
    await api.restart(allowed_origins=frozenset({LISTED}))
    answer = await preflight(api, Access_Control_Request_Headers="authorization,content-type")
    allowed = {name.lower() for name in answer.headers["Access-Control-Allow-Headers"].split(", ")}
    assert allowed == {"authorization", "content-type", "idempotency-key", "x-api-key", "x-request-id"}


@pytest.mark.parametrize("headers", [{"Origin": LISTED}, PREFLIGHT | {"Origin": OTHER}, {}], ids=str)
async def test_any_other_options_is_405_still(api: Api, headers: dict[str, str]) -> None:
    await api.restart(allowed_origins=frozenset({LISTED}))
    answer = await api.request("OPTIONS", "", headers=headers)
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
    assert "Access-Control-Allow-Methods" not in answer.headers


async def test_a_preflight_of_an_unknown_path_is_404(api: Api) -> None:
    await api.restart(allowed_origins=frozenset({LISTED}))
    assert (await preflight(api, "//nothing")).status == 404
