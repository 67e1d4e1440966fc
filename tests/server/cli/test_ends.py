"""How commands end when somebody ends them: interrupts, readers that go away, streams that cannot be written.

Real processes. What an interrupt meets is told by what the process prints, never by time.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests import ROOT
from tests.process import KEY
from vigil.server.cli import ends

LIBRARY = ROOT / "scenarios" / "library"
VIGIL = (sys.executable, "-m", "vigil")
A_DAY = ("simulate", "--seed", "7", "--people", "300", "--hours", "24")


def started(*words: str, interpreter: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    command = [sys.executable, *interpreter, "-m", "vigil", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupted(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
    """Gives the exit code and what came on standard error."""
    with process:  # which closes its pipes, however this ends
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert "Traceback" not in said
    return process.returncode, said


def read_until(stream: object, text: str) -> None:
    assert any(text in line for line in stream), text  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_simulation_says_how_far_it_came_and_how_to_have_the_same_day_again(
    number: signal.Signals,
) -> None:
    process = started(*A_DAY)
    read_until(process.stdout, "seed 7")
    code, said = interrupted(process, number)
    assert code == 130
    (line,) = said.splitlines()
    assert line.startswith("vigil: interrupted at ")
    assert "vigil simulate --seed 7 --people 300 --hours 24 --mix realistic --faults none" in line


def test_an_interrupted_replay_says_what_held_and_which_script_is_next() -> None:
    process = started("replay", str(LIBRARY))
    read_until(process.stdout, "held")
    code, said = interrupted(process)
    assert code == 130
    (line,) = said.splitlines()
    assert line.startswith("vigil: interrupted after ")
    assert f"the next: vigil replay {LIBRARY}" in line


def test_an_interrupted_replay_with_servers_of_its_own_leaves_none_behind() -> None:
    process = started("replay", str(LIBRARY / "sliding_window.yaml"), "--serve", "--time-scale", "2")
    servers = servers_of(process)
    code, _ = interrupted(process)
    assert code == 130
    assert servers
    assert not [pid for pid in servers if is_alive(pid)]


def servers_of(process: "subprocess.Popen[str]") -> list[str]:
    """Wait until it has started `vigil serve`: it has other children too, which are gone in a moment."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        servers = [pid for pid in children.read_text().split() if "\0serve\0" in command_line(pid)]
        if servers:
            return servers
    return []


def command_line(pid: str) -> str:
    """Empty for one that has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def is_alive(pid: str) -> bool:
    """Not as a zombie, which is for somebody else to bury."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.parametrize(
    "module",
    ["vigil.server.cli.command_line", "vigil.scenarios.errors", "trio", "vigil.scenarios.play.player"],
)
def test_an_interrupt_while_a_command_is_still_imported_is_an_interrupt(module: str) -> None:
    process = started("replay", str(LIBRARY), interpreter=("-X", "importtime"))
    assert process.stderr is not None
    read_until(process.stderr, f" {module}\n")
    process.send_signal(signal.SIGINT)
    said = [line for line in process.stderr if not line.startswith("import time:")]
    process.communicate()
    assert process.returncode == 130
    assert len(said) == 1
    assert said[0].startswith("vigil: interrupted")


def raised_on_the_way() -> None:
    """Class creation turns an interrupt into a RuntimeError."""

    class Named:
        def __set_name__(self, _owner: type, _name: str) -> None:
            raise KeyboardInterrupt

    type("Owner", (), {"one": Named()})


@pytest.mark.parametrize(
    "interrupt",
    [
        raised_on_the_way,
        lambda: _raise(KeyboardInterrupt()),
        lambda: _raise(BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [KeyboardInterrupt()])])),
    ],
)
def test_an_interrupt_is_one_in_whatever_it_is_wrapped(
    interrupt: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ends.Interrupted) as error, ends.interruptible(lambda: "after 3 of 4"):
        interrupt()
    assert ends.end(error.value) == 130
    assert capsys.readouterr().err == "vigil: interrupted after 3 of 4\n"


