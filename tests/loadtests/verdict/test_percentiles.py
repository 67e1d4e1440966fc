"""Latencies are right to three digits, and the same whichever worker measured them."""

import json
import random
from math import ceil

import pytest

from vigil.loadtests.verdict.percentiles import Histogram, Measurements


def histogram(durations_s: list[float]) -> Histogram:
    found = Histogram()
    for duration_s in durations_s:
        found.record(duration_s)
    return found


@pytest.mark.parametrize("percent", [0, 10, 50, 90, 99, 99.9, 100])
def test_every_percentile_is_right_to_three_digits(percent: float) -> None:
    draw = random.Random(4)
    durations_s = [draw.lognormvariate(-4, 2) for _ in range(20_000)]
    exact_s = sorted(durations_s)[max(0, ceil(percent / 100 * 20_000) - 1)]
    found_s = histogram(durations_s).at(percent)
    assert found_s == pytest.approx(exact_s, rel=0.0005, abs=0.5e-6)


def test_below_two_milliseconds_every_microsecond_counts() -> None:
    for microseconds in (0, 1, 999, 2047):
        assert histogram([microseconds / 1e6]).at(50) == microseconds / 1e6


def test_an_hour_fits_and_the_maximum_is_exact() -> None:
    found = histogram([0.001, 3600.123456])
    assert found.at(100) == 3600.123456
    assert found.at(99) == pytest.approx(3600.123456, rel=0.0005)


def test_nothing_measured_has_no_percentile() -> None:
    assert histogram([]).at(99) is None
    assert histogram([]).mean_s is None


def test_what_workers_measured_is_what_one_would_have_measured() -> None:
    draw = random.Random(5)
    whole, master, workers = Measurements(), Measurements(), (Measurements(), Measurements())
    for count in range(2000):
        took_s = draw.expovariate(100)
        sample = (100 + count / 100, draw.choice(["send", "get"]), took_s, took_s + 0.01)
        refused = draw.choice(["", "", "session"])
        for each in (whole, draw.choice(workers)):
            each.record(*sample, lag_s=took_s / 9, failed=count % 50 == 0, refused=refused)
        if count % 300 == 0:
            workers[count % 2].never_sent(2)
            whole.never_sent(2)
            for worker in workers:
                master.absorb(json.loads(json.dumps(worker.drain())))
    for worker in workers:
        master.absorb(worker.drain())
    assert master.due == whole.due
    assert master.failed == whole.failed == 40
    assert master.duration_s() == whole.duration_s() == 20
    for percent in (50, 99, 100):
        assert master.lag.at(percent) == whole.lag.at(percent)
        assert master.operations["send"].service.at(percent) == whole.operations["send"].service.at(percent)
        assert master.all_operations().response.at(percent) == whole.all_operations().response.at(percent)
    courses = [
        [
            (begin, second.response.count, second.failed, dict(second.refused))
            for begin, _, second in each.course(7)
        ]
        for each in (master, whole)
    ]
    assert courses[0] == courses[1]


def test_a_drained_worker_begins_anew() -> None:
    worker = Measurements()
    worker.record(1.0, "send", 0.1, 0.1)
    worker.drain()
    assert worker.due == (0, 0)
    assert not worker.operations
    assert not worker.seconds


def test_the_course_of_a_long_run_is_told_in_few_stretches() -> None:
    found = Measurements()
    for second in range(0, 1800, 2):
        found.record(5000 + second, "send", 0.1, 0.1)
    course = list(found.course(100))
    assert len(course) <= 100
    assert course[0][:2] == (0, 18)
    assert sum(length for _, length, _ in course) == found.duration_s() == 1799
    assert sum(second.response.count for _, _, second in course) == 900
    assert list(Measurements().course(100)) == []
