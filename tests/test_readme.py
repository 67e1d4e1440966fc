"""The README is true: its settings are the settings, and its calls get the answers that it prints."""

import json
import re
import shlex
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from tests import ROOT
from tests.process import ServerProcess, running_server
from vigil.server.cli.command_line import settings_table

README = ROOT / "README.md"
CALL = re.compile(r"```bash\n(curl .*?)```\n.*?```json\n(.*?)```", re.DOTALL)


def test_the_settings_table_is_what_the_settings_say() -> None:
    table = re.search(r"<!-- settings:.*?-->\n(.*?)<!-- /settings -->", README.read_text(), re.DOTALL)
    assert table is not None
    assert table[1] == settings_table()


def test_the_chat_is_the_one_that_is_tested() -> None:
    chat = README.parent / "docs" / "chat.py"
    assert f"```python\n{chat.read_text()}```\n" in README.read_text()


def test_the_three_calls_work_as_printed_and_get_the_answers_printed(tmp_path: Path) -> None:
    calls = CALL.findall(README.read_text())
    assert len(calls) == 3
    with running_server(tmp_path / "data", "--log-level=error", environ={"VIGIL_API_KEY": None}) as server:
        key = (tmp_path / "data" / "api-key").read_text().strip()
        known = {"$(cat vigil-data/api-key)": key}
        for command, printed in calls:
            answer = _until_shaped_like(json.loads(printed), server, command, known)
            if "sessionToken" in answer:
                known |= {"SESSION_ID": answer["sessionId"], "YOUR_TOKEN": answer["sessionToken"]}


def _until_shaped_like(
    printed: Any, server: ServerProcess, command: str, known: dict[str, str]
) -> dict[str, Any]:
    """The answer; the agent's reply, which comes by itself, may take a moment to be in the history."""
    patience = time.monotonic() + 60
    while _shape(answer := _run(server, command, known)) != _shape(printed):
        assert command.startswith("curl -X GET"), (answer, printed)
        assert time.monotonic() < patience, (answer, printed)
    return answer


def _run(server: ServerProcess, command: str, known: dict[str, str]) -> dict[str, Any]:
    """A curl command as httpx sends it: what is asked does not need curl to be there."""
    for text, value in known.items():
        command = command.replace(text, value)
    words = shlex.split(command.replace("\\\n", " ").replace("http://localhost:3000", server.url))
    options = list(pairwise(words))
    method = next(value for option, value in options if option == "-X")
    headers = dict(value.split(": ", 1) for option, value in options if option == "-H")
    body = "".join(value for option, value in options if option == "-d")
    url = next(word for word in words if word.startswith("http"))
    answer = httpx.request(method, url, headers=headers, content=body, timeout=60)
    assert answer.is_success, answer.text
    got: dict[str, Any] = answer.json()
    return got


def _shape(value: Any) -> Any:
    """The names and the values that are the same on every run."""
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    changes = isinstance(value, str) and re.search(r"[0-9a-f]{8}-|^[0-9-]{10}T", value)
    return "..." if changes or (isinstance(value, int) and value > 10_000) else value
