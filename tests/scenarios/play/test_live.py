"""The same scripts against real servers: one that runs at a URL, and `vigil serve` processes of the player's own."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.actors.agents import loopback
from tests.process import KEY, ServerProcess, running_server
from tests.scenarios.playing import played, script
from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.language.reading import Located
from vigil.scenarios.play import tied
from vigil.scenarios.play.live import Live
from vigil.scenarios.play.own_server import OwnServers
from vigil.scenarios.play.results import Play, as_json
from vigil.scenarios.play.targets import Opener, Unreachable
from vigil.scenarios.replay.command import play_live

SCALE = 60.0
SLACK_MS = 2000  # real: the machine may be busy

TALK = """
- create: {userId: ana, timeoutConfig: {timeoutMinutes: 5, warningThresholdMinutes: 1}}
  as: talk
  expect: {body: {expiresAt: {time: now+5m}}}
- listen: talk
  as: window
- send: {content: Hello, transport: http}
  auth: token
  expect: {body: {agentResponse.content: Hello, createdAt: {time: now}}}
- listen: talk
  auth: none
  expect: {status: 401, headers: {WWW-Authenticate: {regex: "^Bearer"}}, body: {code: UNAUTHENTICATED}}
- send: Hello
  raw: {body: "{"}
  expect: 400
- send: {content: Again, transport: sse}
  expect: {body: {"events[-1].data.content": Again}}
- expect_event: {type: sessionExpirationWarning, within: 5m}
- expect_event: {type: sessionExpired, within: 2m, next: true}
- expect_event: {type: closed, next: true}
  expect: {body: {data.code: 1000}}
- get: talk
  expect: 410
"""

FAULTS = """
- create: {agentId: helper}
  as: talk
- listen: talk
- agent: {helper: {slow: 1m}}
- send: {content: Slowly, transport: http}
  expect: {body: {createdAt: {time: now}, agentResponse.createdAt: {time: now+1m}}}
- agent: {helper: failing}
- send: {content: Never, transport: http}
  expect: {status: 502, body: {code: AGENT_FAILED, details.userMessage.content: Never}}
- agent: {helper: hanging}
- send: {content: Too long, transport: http}
  expect: {status: 504, body: {code: AGENT_TIMEOUT}}
- restart: crash
- expect_event: closed
  expect: {body: {data.code: 1006}}
- listen: talk
- restart: {how: clean, down: 1m, settings: {limits: {session: 2/hour}}}
- expect_event: closed
  expect: {body: {data.code: 1001}}
- history: talk
  expect: {body: {"messages[*].content": [Too long, Never, Slowly, Slowly]}}
- get: talk
  expect: 429
