"""What a server records is played again with the same answers; what was changed since is told."""

import io
import json
import marshal
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, get_args

import pytest
import trio

import vigil.__main__ as vigil
from tests.fakes import FaultyStore
from vigil.actors.agents.base import AgentEntry, Reply, Turn
from vigil.actors.core.errors import AgentFailed
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import FinishReason, TimeoutConfig
from vigil.scenarios.replay.replayer import replay
from vigil.scenarios.replay.trace import Trace, TraceError, read
from vigil.scenarios.virtual import determinism
from vigil.scenarios.virtual.in_process import InProcessServer, running_in_process, virtual_plan
from vigil.server.api.routes import BASE
from vigil.server.ops.site import Plan
from vigil.server.recording.lines import Lines, filler, write
from vigil.server.recording.recorder import BATCH, Note, Outbox, Recorder, RecordingError, Start, opened

SECRET = "a secret that people told their agent"
KEY = "in-process-key-0123456789"


class Moody:
    """Answers late, and not always."""

    async def reply(self, turn: Turn) -> Reply:
        stream = Random(turn.message.created_at)
        await trio.sleep(stream.uniform(0.1, 20))
        if stream.random() < 0.2:
            raise AgentFailed("not today")
        reason = stream.choice(get_args(FinishReason))
        return Reply(f"{turn.message.content}, you said", '{"mood":"good"}', reason)


AGENTS = {
    "agent-123": AgentEntry("agent-123", "Moody", Moody(), turn_timeout_s=15.0),
    "silent": AgentEntry("silent", "Silent", None, session_limit=Limit(5, 60)),
}


class Person:
    """Does what comes to mind, for ten minutes."""

    def __init__(self, server: InProcessServer, number: int) -> None:
        self.server = server
        self.stream = Random(f"person {number}")
        self.user = f"user-{number % 30}"
        self.headers = [("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json")]

    async def live(self) -> None:
        session_id, token = await self.create()
        end = trio.current_time() + 600
        while trio.current_time() < end:
            await trio.sleep(self.stream.expovariate(1 / 20))
            await self.do(session_id, token)

    async def create(self) -> tuple[str, str]:
        agent = self.stream.choice(list(self.server.plan.agents))
        config = {
            "timeoutMinutes": 5,
            "autoRenew": self.stream.random() < 0.7,
            "maxDurationMinutes": self.stream.choice([8, 180]),
        }
        asked = {"agentId": agent, "userId": self.user, "timeoutConfig": config, "metadata": {"note": SECRET}}
        answer = await self.ask("POST", "", asked)
        body = answer.json()
        return body.get("sessionId", "gone"), body.get("sessionToken", "x")

    async def do(self, session_id: str, token: str) -> None:
        path = f"/{session_id}"
        own = [("X-API-KEY", token)]
        transport = self.stream.choice(["websocket", "websocket", "http", "sse"])
        message = {"content": f"{SECRET} {self.stream.random()}", "transport": transport}
        repeated = [("Idempotency-Key", f"key-{self.stream.randrange(3)}")]
        deeds: list[Callable[[], Any]] = [
            lambda: self.ask("GET", path),
            lambda: self.ask("POST", f"{path}/messages", message),
            lambda: self.ask("POST", f"{path}/messages", {"content": "again"}, headers=repeated),
            lambda: self.ask("POST", f"{path}/heartbeat", headers=own),
            lambda: self.ask("POST", f"{path}/renew"),
            lambda: self.ask("PATCH", f"{path}/timeout", {"timeoutMinutes": self.stream.randrange(3, 9)}),
            lambda: self.ask("GET", f"{path}/messages?limit=5"),
            lambda: self.ask("GET", "?limit=3&status=all"),
            lambda: self.ask("POST", f"{path}/messages", {"content": "x", "nonsense": 1}),
            lambda: self.ask("GET", "/health"),
            lambda: self.burst(path),
            lambda: self.ask("DELETE", path) if self.stream.random() < 0.1 else self.ask("GET", "/no-uuid"),
        ]
        await self.stream.choice(deeds)()

    async def burst(self, path: str) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(self.ask, "POST", f"{path}/heartbeat")

    async def ask(
        self, method: str, path: str, body: Any = None, *, headers: list[tuple[str, str]] | None = None
    ) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        own = headers if headers and headers[0][0] == "X-API-KEY" else self.headers + (headers or [])
        return await self.server.request(method, BASE + path, own, content)


def as_lines(notes: list[Note]) -> list[Any]:
    return [json.loads(line) for note in notes for line in Lines(salt=b"salt").of(note)]