def _raise(error: BaseException) -> None:
    raise error


def test_a_bug_is_still_a_traceback() -> None:
    with pytest.raises(ZeroDivisionError), ends.interruptible(lambda: ""):
        _raise(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        ends.end(ZeroDivisionError())
    with pytest.raises(BrokenPipeError):  # of something else than our own output
        ends.end(BrokenPipeError())


# --- readers that go away


@pytest.mark.parametrize(
    "words", [A_DAY, ("replay", str(LIBRARY)), ("simulate", "--help"), ("replay", "--schema")]
)
def test_a_reader_that_goes_away_ends_a_command_quietly(words: tuple[str, ...]) -> None:
    process = started(*words)
    assert process.stdout is not None
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(60) in {0, 141}  # 0: all of it was in the pipe by then
    process.stderr.close()


def test_a_reader_that_is_gone_from_the_beginning_is_141(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*VIGIL, "keys", "list", f"--data-dir={tmp_path}"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_under_the_output_is_said_in_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*VIGIL, "keys", "list", f"--data-dir={tmp_path}"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "vigil: standard output cannot be written: No space left on device\n"


# --- files


@pytest.mark.parametrize("flag", ["--junit", "--json", "--timeline"])
@pytest.mark.parametrize(("place", "why"), [("no/file", "there is no directory"), (".", "it is a directory")])
def test_a_place_that_cannot_be_written_is_said_before_anything_is_played(
    tmp_path: Path, flag: str, place: str, why: str
) -> None:
    done = subprocess.run(
        [*VIGIL, "replay", str(LIBRARY), flag, str(tmp_path / place)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot be written: {why}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_disk_that_is_full_at_the_end_is_said_in_one_line() -> None:
    words = ("replay", str(LIBRARY / "health.yaml"), "--json", "/dev/full")
    done = subprocess.run([*VIGIL, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "vigil: /dev/full: cannot be written: No space left on device\n"


# --- streams of a server

GONE = (
    "<&-",
    ">&-",
    "2>&-",
    "<&- >&- 2>&-",
    ">/dev/full",
    "2>/dev/full",
    ">/dev/full 2>&1",
    "| true",
    "2>&1 | true",
)


@pytest.mark.parametrize("streams", GONE)
def test_a_standard_stream_that_is_closed_full_or_not_read_stops_no_server(
    tmp_path: Path, streams: str
) -> None:
    port, pid_file, code_file = free_port(), tmp_path / "pid", tmp_path / "code"
    serve = f"{sys.executable} -m vigil serve --port {port} --data-dir {tmp_path}/data"
    shell = f"(sh -c 'echo $$ >{pid_file}; exec {serve}'; echo $? >{code_file}) {streams}"
    environ = {**os.environ, "VIGIL_API_KEY": KEY}
    with subprocess.Popen(["/bin/sh", "-c", shell], env=environ, stderr=subprocess.DEVNULL) as run:
        for _ in range(3):  # each is a line of the log
            assert answered(f"http://127.0.0.1:{port}/livez") == 200
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        run.wait(60)
    assert code_file.read_text() == "0\n"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def answered(url: str) -> int:
    """The status, once somebody listens."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as http:  # waits longer each time
        return http.get(url, timeout=30).status_code


def test_a_log_whose_reader_stands_still_holds_nobody_up(tmp_path: Path) -> None:
    """A terminal with ^S, `| less`: a pipe that is full."""
    read, write = os.pipe()
    port = free_port()
    command = [*VIGIL, "serve", "--port", str(port), "--data-dir", str(tmp_path)]
    environ = {**os.environ, "VIGIL_API_KEY": KEY}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=write) as server:
        os.close(write)
        assert answered(f"http://127.0.0.1:{port}/livez") == 200
        with httpx.Client() as http:
            for _ in range(500):  # 64 KiB are 300 lines
                assert http.get(f"http://127.0.0.1:{port}/livez", timeout=10).status_code == 200
        server.terminate()
        assert server.wait(60) == 0
    os.close(read)
