"""The running server, fuzzed from its own description: it does what the description says, and nothing else.

Schemathesis sends examples, every boundary of every schema, random valid and invalid requests, and chains of
requests along the links of create. No answer may be a 500, or have a status, a header, a content type or a body
that is not described; valid data must be taken, invalid data refused, credentials asked for.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.generation.meta import TestPhase

from tests.measure import PROVING, scaled
from tests.process import BASE, KEY, NO_LIMITS, ServerProcess, running_server

PHASES = ("EXAMPLES", "COVERAGE", "FUZZING", "STATEFUL_TESTING")

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
KEY_WITH_ROOM = re.compile("[!-~]{1,200}")

# Valid data can still be refused for what the session is (410, 422) and, where listed, for what it means (400).
TAKEN = ["2xx", "401", "403", "404", "409", "410", "422"]
REFUSED_FOR_ITS_MEANING = {
    "sendMessage": "the content policy",
    "updateTimeout": "the session would already be expired",
    "listenToEvents": "it is no WebSocket handshake",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir: Path = tmp_path_factory.mktemp("fuzzed") / "data"
    with running_server(data_dir, "--store=memory:", "--log-level=error", *NO_LIMITS) as running:
        yield running
        assert not running.log.read_text(), "the server had something to complain about"


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
            "phases": {"coverage": {"unexpected-methods": ["OPTIONS", "PUT"]}},
            "operations": [
                {"include-operation-id": name, "checks": acceptance("400")}
                for name in REFUSED_FOR_ITS_MEANING
            ],
        }
    )


@contextmanager
def aimed_at(session_id: str) -> Iterator[None]:
    """Point valid requests at a session that lives, each with an idempotency key of its own.

    Otherwise nearly all would be 404 or 422. Chains of requests have a session of their own already.
    """
    numbers = count()

    def before_call(_context: Any, case: Any, _options: Any) -> None:
        if case.meta.phase.name is TestPhase.STATEFUL:
            return
        if UUID.fullmatch(str(case.path_parameters.get("sessionId"))) and case.method != "DELETE":
            case.path_parameters["sessionId"] = session_id
        if KEY_WITH_ROOM.fullmatch(case.headers.get("Idempotency-Key", "")):
            case.headers["Idempotency-Key"] += f"-{next(numbers)}"

    schemathesis.hook(before_call)
    try:
        yield
    finally:
        schemathesis.hooks.unregister(before_call)


@pytest.mark.timeout(300 if not PROVING else 3600)
def test_the_server_does_what_its_description_says(server: ServerProcess) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=config())
    with server.client() as client:
        session = client.post(server.url + BASE, json={"agentId": "agent-123", "userId": "user-456"}).json()
    complaints: list[str] = []
    answered: Counter[tuple[str, int]] = Counter()
    with aimed_at(session["sessionId"]):
        for event in from_schema(schema).execute():
            match event:
                case events.ScenarioFinished(recorder=recorder, phase=phase):
                    complaints += told(recorder)
                    answers = [exchange.response for exchange in recorder.interactions.values()]
                    answered.update(
                        (phase.name, answer.status_code) for answer in answers if answer is not None
                    )
                case events.NonFatalError(value=error) | events.FatalError(exception=error):
                    complaints.append(repr(error))
    assert not complaints, "\n\n".join(complaints[:5])
    assert {(phase, 201) for phase in PHASES} <= set(answered), answered


def told(recorder: Any) -> list[str]:
    checks = [check.failure_info for checks in recorder.checks.values() for check in checks]
    return [f"{failed.failure}\n{failed.code_sample}" for failed in checks if failed is not None]
