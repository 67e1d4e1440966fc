"""Who comes and what they do: tables that agree with each other and with the page about them; the wire beneath."""

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import ROOT
from vigil.loadtests.people import mixes, shapes
from vigil.loadtests.people.client import Connection
from vigil.loadtests.people.collection import BATCH_ROWS_MAX, Recorder
from vigil.loadtests.people.observation import Observation, from_rows
from vigil.loadtests.runner import processes
from vigil.loadtests.runner.memory import LOOKS_MIN, Memory
from vigil.loadtests.runner.options import LoadError, Target, seconds
from vigil.loadtests.verdict.percentiles import Measurements

PAGE = ROOT / "docs" / "load.md"
OK = b"HTTP/1.1 200 OK\r\nRateLimit: a\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nhi"


# --- tables


def test_the_page_shows_the_tables_as_they_are() -> None:
    text = PAGE.read_text()
    for kind, habits in mixes.PER_HOUR.items():
        shown = ", ".join(f"{task} {count}" for task, count in habits.items())
        assert f"| {kind} | {shown} | {mixes.per_hour(kind)} |" in text
    everybody = mixes.PROFILES["realistic"].shares
    assert f"Of every 100 people {', '.join(f'{n} {kind}' for kind, n in everybody.items())}." in text
    for name, profile in mixes.PROFILES.items():
        assert f"| `{name}` | {profile.meaning} | {profile.people} | {profile.run_time_s} s |" in text


def test_locust_finds_every_kind_of_person_that_a_mix_names() -> None:
    command = [sys.executable, "-m", "locust", "-f", str(processes.LOCUSTFILE), "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    named = {kind for profile in mixes.PROFILES.values() for kind in (*profile.shares, *profile.counts)}
    assert named == set(re.findall(r"^\s+(\w+)$", listed, re.MULTILINE))


@pytest.mark.parametrize("people", [1, 7, 100, 333])
def test_everybody_who_is_asked_for_comes(people: int) -> None:
    comes = mixes.population(mixes.PROFILES["realistic"], people)
    assert sum(comes.values()) == people


def test_a_hundred_people_come_by_their_shares() -> None:
    profile = mixes.PROFILES["realistic"]
    assert mixes.population(profile, 100) == dict(profile.shares)


def test_there_are_enough_agents_for_the_people_to_stay_under_the_agent_limit() -> None:
    profile = mixes.PROFILES["realistic"]
    agents = mixes.agents_needed(profile, 5000, 5000)
    each = mixes.requests_per_hour(profile.shares, 5000) / agents
    assert each < 5000 * mixes.AGENT_HEADROOM
    assert mixes.requests_per_hour(profile.shares, 5000) / (agents - 1) > 5000 * mixes.AGENT_HEADROOM


def test_a_spike_goes_up_and_down_and_ends() -> None:
    people = [shapes.tick("spike", at_s, 100, 500, 5) for at_s in (0, 29, 31, 59, 61, 99, 100)]
    assert [each and each[0] for each in people] == [100, 100, 500, 500, 100, 100, None]


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_stages_follow_each_other_to_the_end(shape: str) -> None:
    untils = [stage.until for stage in shapes.SHAPES[shape]]
    assert untils == sorted(set(untils))
    assert untils[-1] == 1.0


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("90s", 90), ("2m", 120), ("1h30m", 5400)])
def test_run_times_are_read(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "soon", "-5", "1.5m", "5x"])
def test_what_is_no_run_time_is_refused(text: str) -> None:
    with pytest.raises(LoadError, match="is not a time"):
        seconds(text)


# --- what is collected


def test_batches_are_bounded_and_lose_nothing() -> None:
    recorder = Recorder("1", time.monotonic, time.process_time)
    for number in range(2 * BATCH_ROWS_MAX + 1):
        recorder.observe(Observation(float(number), None, "get", "s", "u", "a", 0))
    batches = list(recorder.batches())
    assert [len(batch["observations"]) for batch in batches] == [BATCH_ROWS_MAX, BATCH_ROWS_MAX, 1]
    found = [one.sent_s for batch in batches for one in from_rows(batch["observations"])]
    assert found == [float(number) for number in range(2 * BATCH_ROWS_MAX + 1)]
    assert next(recorder.batches())["observations"] == []


def test_response_time_counts_from_when_a_request_was_due() -> None:
    recorder = Recorder("1", time.monotonic, time.process_time)
    recorder.measure("get", Observation(11.0, 11.5, "get", "s", "u", "a", 200), due_s=10.0, lag_s=0.25)
    measured = Measurements()
    measured.absorb(next(recorder.batches())["measurements"])
    assert measured.operations["get"].response.max_s == 1.5
    assert measured.operations["get"].service.max_s == 0.5
    assert measured.lag.max_s == 0.25


