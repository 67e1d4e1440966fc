"""Thresholds are read strictly, refused in one line, and held against what was measured."""

import re

import pytest

from vigil.loadtests.verdict.percentiles import Measurements
from vigil.loadtests.verdict.thresholds import BadThreshold, evaluate, parse


def measured() -> Measurements:
    """A hundred sends of 1 to 100 ms over ten seconds, one of them failed, each due 100 ms before; and ten reads."""
    found = Measurements()
    for count in range(1, 101):
        took_s = count / 1000
        found.record(count // 11, "send", took_s, took_s + 0.1, failed=count == 7)
    for _ in range(10):
        found.record(0.5, "frame message", 0.001, 0.001)
    found.never_sent(10)
    return found


@pytest.mark.parametrize(
    ("text", "value", "held"),
    [
        ("p50<150ms", 0.145, True),
        ("send.p99<250ms", 0.199, True),
        ("send.service.p99<98ms", 0.099, False),
        ("send.service.p99 <= 0.1 s", 0.099, True),
        ("frame message.p100<1100us", 0.001, True),
        ("send.max>=200ms", 0.200, True),
        ("send.service.mean<51ms", 0.0505, True),
        ("errors<1%", 1 / 110, True),
        ("send.errors<1%", 0.01, False),
        ("rate>10/s", 11.0, True),
        ("send.rate>=10/s", 10.0, True),
        ("unsent<8%", 10 / 120, False),
        ("undecided<1%", 0.004, True),
    ],
)
def test_a_threshold_is_held_against_the_run(text: str, value: float, held: bool) -> None:
    outcome = evaluate(parse(text), measured(), undecided=0.004)
    assert outcome.value == pytest.approx(value, rel=0.0006)
    assert outcome.held is held


@pytest.mark.parametrize("text", ["renew.p99<1s", "renew.rate>=0/s", "renew.errors<1%"])
def test_an_operation_without_samples_does_not_hold(text: str) -> None:
    outcome = evaluate(parse(text), measured(), None)
    assert (outcome.value, outcome.held, outcome.shown) == (None, False, "no samples")


@pytest.mark.parametrize(
    "text", ["p99<3600s", "errors<1%", "rate>=0/s", "unsent<1%", "undecided<1%", "mean<1s"]
)
def test_nothing_measured_holds_nothing(text: str) -> None:
    assert not evaluate(parse(text), Measurements(), None).held


def test_what_was_measured_is_shown_in_the_unit_that_was_asked_for() -> None:
    assert evaluate(parse("send.max<1ms"), measured(), None).shown == "200ms"
    assert evaluate(parse("send.max<1s"), measured(), None).shown == "0.2s"
    assert evaluate(parse("send.errors<1%"), measured(), None).shown == "1%"
    assert evaluate(parse("rate>1/s"), measured(), None).shown == "11/s"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a threshold"),
        ("p99", "is not a threshold"),
        ("p99<250", "is not a threshold"),
        ("p99=250ms", "is not a threshold"),
        ("p99<-1ms", "is not a threshold"),
        ("p99<250ms;", "is not a threshold"),
        ("p99<٣ms", "is not a threshold"),
        ("p101<1s", "percentiles go from p0 to p100"),
        ("p99<3%", "p99 is measured in us or ms or s, not in %"),
        ("errors<3ms", "errors is measured in %, not in ms"),
        ("rate>5%", "rate is measured in /s, not in %"),
        ("latency<5ms", "'latency' is not measured; there are p50, p99"),
        ("send.unsent<1%", "unsent is known of the whole run"),
        ("service.errors<1%", "service times have percentiles, mean and max"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text: str, why: str) -> None:
    with pytest.raises(BadThreshold, match=re.escape(why)) as refused:
        parse(text)
    assert str(refused.value).startswith(repr(text))
    assert "\n" not in str(refused.value)
