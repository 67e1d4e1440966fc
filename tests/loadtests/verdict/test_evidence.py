"""Between Locust and the judges: the progress line goes on, and nothing that was seen is lost unnoticed."""

import time

from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.people.collection import Batch, Recorder
from vigil.loadtests.people.observation import Observation
from vigil.loadtests.verdict.evidence import KNOWN_AFTER_S, Evidence


def batch(recorder: Recorder, *, last: bool = False) -> Batch:
    (found,) = recorder.batches(last=last)
    return {**found, "people": 3}


def seen(ended_s: float) -> Observation:
    return Observation(ended_s - 0.1, ended_s, "get", "s", "u", "a", 200)


def test_the_progress_goes_on_when_nothing_is_answered() -> None:
    now_s = 100.0
    recorder = Recorder("1", lambda: now_s, time.process_time)
    recorder.measure("get", seen(100.5), due_s=100.4, lag_s=0.0)
    evidence = Evidence(Limits(), 1.0)
    evidence.absorb(batch(recorder))
    assert "  1 requests/s  p99  100.0 ms" in evidence.progress(2.0, 100.0 + KNOWN_AFTER_S)
    lines = [evidence.progress(ran_s, 100.0 + ran_s) for ran_s in (10.0, 11.0, 12.0)]
    assert [line.split()[0] for line in lines] == ["10", "11", "12"]
    assert all("  0 requests/s  p99         -" in line for line in lines)


def test_seconds_in_which_nothing_ended_are_part_of_the_run() -> None:
    instants = iter([100.0, 100.0, 107.5, 107.5, 107.5])
    recorder = Recorder("1", lambda: next(instants), time.process_time)
    evidence = Evidence(Limits(), 1.0)
    evidence.absorb(batch(recorder))
    assert evidence.measurements.duration_s() == 8


def test_a_process_that_never_said_its_last_is_missed() -> None:
    evidence = Evidence(Limits(), 1.0)
    one, two = (Recorder(name, time.monotonic, time.process_time) for name in ("1", "2"))
    for each in (batch(one), batch(two), batch(one, last=True)):
        evidence.absorb(each)
    assert evidence.missing == "1 of 2 processes were lost, with what they saw last"
    evidence.absorb(batch(two, last=True))
    assert evidence.missing == ""


def test_the_end_of_a_run_says_how_long_it_lasted() -> None:
    evidence = Evidence(Limits(), 1.0)
    evidence.absorb({"source": "", "began": True})
    assert evidence.ran_s is None
    evidence.absorb({"source": "", "end": True, "ran_s": 7.5})
    assert evidence.ran_s == 7.5
