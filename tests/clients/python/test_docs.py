"""The page about the client is true: its examples run one after another; the made files are up to date."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests import ROOT
from tests.process import KEY, ServerProcess

PAGE = ROOT / "docs" / "client-python.md"
README = ROOT / "clients" / "python" / "README.md"
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_examples_of_the_page_run_as_one_program(server: ServerProcess, tmp_path: Path) -> None:
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) == 9
    program = tmp_path / "examples.py"
    program.write_text("\n".join(examples))
    told = _run(program, server)
    assert "Hello!" in told
    assert "user:  Hello!\nagent: Hello!\n" in told
    assert "Who hears this?" in told
    assert "SESSION_NOT_FOUND" in told


def test_the_readmes_example_runs(server: ServerProcess, tmp_path: Path) -> None:
    (example,) = EXAMPLE.findall(README.read_text())
    program = tmp_path / "example.py"
    program.write_text(example.replace("http://127.0.0.1:3000", server.url).replace('"..."', f'"{KEY}"'))
    assert _run(program, server) == "Hello!"


def test_the_sync_client_is_made_from_the_async_one_as_it_is_now() -> None:
    command = [sys.executable, str(ROOT / "clients/python/generate_sync.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _run(program: Path, server: ServerProcess) -> str:
    environ = {**os.environ, "VIGIL_URL": server.url, "VIGIL_API_KEY": KEY}
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