async def hasty(person: Person) -> None:
    """Asks much of one session, and waits for nothing."""
    path = f"/{(await person.create())[0]}"
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            await trio.sleep(person.stream.expovariate(2))
            message = {"content": "hello", "transport": person.stream.choice(["websocket", "http", "sse"])}
            ask = person.stream.choice([("messages", message), ("heartbeat", None), ("renew", None)])
            nursery.start_soon(person.ask, "POST", f"{path}/{ask[0]}", ask[1])


def recorded(
    path: Path,
    people: int,
    live: Callable[[Person], Awaitable[None]] = Person.live,
    *,
    content: bool = False,
    commit_s: float = 0.0,
) -> Trace:
    async def main() -> None:
        store = FaultyStore()
        store.delay_s = commit_s
        plan = virtual_plan(agents=AGENTS, user_limit=Limit(45, 3600), store=store)
        async with running_in_process(plan) as server:
            with opened(path) as file:
                lines = Lines(salt=b"salt", content=content)
                recorder = Recorder(lambda note: file.writelines(lines.of(note)), plan.clock)
                recorder.begin(plan, Start("0", 0, content))
                server.site.record, server.site.directory.publisher.watch = (
                    recorder.answered,
                    recorder.on_committed,
                )
                async with trio.open_nursery() as nursery:
                    for number in range(people):
                        nursery.start_soon(live, Person(server, number))
                await trio.sleep(30)

    determinism.run(main)
    return read(path)


@pytest.mark.parametrize(
    ("people", "content", "commit_s"), [(100, False, 0), (25, True, 0), (60, False, 0.3)]
)
def test_a_mixed_load_of_ten_minutes_is_replayed_without_a_difference(
    tmp_path: Path, people: int, content: bool, commit_s: float
) -> None:
    trace = recorded(tmp_path / "trace.jsonl", people, content=content, commit_s=commit_s)
    outcome = replay(trace)
    assert outcome.differences == []
    assert outcome.requests > 25 * people
    statuses = {request.status for request in trace.requests}
    assert {200, 201, 400, 404, 410, 422, 429, 502, 504} <= statuses
    assert set(outcome.left_out) <= {"refused by an overloaded server or store, now only charged"}
    assert sum(outcome.left_out.values()) < 50


@pytest.mark.parametrize("commit_s", [0.1, 1, 4])
def test_what_waits_for_commits_is_replayed_without_a_difference(tmp_path: Path, commit_s: float) -> None:
    trace = recorded(tmp_path / "trace.jsonl", 60, hasty, commit_s=commit_s)
    assert replay(trace).differences == []
    assert trace.beginnings


def test_one_changed_rule_shows_in_exactly_the_answers_that_tell_it(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "trace.jsonl", 20, content=False)

    def warn_later(plan: Plan) -> Plan:
        return replace(plan, rules=plan.rules._replace(defaults=TimeoutConfig(30, True, 180, 4)))

    differences = replay(trace, change=warn_later).differences
    last_parts = {difference.path.rpartition(".")[2] for difference in differences}
    assert last_parts == {"warningThresholdMinutes", "isNearExpiration"}
    assert {request.number for request in trace.requests if "timeoutConfig" in (request.answer or {})} == {
        difference.line
        for difference in differences
        if difference.path == "timeoutConfig.warningThresholdMinutes"
    }


def test_an_answer_that_was_cut_is_cut_in_the_replay_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    recorded(file, 10, content=False)
    lines = file.read_text().splitlines(keepends=True)
    cut = [n for n, line in enumerate(lines) if '"to"' in line and '"finishReason":"length"' in line]
    assert cut
    for n in cut:
        lines[n] = lines[n].replace('"finishReason":"length"', '"finishReason":"stop"')
    file.write_text("".join(lines))
    differences = replay(read(file)).differences
    assert {(one.path.rpartition(".")[2], one.recorded, one.replayed) for one in differences} == {
        ("finishReason", '"length"', '"stop"')
    }


def test_a_recording_of_before_there_were_finish_reasons_is_replayed_without_a_difference(
    tmp_path: Path,
) -> None:
    file = tmp_path / "trace.jsonl"
    recorded(file, 10, content=False)
    older, count = re.subn(r',"finishReason":"\w+"', "", file.read_text())
    assert count > 10
    assert "finishReason" not in older
    file.write_text(older)
    assert replay(read(file)).differences == []


def test_a_limit_of_one_more_shows_in_the_first_request_that_it_lets_in(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "trace.jsonl", 20, content=False)
    refused = next(
        request
        for request in trace.requests
        if request.status == 429 and request.answer["details"]["scope"] == "user"
    )
    outcome = replay(trace, change=lambda plan: replace(plan, user_limit=Limit(46, 3600)))
    first = next(difference for difference in outcome.differences if difference.path == "status")
    assert (first.line, first.recorded) == (refused.number, "429")


