"""What Prometheus sees is named as Prometheus wants it, and the board and the alerts ask for what there is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from vigil.actors.turns.times import BUCKETS_S, TurnTimes, kind_of
from vigil.scenarios.testing.virtual import BASE, VirtualVigil

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "ops" / "grafana").glob("*.json"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "ops" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
_NOT_BASE_UNITS = ("milliseconds", "minutes", "hours", "kilobytes", "mib", "percent", "_ms")


@pytest.fixture(scope="module")
def families() -> list[Metric]:
    """All metrics of a server on which something has happened."""

    async def thinks(_turn: object) -> str:
        await trio.sleep(45)
        return "at last"

    with VirtualVigil({"deep": thinks}) as server, server.client() as http:
        session = http.post(BASE, json={"agentId": "deep", "userId": "u"}).json()
        http.post(f"{BASE}/{session['sessionId']}/messages", json={"content": "x", "transport": "http"})
        server.advance("2h")
        return list(text_string_to_metric_families(http.get("/metrics").text))


def samples(families: list[Metric]) -> dict[str, set[str]]:
    """The names of all series, each with its labels' names."""
    found: dict[str, set[str]] = {}
    for family in families:
        found.setdefault(family.name, set())
        for one in family.samples:
            found.setdefault(one.name, set()).update(one.labels)
    return found


def test_names_keep_prometheus_rules(families: list[Metric]) -> None:
    for family in families:
        assert re.fullmatch(r"(vigil|process)_[a-z0-9_]+", family.name)
        assert family.documentation, family.name
        assert not any(word in family.name for word in _NOT_BASE_UNITS), family.name
        assert not re.search(r"_(gauge|counter|histogram|summary)\b", family.name)
        reserved = ("_total", "_sum", "_count", "_bucket")
        assert not family.name.endswith(reserved), family.name
        for one in family.samples:
            assert (family.type == "counter") == one.name.endswith("_total"), one.name
            assert family.type == "histogram" or "le" not in one.labels
            assert not any(label.startswith("__") for label in one.labels)


def test_what_takes_long_has_buckets_up_to_two_minutes(families: list[Metric]) -> None:
    bounds = {
        family.name: {one.labels["le"] for one in family.samples if one.name.endswith("_bucket")}
        for family in families
        if family.type == "histogram"
    }
    for name in ("vigil_request_seconds", "vigil_turn_duration_seconds"):
        assert {"10.0", "30.0", "60.0", "120.0", "+Inf"} <= bounds[name]


def test_a_turn_is_counted_by_its_agents_kind_and_what_came_of_it(families: list[Metric]) -> None:
    (family,) = (one for one in families if one.name == "vigil_turn_duration_seconds")
    (total,) = (one for one in family.samples if one.name.endswith("_sum"))
    assert total.labels == {"kind": "function", "outcome": "answered"}
    assert total.value == 45


def test_build_and_process_are_told(families: list[Metric]) -> None:
    found = samples(families)
    assert found["vigil_build_info"] == {"version", "commit", "python"}
    assert {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"} <= set(found)


def test_a_turn_that_fails_or_is_stopped_is_told_from_one_that_answers() -> None:
    async def main() -> TurnTimes:
        times = TurnTimes()
        with pytest.raises(ValueError, match="no"), times.noting(object(), lambda: 0):
            raise ValueError("no")
        with trio.move_on_after(0), times.noting(object(), lambda: 0):
            await trio.sleep_forever()
        return times

    assert {outcome for _, outcome in trio.run(main).took} == {"failed", "stopped"}
    assert kind_of(object()) == "object"
    assert max(BUCKETS_S) == 120


_METRIC = re.compile(r"\b(?:vigil|process)_\w+")
_SELECTED = re.compile(r"((?:vigil|process)_\w+)\{([^}]*)\}")


def check(query: str, families: list[Metric]) -> None:
    """Every metric exists, every label that is selected by is one of it, every bracket is closed."""
    found = samples(families)
    names = _METRIC.findall(query)
    for name in names:
        assert name in found, f"{name} in {query}"
    for name, selectors in _SELECTED.findall(query):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors)) - {"instance", "job"}
        assert labels <= found[name], f"{labels} of {name}"
    for opened, closed in ("()", "{}", "[]"):
        assert query.count(opened) == query.count(closed), query
    assert names or query.startswith("up{")


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.name)
def test_every_query_of_a_board_names_a_metric_that_exists(board: Path, families: list[Metric]) -> None:
    panels = json.loads(board.read_text())["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        for target in panel["targets"]:
            check(target["expr"], families)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_asks_for_what_there_is_and_says_why_and_where_to_read_on(
    rule: dict[str, Any], families: list[Metric]
) -> None:
    check(rule["expr"], families)
    notes = rule["annotations"]
    assert notes["reason"].endswith(".")
    assert notes["summary"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    page, _, heading = notes["runbook_url"].partition("/docs/")[2].partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    assert heading in [one.lower() for one in headings]


def test_a_query_for_a_metric_that_is_not_there_is_found(families: list[Metric]) -> None:
    with pytest.raises(AssertionError, match="vigil_sesions"):
        check("sum(vigil_sesions)", families)
    with pytest.raises(AssertionError, match="stat"):
        check('vigil_sessions{stat="active"}', families)