"""
FAULTS_SETTINGS = """\
limits: {session: 1000/minute}
defaults: {timeoutMinutes: 1440, maxDurationMinutes: 1440}
agents: [{id: helper, kind: echo, turn_timeout_s: 240}]"""


def live(scripts: Sequence[Located], opener: Opener) -> list[Play]:
    return trio.run(partial(play_live, scripts, opener, tell=lambda _: None))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("live") / "data", f"--time-scale={SCALE:g}") as process:
        yield process


def test_a_script_that_holds_in_virtual_time_holds_at_a_url_too(server: ServerProcess) -> None:
    assert played(TALK).verdict == "held", played(TALK).failures
    both = live([script(TALK), script("- create:\n- end:")], Live(server.url, KEY, SCALE, SLACK_MS))
    assert [play.verdict for play in both] == ["held", "held"], both[0].failures
    assert both[0].target == server.url
    assert KEY not in str(as_json(both[0]))


def test_an_expectation_that_does_not_hold_fails_at_a_url_too(server: ServerProcess) -> None:
    (play,) = live(
        [script("- create:\n  expect: {body: {expiresAt: {time: now+2h}}}")],
        Live(server.url, KEY, SCALE, SLACK_MS),
    )
    assert [failed.expectation for failed in play.failures] == ["body.expiresAt"]


@pytest.mark.parametrize(
    ("steps", "settings", "reason"),
    [
        ("- create:", "tombstoneMinutes: 5", "it has settings"),
        ("- repeat: {times: 1, do: [{restart: crash}]}", "", "it takes the server down"),
        ("- agent: {agent-123: failing}", "", "it spoils an agent"),
    ],
)
def test_what_a_server_at_a_url_cannot_do_is_skipped_with_the_reason(
    server: ServerProcess, steps: str, settings: str, reason: str
) -> None:
    (play,) = live([script(steps, settings)], Live(server.url, KEY, SCALE, SLACK_MS))
    assert play.verdict == "skipped"
    assert play.reason.startswith(reason)
    assert "--serve starts" in play.reason


OF_ITS_OWN = "- restart: crash"  # a step that no server at a URL takes: its script would be skipped


@pytest.mark.parametrize("steps", ["- create:", OF_ITS_OWN])
def test_a_wrong_key_or_scale_is_told_and_nothing_played_or_skipped(
    server: ServerProcess, steps: str
) -> None:
    with pytest.raises(ScenarioError, match=r"refuses the API key \(401\)"):
        live([script(steps)], Live(server.url, "wrong", SCALE, SLACK_MS))
    with pytest.raises(ScenarioError, match="runs at --time-scale 60, not at 1: leave the flag out"):
        live([script(steps)], Live(server.url, KEY, 1.0, SLACK_MS))


def test_how_fast_the_time_of_a_server_runs_is_read_from_its_answers(server: ServerProcess) -> None:
    steps = "- create:\n  expect: {body: {createdAt: {time: now}}}\n- wait: 1m\n- heartbeat:"
    (play,) = live([script(steps)], Live(server.url, KEY, None, SLACK_MS))
    assert play.verdict == "held", play.failures
    assert play.ended_ms - play.started_ms >= 60_000


@pytest.mark.parametrize("key", ["schl\u00fcssel", "one two", "one\r"])
def test_a_key_that_no_header_can_carry_is_told_as_the_cause(key: str) -> None:
    with pytest.raises(ScenarioError, match="the API key has ") as told:
        Live("http://127.0.0.1:9", key, None, SLACK_MS)
    assert key not in str(told.value)


@pytest.mark.parametrize("steps", ["- create:", OF_ITS_OWN])
def test_a_server_that_is_not_there_cannot_be_reached(steps: str) -> None:
    async def nobody() -> str:
        return f"http://127.0.0.1:{await loopback.free_port()}"

    with pytest.raises(Unreachable, match=r"cannot be reached: .*Is the server running there\?"):
        live([script(steps)], Live(trio.run(nobody), KEY, 1.0, SLACK_MS))


async def test_a_server_that_is_something_else_is_told() -> None:
    async with trio.open_nursery() as nursery:
        for answer, told in (
            (loopback.answer(404), "is no Sessions API: .* gives 404"),
            (loopback.answer(200, {"status": "up"}), "is no Sessions API: its health body tells no time"),
        ):
            other = await loopback.serve(nursery, answer)
            opener = Live(other.url, KEY, 1.0, SLACK_MS)
            with pytest.raises(ScenarioError, match=told):
                await play_live([script("- create:")], opener, tell=lambda _: None)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("url", ["", "localhost:3000", "ftp://here", "http://", "http://[::1"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(ScenarioError, match=r"is not an http:// or https:// URL"):
        Live(url, KEY, 1.0, SLACK_MS)


# --- servers of the player's own


def test_settings_crashes_and_agents_faults_come_out_the_same_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    virtual = played(FAULTS, FAULTS_SETTINGS)
    assert virtual.verdict == "held", virtual.failures
    environ = {**os.environ, "VIGIL_SESSION_LIMIT": "1/hour", "SESSION_DEFAULT_TIMEOUT_MINUTES": "no number"}
    opener = OwnServers(SCALE, SLACK_MS, environ, os.urandom)
    (play,) = live([script(FAULTS, FAULTS_SETTINGS)], opener)
    assert play.verdict == "held", play.failures
    statuses = [[exchange.status for exchange in one.exchanges] for one in (virtual, play)]
    assert statuses[0] == statuses[1]
    assert [one.what for one in play.happenings] == [one.what for one in virtual.happenings]
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tied, "COMMAND", ("/bin/false",))
    with pytest.raises(ScenarioError, match="vigil serve did not start: it said nothing"):
        live([script("- create:")], OwnServers(SCALE, SLACK_MS, os.environ, os.urandom))


def test_a_scripted_agents_delays_are_session_time() -> None:
    settings = """\
agents:
  - id: helper
    kind: scripted
    rules: [{reply: Well, delay_ms: {min: 120000, max: 120000}}]"""
    steps = """
    - create: {agentId: helper}
    - send: {content: Hi, transport: http}
      expect: {status: 504, body: {code: AGENT_TIMEOUT}}
    """
    assert played(steps, settings).verdict == "held"
    (play,) = live([script(steps, settings)], OwnServers(SCALE, SLACK_MS, os.environ, os.urandom))
    assert play.verdict == "held", play.failures
