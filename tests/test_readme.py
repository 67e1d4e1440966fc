"""The README and the settings page are true: the settings are these, and the calls get the answers that are printed."""

import json
import re
import shlex
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import ROOT
from tests.process import ServerProcess, running_server
from vigil.server.cli.command_line import settings_table

README = ROOT / "README.md"
SETTINGS = ROOT / "docs" / "settings.md"
LINES_MAX = 220  # what one reads in three minutes
PICTURES_BYTES_MAX = 150_000
CALL = re.compile(r"```bash\n(curl .*?)```\n.*?```json\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([\w./-]+)(#[\w-]+)?\)")


def test_the_settings_table_is_what_the_settings_say() -> None:
    table = re.search(r"<!-- settings:.*?-->\n(.*?)<!-- /settings -->", SETTINGS.read_text(), re.DOTALL)
    assert table is not None
    assert table[1] == settings_table()


def test_the_readme_can_be_read_in_three_minutes_and_its_pictures_load_at_once() -> None:
    assert len(README.read_text().splitlines()) <= LINES_MAX
    pictures = [ROOT / name for name in re.findall(r"!\[.*?\]\((.*?)\)", README.read_text())]
    assert len(pictures) == 3
    assert sum(picture.stat().st_size for picture in pictures) < PICTURES_BYTES_MAX


def pages() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_link_between_the_pages_leads_somewhere(page: Path) -> None:
    for name, anchor in LINK.findall(page.read_text()):
        target = page.parent / name
        assert target.exists(), name
        assert not anchor or anchor[1:] in _anchors(target.read_text()), name + anchor


def _anchors(text: str) -> set[str]:
    """What a heading is linked as."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


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
