"""A Python client that is generated from the document is small, whole, and does the README's three calls."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process import KEY, ServerProcess, running_server
from vigil.server.api.routes import ROUTES
from vigil.server.docs import openapi

THREE_CALLS = """
import sys
from made.api.messages import get_messages, send_message
from made.api.sessions import create_session
from made.client import AuthenticatedClient
from made.models import CreatedSession, CreateSession, Error, History, SendMessage, SentMessage

with AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2]) as client:
    created = create_session.sync(client=client, body=CreateSession(agent_id="agent-123", user_id="user-456"))
    assert isinstance(created, CreatedSession), created
    sent = send_message.sync(created.session_id, client=client, body=SendMessage(content="Hello"))
    assert isinstance(sent, SentMessage), sent
    page = get_messages.sync(created.session_id, client=client, limit=50)
    assert isinstance(page, History) and page.messages[-1].content == "Hello", page
    refused = create_session.sync(client=client, body=CreateSession(agent_id="nobody", user_id="user-456"))
    assert isinstance(refused, Error) and refused.code == "AGENT_NOT_FOUND", refused
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the package `made` is in. A warning of the generator fails it."""
    directory = tmp_path_factory.mktemp("generated")
    document, config = directory / "openapi.json", directory / "config.yaml"
    document.write_text(json.dumps(openapi.document(ROUTES)))
    config.write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta=none"]
    options = [f"--path={document}", f"--output-path={directory / 'made'}", f"--config={config}"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return directory


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("server") / "data", "--log-level=error") as server:
        yield server


def test_each_shape_is_generated_once(made: Path) -> None:
    names = {path.stem for path in (made / "made" / "models").glob("*.py")}
    assert len(names) < 80
    assert {"error", "session", "sent_message", "history", "message_chunk_event"} <= names
    assert not [name for name in names if re.search(r"response_\d+_?type|all_of|one_of", name)]


def test_sending_gives_one_of_two_types(made: Path) -> None:
    code = (made / "made" / "api" / "messages" / "send_message.py").read_text()
    assert "-> Error | SentMessage | None:" in code


def test_every_operation_is_a_function_with_a_verb(made: Path) -> None:
    functions = {path.stem for path in (made / "made" / "api").rglob("*.py")} - {"__init__"}
    verbs = {"create", "list", "get", "end", "send", "renew", "update", "listen", "cancel", "reset", "forget"}
    assert len(functions) == len(ROUTES)
    assert {name.partition("_")[0] for name in functions} <= verbs


def test_the_generated_client_does_the_three_calls(made: Path, server: ServerProcess) -> None:
    command = [sys.executable, "-c", THREE_CALLS, server.url, KEY]
    done = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
