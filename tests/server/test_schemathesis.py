"""The running server, fuzzed from its own description: it does what the description says, and nothing else.

Schemathesis sends examples, every boundary of every schema, random valid and invalid requests, and chains of
requests along the links of create. No answer may be a 500, or have a status, a header, a content type or a body
that is not described; valid data must be taken, invalid data refused, credentials asked for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from server.routes import ROUTES
from tests.measure import PROVING, scaled
from tests.process import KEY, NO_LIMITS, running_server

PHASES = {"Examples", "Coverage", "Fuzzing", "Stateful"}

# Valid data can still be refused for what the session is (410, 422) and, where listed, for what it means (400).
TAKEN = ["2xx", "401", "403", "404", "409", "410", "422"]
REFUSED_FOR_ITS_MEANING = {
    "sendMessage": "the content policy",
    "updateTimeout": "the session would already be expired",
    "events": "it is no WebSocket handshake",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data_dir: Path = tmp_path_factory.mktemp("fuzzed") / "data"
    with running_server(data_dir, "--store=memory:", "--log-level=error", *NO_LIMITS) as server:
        yield server.url
        assert not server.log.read_text(), "the server had something to complain about"


def config() -> SchemathesisConfig:
    def acceptance(*more: str) -> dict[str, Any]:
        return {"positive_data_acceptance": {"expected-statuses": [*TAKEN, *more]}}

    return SchemathesisConfig.from_dict(
        {
            "headers": {"Authorization": f"Bearer {KEY}"},
            "generation": {
                "max-examples": scaled(3),
                "deterministic": not PROVING,
                "database": "none",
                "no-shrink": not PROVING,
            },
            "checks": acceptance(),
            "operations": [
                {"include-operation-id": name, "checks": acceptance("400")}
                for name in REFUSED_FOR_ITS_MEANING
            ],
        }
    )


@pytest.mark.timeout(60 if not PROVING else 3600)
def test_the_server_does_what_its_description_says(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config())
    complaints, tested = [], {}
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished(recorder=recorder):
                complaints += [
                    f"{check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                    for checks in recorder.checks.values()
                    for check in checks
                    if check.failure_info is not None
                ]
            case events.PhaseFinished(phase=phase, status=status):
                tested[phase.name.value] = status
            case events.NonFatalError(value=error) | events.FatalError(exception=error):
                complaints.append(repr(error))
    assert not complaints, "\n\n".join(complaints[:5])
    assert {name for name, status in tested.items() if status == Status.SUCCESS} >= PHASES