def test_memory_that_grows_shows_as_a_slope_and_its_first_quarter_does_not_count() -> None:
    memory = Memory()
    for second in range(LOOKS_MIN * 2):
        start_up = max(0, 20 - second) * -1e6
        memory.add(float(second), 50e6 + start_up + second * 1000)
    assert memory.slope == pytest.approx(1000)


# --- the connection


@contextmanager
def server_saying(*scripts: list[bytes]) -> Iterator[tuple[Target, list[bytes]]]:
    """One connection after another: to each request the next bytes of its script, then the connection is closed."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for script in scripts:
                connection, _ = listener.accept()
                with connection:
                    for answer in script:
                        heard.append(connection.recv(65_536))
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Target("127.0.0.1", listener.getsockname()[1], tls=False), heard
        thread.join()


def ask(connection: Connection) -> tuple[int, str]:
    answer = connection.request("GET", b"GET / HTTP/1.1\r\nHost: test\r\n", b"")
    return answer.status, answer.error


def test_answers_carry_what_the_oracle_reads() -> None:
    with server_saying([OK]) as (target, _):
        connection = Connection(target, time.monotonic)
        answer = connection.request("GET", b"GET / HTTP/1.1\r\nHost: test\r\n", b"")
        connection.close()
    assert (answer.status, answer.body, answer.rate_limit, answer.retry_after) == (200, b"hi", "a", "7")
    assert answer.received_s is not None
    assert answer.sent_s <= answer.received_s


def test_a_request_without_an_answer_is_told_and_never_sent_again() -> None:
    """The oracle would be misled by a repeat that nobody counted."""
    with server_saying([b""], [OK]) as (target, heard):
        connection = Connection(target, time.monotonic)
        status, error = ask(connection)
        assert status == 0
        assert error.startswith("no answer: HTTPConnectionClosed")
        assert len(heard) == 1
        assert ask(connection) == (200, "")
        connection.close()


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    with server_saying([OK[:-1]]) as (target, _):
        status, error = ask(Connection(target, time.monotonic))
    assert status == 0
    assert error.startswith("no answer: HTTPParseError")


def test_a_connection_that_the_server_has_closed_meanwhile_is_replaced() -> None:
    moments = iter([0.0, 1.0, 2.0, 3.0, 60.0, 61.0, 62.0, 63.0, 64.0, 65.0])
    with server_saying([OK], [OK]) as (target, heard):
        connection = Connection(target, lambda: next(moments))
        assert ask(connection) == (200, "")
        assert ask(connection) == (200, "")
        connection.close()
    assert len(heard) == 2


RENEWAL_REFUSED = """
from vigil.loadtests.people.client import Answer
from vigil.loadtests.people.person import Session, _fault

for renewed_s in (0.0, 151.0):
    made = Answer(0.0, 0.1, 201)
    session = Session("s", "u", "a", "t", b"", made, timeout_s=30.0, max_s=180.0, renewed_s=renewed_s)
    print(_fault(Answer(170.0, 170.1, 422), frozenset((200,)), session) or "fine")
"""


def test_a_renewal_may_be_refused_when_the_session_can_end_at_its_maximum() -> None:
    """In a process of its own: Locust changes the standard library of any that it is loaded into."""
    found = subprocess.run(
        [sys.executable, "-c", RENEWAL_REFUSED], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == ["answered 422 instead of 200", "fine"]


class Stopped(BaseException):
    """What a person is stopped with in the middle of anything."""


def test_the_answer_to_a_person_who_was_stopped_is_not_the_next_ones() -> None:
    stops = iter([False, False, True])

    def clock() -> float:
        if next(stops, False):
            raise Stopped
        return 1.0

    with server_saying([OK], [OK.replace(b"200", b"201")]) as (target, _):
        connection = Connection(target, clock)
        with pytest.raises(Stopped):
            ask(connection)
        assert ask(connection) == (201, "")
        connection.close()


@pytest.mark.parametrize("url", ["", "somewhere", "ftp://host", "http://", "http://host:port"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(LoadError, match="is not the address of a server"):
        Target.parse(url)


def test_an_address_is_read_with_its_path() -> None:
    assert Target.parse("https://[::1]:8443/deep/") == Target("::1", 8443, True, "/deep")
    assert Target.parse("http://host").authority == "host:80"
