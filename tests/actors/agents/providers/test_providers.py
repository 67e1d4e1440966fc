"""The kinds of providers against servers on loopback: what is asked of each, and what becomes of refusals."""

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.actors.agents.conftest import MakeAgent
from tests.actors.agents.loopback import Loopback, answer, for_ever, hang_up, serve, stall, streamed
from tests.actors.agents.providers.test_grammars import ENDS, ERRORS, NOISE, PIECES, good_day
from tests.actors.agents.talk import Talk, message
from vigil.actors.agents import catalogue, remote
from vigil.actors.agents.base import Agent, Reply
from vigil.actors.core.errors import AgentFailed, AgentTimedOut

KEY = "sk-do-not-show-0123456789"
KINDS = {
    "anthropic": "anthropic",
    "openai-responses": "responses",
    "gemini": "gemini",
    "ollama": "ollama",
}
EARLIER = [message("One?", -30), message("1.", -20, is_agent=True)]
CHAT = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1."},
    {"role": "user", "content": "Two?"},
]
ASKED: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "anthropic": (
        "/v1/messages",
        {"x-api-key": KEY, "anthropic-version": "2023-06-01"},
        {"model": "tiny", "max_tokens": 4096, "stream": True, "system": "Be brief.", "messages": CHAT},
    ),
    "openai-responses": (
        "/responses",
        {"authorization": f"Bearer {KEY}"},
        {"model": "tiny", "stream": True, "store": False, "instructions": "Be brief.", "input": CHAT},
    ),
    "gemini": (
        "/models/tiny:streamGenerateContent?alt=sse",
        {"x-goog-api-key": KEY},
        {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "One?"}]},
                {"role": "model", "parts": [{"text": "1."}]},
                {"role": "user", "parts": [{"text": "Two?"}]},
            ],
        },
    ),
    "ollama": (
        "/api/chat",
        {"authorization": f"Bearer {KEY}"},
        {
            "model": "tiny",
            "stream": True,
            "messages": [{"role": "system", "content": "Be brief."}, *CHAT],
        },
    ),
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES_S", (0.01, 0.02))


@pytest.fixture
def talk_to(make_agent: MakeAgent) -> Any:
    def make(kind: str, server: Loopback, **fields: Any) -> Agent:
        return make_agent(kind=kind, base_url=server.url, model="tiny", **fields)

    return make


@pytest.mark.parametrize("kind", KINDS)
async def test_it_asks_for_a_streamed_answer_in_its_providers_own_way(
    nursery: trio.Nursery, talk_to: Any, kind: str
) -> None:
    server = await serve(nursery, streamed(good_day(KINDS[kind]).encode(), cut_bytes=5))
    fields = {"system_prompt": "Be brief.", "options": {"seed": 7}}
    agent = talk_to(kind, server, api_key_env="MODEL_KEY", environ={"MODEL_KEY": KEY}, **fields)
    talk = Talk("Two?", EARLIER)
    assert await agent.reply(talk.turn) == Reply("Good day")
    assert "".join(talk.said) == "Good day"
    target, headers, body = ASKED[kind]
    (asked,) = server.asked
    assert asked.target == target
    assert headers.items() <= asked.headers.items()
    assert asked.json == body | {"seed": 7}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [429, 503, 529])
async def test_a_provider_that_is_busy_is_asked_again_after_the_time_it_names(
    nursery: trio.Nursery, talk_to: Any, kind: str, status: int
) -> None:
    good = streamed(good_day(KINDS[kind]).encode())
    server = await serve(nursery, answer(status, Retry_After="0.3"), answer(status), good)
    started = trio.current_time()
    assert await talk_to(kind, server).reply(Talk("Hi").turn) == Reply("Good day")
    assert trio.current_time() - started >= 0.3
    assert len(server.asked) == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_what_goes_wrong_is_a_failure_that_shows_no_key_and_the_next_turn_is_well(
    nursery: trio.Nursery, talk_to: Any, kind: str, logged: list[Any]
) -> None:
    name = KINDS[kind]
    bad = [
        (answer(401, {"error": {"message": f"bad key {KEY}"}}), "answered 401"),
        (answer(400, {"error": {"message": f"bad key {KEY}"}}), "answered 400"),
        (answer(500, b"oh no"), "answered 500"),
        (streamed((PIECES[name]("Good ") + ERRORS[name][0]).encode()), "reported an error"),
        (streamed(PIECES[name]("Good ").encode()), "broke off in the middle"),
        (streamed(PIECES[name]("Good ").encode(), then=hang_up), "broke off the connection"),
        (answer(200, b""), "broke off in the middle"),
    ]
    server = await serve(nursery, *(one for one, _ in bad), streamed(good_day(name).encode()))
    agent = talk_to(kind, server, api_key_env="MODEL_KEY", environ={"MODEL_KEY": KEY})
    for _, told in bad:
        with pytest.raises(AgentFailed, match=told):
            await agent.reply(Talk("Hi").turn)
    assert await agent.reply(Talk("Hi").turn) == Reply("Good day")
    assert KEY not in str(logged)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_stops_in_the_middle_is_a_time_out(
    nursery: trio.Nursery, talk_to: Any, kind: str
) -> None:
    server = await serve(nursery, streamed(PIECES[KINDS[kind]]("Good ").encode(), then=stall))
    with pytest.raises(AgentTimedOut):
        await talk_to(kind, server, turn_timeout_s=0.5).reply(Talk("Hi").turn)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_provider_that_never_ends_is_cut_off(nursery: trio.Nursery, talk_to: Any, kind: str) -> None:
    endless = PIECES[KINDS[kind]]("x" * 4096).encode()
    server = await serve(nursery, streamed(b"", then=for_ever(endless)))
    with pytest.raises(AgentFailed, match="too long"), trio.fail_after(60):
        await talk_to(kind, server).reply(Talk("Hi").turn)


@pytest.mark.parametrize("kind", ["anthropic", "openai-responses", "ollama"])
async def test_a_connection_that_breaks_after_the_end_harms_nobody(
    nursery: trio.Nursery, talk_to: Any, kind: str
) -> None:
    name = KINDS[kind]
    body = PIECES[name]("Good day") + NOISE[name][0] + ENDS[name]
    server = await serve(nursery, streamed(body.encode(), then=hang_up))
    assert await talk_to(kind, server).reply(Talk("Hi").turn) == Reply("Good day")


def test_the_page_on_agents_has_an_entry_of_each_kind_that_loads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs/agents.md").read_text()
    file = tmp_path / "agents.yaml"
    file.write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    keys = {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2", "GEMINI_API_KEY": "sk-3"}
    shown = [line.split()[1] for line in catalogue.check(file, keys)]
    assert shown == ["openai", "openai-responses", "anthropic", "gemini", "ollama"]