def test_a_scenario_made_of_a_recorded_session_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its agent's own limits, and with what the agent said as late as it said it."""
    recorded(tmp_path / "trace.jsonl", 20, content=False)
    script = tmp_path / "one.yaml"
    assert vigil.main(["replay", str(tmp_path / "trace.jsonl"), "--to-script", str(script)]) == 0
    assert vigil.main(["replay", str(script)]) == 0, capsys.readouterr().out
    text = script.read_text()
    assert "session_limit: 5/minute" in text
    assert text.count("- at: ") > 10


def test_a_scenario_of_a_session_that_the_recording_does_not_have_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path / "trace.jsonl", 3, content=False)
    words = ["replay", str(tmp_path / "trace.jsonl"), "--to-script", str(tmp_path / "x.yaml"), "--session=y"]
    assert vigil.main(words) == 2
    assert "does not have the creation of session y" in capsys.readouterr().err


def test_nothing_that_people_wrote_and_no_credential_is_in_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    recorded(path, 10, content=False)
    text = path.read_text()
    assert SECRET not in text
    assert KEY not in text
    assert "sessionToken" not in text
    assert (path.stat().st_mode & 0o777) == 0o600


def test_with_content_it_is_there_but_still_no_credential(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    recorded(path, 10, content=True)
    text = path.read_text()
    assert SECRET in text
    assert KEY not in text
    assert "sessionToken" not in text


def test_a_filler_is_as_long_as_its_text_and_the_same_for_the_same_text() -> None:
    assert len(filler("x" * 1000, b"s")) == 1000
    assert filler("hello", b"s") == filler("hello", b"s") != filler("hullo", b"s")
    assert filler("hello", b"s") != filler("hello", b"t")


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").write_text("precious")
    with pytest.raises(RecordingError, match="exists already"), opened(tmp_path / "trace.jsonl"):
        pass
    assert (tmp_path / "trace.jsonl").read_text() == "precious"


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    whole = recorded(path, 3, content=False)
    cut = path.read_bytes()[:-20]
    path.write_bytes(cut)
    assert len(read(path).requests) + len(read(path).turns) == len(whole.requests) + len(whole.turns) - 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ":1: is no recording"),
        ('{"trace": 99}\n', ":1: is no recording"),
        ("hello\n", ":1: is not a line of JSON"),
        ('{"trace": 1}\n', ":1: version: Field required"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    with pytest.raises(TraceError, match=told):
        read(path)


def test_a_writer_that_has_gone_ends_the_recording_and_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    box = Outbox(os.fdopen(writing, "wb"))
    for _ in range(10 * BATCH):
        box.put(("over", "some session", 1))
    box.close()


def test_a_batch_that_a_kill_cut_short_is_left_out() -> None:
    out = io.BytesIO()
    batch = marshal.dumps([("over", "some session", 1)])
    write(io.BytesIO(batch + batch[:-3]), Lines(salt=b"salt"), out)
    assert out.getvalue() == b'{"session":"some session","over":1}\n'


async def test_a_request_whose_client_has_gone_is_recorded_too() -> None:
    notes: list[Note] = []
    plan = virtual_plan(agents=AGENTS)
    async with running_in_process(plan) as server:
        recorder = Recorder(notes.append, plan.clock)
        person = Person(server, 1)
        session_id, _ = await person.create()
        server.site.record, server.site.directory.publisher.watch = recorder.answered, recorder.on_committed
        message = {"content": "hello", "transport": "http"}
        with trio.move_on_after(0.01):
            await person.ask("POST", f"/{session_id}/messages", message)
    lines = as_lines(notes)
    [line] = [line for line in lines if "operation" in line]
    assert (line["operation"], line["status"], line["answer"]) == ("sendMessage", 0, None)
    assert line["taken"] is not None


async def test_what_is_answered_after_its_session_is_over_was_durable_before(autojump_clock: object) -> None:
    notes: list[Note] = []
    plan = virtual_plan(agents={"agent-123": AGENTS["agent-123"]})
    async with running_in_process(plan) as server:
        recorder = Recorder(notes.append, plan.clock)
        person = Person(server, 1)
        session_id, _ = await person.create()
        server.site.record, server.site.directory.publisher.watch = recorder.answered, recorder.on_committed
        async with trio.open_nursery() as nursery:
            sending = {"content": "hello", "transport": "http"}
            nursery.start_soon(person.ask, "POST", f"/{session_id}/messages", sending)
            await trio.sleep(0.05)
            await person.ask("DELETE", f"/{session_id}")
    lines = as_lines(notes)
    (sent,) = [line for line in lines if line.get("operation") == "sendMessage"]
    (end,) = [line for line in lines if "over" in line]
    assert sent["status"] == 404
    assert sent["done"] == sent["taken"] < end["over"]
