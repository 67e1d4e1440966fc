"""The benches measure what they say: ratios are right, parts run, what is missing is said. No speed is judged here."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from vigil.loadtests.bench import command, machine, open_model, wrk
from vigil.loadtests.bench.contestants import CONTESTANTS
from vigil.loadtests.bench.figures import figure, ratios
from vigil.loadtests.bench.in_process import Pauses, repeat
from vigil.loadtests.bench.measures import actors, growth, http, profile, sim, store
from vigil.loadtests.bench.measures.http import OPERATIONS, Turn
from vigil.loadtests.bench.peers import ANSWER
from vigil.loadtests.bench.rig import BASE, Address, BenchError, Http, server_on_core, vigil_server
from vigil.loadtests.bench.tables import Table, as_markdown, as_text, of_http
from vigil.loadtests.bench.wrk import Request, Sample
from vigil.scenarios.reports.files import CannotWrite

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason=wrk.INSTALL)
CORE = min(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def _affinity() -> Iterator[None]:
    """A bench that fails must not leave the other tests on one core."""
    cores = os.sched_getaffinity(0)
    yield
    assert os.sched_getaffinity(0) == cores


# --- figures


def test_a_figure_is_the_median_with_the_least_and_the_most() -> None:
    assert figure([3, 1, 2, 10, 2.5]) == {"median": 2.5, "min": 1, "max": 10}


def test_a_figure_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        figure([])


def test_a_ratio_is_taken_inside_its_round_so_a_slow_round_does_not_count_against_anybody() -> None:
    rounds = [{"a": 50.0, "top": 100.0}, {"a": 5.0, "top": 10.0}, {"a": 30.0, "top": 40.0}]
    assert ratios(rounds, "top") == {
        "a": {"median": 0.5, "min": 0.5, "max": 0.75},
        "top": {"median": 1, "min": 1, "max": 1},
    }


def test_rows_of_http_have_speed_ratio_latency_and_cpu() -> None:
    def turn(per_s: float) -> Turn:
        return Turn(Sample(per_s, ms_p50=1.5, ms_p99=9.0, ms_max=9.5), cpu_us=1_000_000 / per_s)

    found = http.rows(
        [{"hot": turn(20_000), "llhttp": turn(50_000)}, {"hot": turn(10_000), "llhttp": turn(40_000)}]
    )
    assert found["hot"]["per_s"] == {"median": 15_000, "min": 10_000, "max": 20_000}
    assert found["hot"]["ratio"] == {"median": 0.325, "min": 0.25, "max": 0.4}
    assert found["hot"]["cpu_us"] == {"median": 75, "min": 50, "max": 100}
    assert found["hot"]["ms_p99"]["median"] == 9


# --- wrk


def test_the_last_line_of_wrk_becomes_a_sample() -> None:
    figures = '"requests":300,"us":1500000,"us_p50":1250,"us_p99":9000,"us_max":9500,"refused":0,"broken":0'
    said = f"Running 1s test\n{{{figures}}}\n"
    assert wrk.parsed(said) == Sample(per_s=200, ms_p50=1.25, ms_p99=9.0, ms_max=9.5)


@pytest.mark.parametrize("bad", ['"refused":1,"broken":0', '"refused":0,"broken":2'])
def test_a_run_with_an_answer_that_is_no_success_is_no_measurement(bad: str) -> None:
    with pytest.raises(wrk.WrkFailed, match="not every request"):
        wrk.parsed(f'{{"requests":300,"us":1500000,"us_p50":1250,"us_p99":9000,{bad}}}')


def test_a_run_without_figures_says_what_wrk_said() -> None:
    with pytest.raises(wrk.WrkFailed, match="unable to connect"):
        wrk.parsed("", "unable to connect to 127.0.0.1:1")


def test_without_wrk_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(wrk.WrkMissing, match="apt-get install wrk") as caught:
        command.run(_typed("http"))
    assert "\n" not in str(caught.value)


@needs_wrk
def test_a_round_over_http_measures_vigil_against_the_ceiling() -> None:
    found = http.measure(OPERATIONS["send"], ["hot", "llhttp"], seconds=1, rounds=1)
    assert found["contestants"].keys() == {"hot", "llhttp"}
    assert found["contestants"]["llhttp"]["ratio"]["median"] == 1
    assert found["contestants"]["hot"]["per_s"]["median"] > 0
    assert found["at_half"] is not None
    assert found["at_half"]["ms_p99"]["median"] > 0
    assert "Vigil, hot path" in "".join(map(as_text, of_http({"send": dict(found)})))


# --- the open model


def test_the_open_model_asks_at_its_rate_and_counts_from_when_a_request_was_due() -> None:
    with CONTESTANTS["llhttp"].start(CORE) as address:
        found = open_model.run(address, [Request("GET", "/")], ["X-A: b"], per_s=200, seconds=0.2)
    assert 0 < found["per_s"] <= 205
    assert 0 < found["ms_p50"] <= found["ms_p99"] <= found["ms_max"]


def test_the_open_model_refuses_to_measure_refusals() -> None:
    request = Request("GET", f"{BASE}/{uuid4()}")
    with vigil_server(CORE) as address, pytest.raises(BenchError, match="answered 404 under load"):
        open_model.run(address, [request], http.HEADERS, per_s=100, seconds=0.1)


def test_a_request_of_the_open_model_is_whole_http() -> None:
    assert open_model.encoded(Request("POST", "/x", "{}"), ["A: b"]) == (
        b"POST /x HTTP/1.1\r\nHost: bench\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"
    )


# --- contestants


@pytest.mark.parametrize("name", ["hypercorn", "llhttp"])
def test_a_ceiling_answers_everything_with_the_same_body(name: str) -> None:
    with CONTESTANTS[name].start(CORE) as address:
        assert _post(address, "", {}) == _post(address, "/x/messages", {"content": "x"}) == json.loads(ANSWER)


@pytest.mark.parametrize("name", ["fastapi", "fastapi-redis"])
def test_a_peer_keeps_the_routes_of_the_api(name: str) -> None:
    if why := CONTESTANTS[name].missing():
        pytest.skip(why)
    with CONTESTANTS[name].start(CORE) as address:
        session = _post(address, "", {"agentId": "echo", "userId": "user-456"})
        message = _post(address, f"/{session['sessionId']}/messages", {"content": "hello"})
        renewed = _post(address, f"/{session['sessionId']}/heartbeat", {})
    assert message["content"] == "hello"
    assert renewed["renewalCount"] == 2


def test_requests_of_every_operation_go_round_over_sessions_that_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "SESSIONS", 3)
    with vigil_server(CORE) as address:
        for operation in OPERATIONS.values():
            requests = http.requests_for(address, operation, has_sessions=True)
            assert len(set(requests)) == 3
            assert open_model.run(address, requests, http.HEADERS, per_s=100, seconds=0.06)["ms_max"] > 0


def test_what_does_not_start_is_named() -> None:
    with (
        pytest.raises(BenchError, match=r"did not start.*-c pass"),
        server_on_core([sys.executable, "-c", "pass"], CORE),
    ):
        pass


# --- in process


def test_every_size_holds_its_sessions_and_does_all_operations() -> None:
    found = actors.measure([10, 40], seconds=0.02, rounds=2)
    assert found.keys() == {"10", "40"}
    assert found["10"]["ratio"]["send"] == {"median": 1, "min": 1, "max": 1}
    assert all(found["40"]["per_s"][name]["min"] > 0 for name in actors.OPERATIONS)


def test_every_number_of_callers_commits_to_both_stores_and_batches_are_counted() -> None:
    found = store.measure([1, 8], seconds=0.05, rounds=1)
    assert {name: set(rows) for name, rows in found.items()} == {"sqlite": {"1", "8"}, "memory": {"1", "8"}}
    assert found["sqlite"]["1"]["batch"]["median"] == 1
    assert found["sqlite"]["8"]["batch"]["median"] > 1


def test_growth_is_measured_at_every_size() -> None:
    found = growth.measure(rounds=1, messages=[5, 60], windows=[10, 100], heard_by=[])
    assert found["send_us"].keys() == found["page_us"].keys() == {"5", "60"}
    assert found["admit_us"].keys() == {"10", "100"}


async def test_callers_ask_again_until_the_time_is_over_and_answers_are_counted() -> None:
    asked: list[int] = []

    async def ask(n: int) -> None:
        asked.append(n)
        await trio.lowlevel.checkpoint()

    assert await repeat(ask, callers=3, seconds=0.01) > 0
    assert asked == list(range(len(asked)))


async def test_a_blocked_loop_is_a_pause() -> None:
    pauses = Pauses()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pauses.watch)
        await trio.sleep(0.005)
        time.sleep(0.03)  # noqa: ASYNC251  that is the pause
        await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    assert pauses.longest_ms() >= 25
    assert pauses.longest_ms() == 0, "asked twice, the second is about the time since"


def test_a_simulation_that_cannot_run_says_why() -> None:
    with pytest.raises(BenchError, match="`vigil simulate` ended with 2"):
        sim.measure(rounds=1, flags=("--people=none",))


# --- profile


def test_a_sample_belongs_to_the_innermost_layer_and_the_library_to_its_caller() -> None:
    assert (
        profile.layer(["main (vigil.py:1)", "send (server/api/auth.py:9)", "sha256 (hashlib.py:3)"]) == "auth"
    )
    assert profile.layer(["run (server/front/fast_path.py:1)", "recv (trio/_socket.py:3)"]) == "sockets"
    assert profile.layer(["run (threading.py:1)"]) == "other Python"


def test_samples_divide_the_whole() -> None:
    lines = ["a (server/api/auth.py:1) 3", "a (server/api/auth.py:1);b (actors/limits/limiter.py:2) 1"]
    assert profile.shares(lines, 40) == {"auth": 30, "rate limits": 10}


# --- the command


def _typed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(argv)


def _part(measure: Callable[[int], Any]) -> command.Part:
    return command.Part(
        "made up", measure, lambda found: [Table("Made up", ("what", "n"), [("x", str(found))])]
    )


def test_the_json_file_has_the_machine_the_command_and_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "PARTS", {"one": _part(lambda rounds: rounds)})
    assert command.run(_typed("all", "--rounds=7", f"--json={tmp_path / 'found.json'}")) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["parts"] == {"one": 7}
    assert found["failed"] == {}
    assert found["command"] == "vigil bench all --rounds 7"
    assert {"processor", "cores", "python", "wrk", "trio", "append and fsync", "load"} <= found[
        "machine"
    ].keys()
    assert "Made up" in capsys.readouterr().out


def test_a_part_that_cannot_be_measured_is_named_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: int) -> Any:
        raise BenchError("no luck")

    monkeypatch.setattr(command, "PARTS", {"bad": _part(fail), "good": _part(lambda _: 1)})
    assert command.run(_typed("all", f"--json={tmp_path / 'found.json'}")) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["failed"], found["parts"]) == ({"bad": "no luck"}, {"good": 1})
    assert "bad was not measured: no luck" in capsys.readouterr().err


def test_a_json_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PARTS", {"one": _part(lambda _: pytest.fail("measured"))})
    monkeypatch.setattr(machine, "described", lambda: pytest.fail("begun"))
    with pytest.raises(CannotWrite, match=r"there is no directory"):
        command.run(_typed("all", f"--json={tmp_path / 'no' / 'found.json'}"))


@pytest.mark.parametrize("rounds", ["0", "-1", "x", "1.5"])
def test_rounds_are_a_whole_number_of_at_least_one(rounds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _typed("all", f"--rounds={rounds}")
    assert "is not a whole number from 1 to" in capsys.readouterr().err


def test_a_table_is_aligned_for_people_and_marked_up_for_the_page() -> None:
    table = Table("Speeds", ("what", "n"), [("get", "1,000"), ("send", "5")])
    assert as_text(table) == "Speeds\n  what      n\n  get   1,000\n  send      5"
    assert as_markdown(table) == "**Speeds**\n\n| what | n |\n| --- | ---: |\n| get | 1,000 |\n| send | 5 |"


def test_the_machine_says_what_the_figures_were_measured_on() -> None:
    assert all(isinstance(value, str) and value for value in machine.described().values())


def _post(address: Address, path: str, body: Any) -> Any:
    http_connection = Http(address.host, address.port)
    try:
        return http_connection.post(path, body)
    finally:
        http_connection.socket.close()
