"""`vigil replay` as people run it: what it prints and writes, and its exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

import vigil.__main__ as vigil
from tests.scenarios.playing import HEAD, played
from vigil.scenarios.reports import play_text as report

GOOD = f"{HEAD}steps:\n  - create:\n  - wait: 3h\n"
BAD = f"{HEAD}steps:\n  - create:\n    as: talk\n  - send: Hi\n    after: 10s\n    expect: {{body: {{content: Ho}}}}\n"


class Done(NamedTuple):
    code: int
    out: str
    err: str


Replay = Callable[..., Done]


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current directory that has good.yaml, bad.yaml and wrong.yaml."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("good", GOOD), ("bad", BAD), ("wrong", GOOD.replace("wait", "wiat"))):
        Path(f"{name}.yaml").write_text(text)


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Replay:
    """The command, in this process, whose logs stay as they are."""
    monkeypatch.setattr("vigil.server.ops.logs.configure", lambda *_: None)
    monkeypatch.delenv("VIGIL_API_KEY", raising=False)

    def run(*arguments: str) -> Done:
        try:
            code = vigil.main(["replay", *arguments])
        except SystemExit as left:  # argparse
            code = int(left.code or 0)
        return Done(code, *capsys.readouterr())

    return run


def test_the_command_says_what_held_and_nothing_else() -> None:
    command = [sys.executable, "-m", "vigil", "replay", "good.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2


def test_all_that_held_is_0_and_a_line_each(replay: Replay) -> None:
    done = replay("good.yaml")
    assert done.code == 0, done.err
    first, last = done.out.splitlines()
    assert first.startswith("held     A script that a test has written  (3h of session time in ")
    assert last.startswith("1 held, 0 failed, 0 skipped  (3h of session time in ")
    assert done.err == ""


def test_an_expectation_that_failed_is_1_and_told_with_what_led_to_it(replay: Replay) -> None:
    done = replay("good.yaml", "bad.yaml", "--junit", "out.xml", "--json", "out.json")
    assert done.code == 1, done.err
    told = done.out.splitlines()[2:]
    assert told[:4] == [
        "  bad.yaml:8: send Hi",
        "    body.content",
        '      expected  "Ho"',
        '      came      "Hi"',
    ]
    assert told[4] == "  up to there"
    assert [line.split()[0] for line in told[5:7]] == ["0s", "10s"]
    assert told[-1].startswith("1 held, 1 failed, 0 skipped")

    suite = ElementTree.parse("out.xml").getroot()  # noqa: S314  our own
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "bad.yaml:8" in "".join(suite.itertext())
    plays = json.loads(Path("out.json").read_text())["plays"]
    assert [play["verdict"] for play in plays] == ["held", "failed"]
    assert plays[1]["exchanges"][1]["request"] == {"content": "Hi"}


def test_a_script_that_is_wrong_is_2_and_nothing_is_played(replay: Replay) -> None:
    done = replay("good.yaml", "wrong.yaml")
    assert done.code == 2
    assert done.out == ""
    told, _, example = done.err.partition("\n")
    assert told == "vigil: wrong.yaml:5:5: steps[1].wiat: is not a field here: did you mean wait?"
    assert "steps:" in example


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say which scripts: vigil replay FILE.yaml, or vigil replay --library"),
        (["nowhere.yaml"], "nowhere.yaml: there is no such file"),
        ([str(Path(__file__))], "files must all be *.yaml"),
        (["good.yaml", "--time-scale", "60"], "--time-scale and --api-key are for --url and --serve"),
        (["good.yaml", "--url", "http://127.0.0.1:9"], "--url needs an API key"),
        (["good.yaml", "--tolerance", "soon"], "'soon' is not a duration"),
        (["good.yaml", "--serve", "--time-scale", "0"], "'0' is not a number above 0"),
        (["good.yaml", "--json", "no/such/file"], "no/such/file: cannot be written"),
    ],
)
def test_what_was_typed_wrong_is_2_and_told(arguments: list[str], told: str, replay: Replay) -> None:
    done = replay(*arguments)
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_target_that_cannot_be_reached_is_3(replay: Replay) -> None:
    done = replay("good.yaml", "--url", "http://127.0.0.1:9", "--api-key", "any-key")
    assert done.code == 3
    assert done.err.startswith("vigil: http://127.0.0.1:9 cannot be reached")


def test_a_target_that_cannot_be_reached_is_3_also_for_scripts_that_it_could_not_play(replay: Replay) -> None:
    Path("own.yaml").write_text(f"{HEAD}steps:\n  - create:\n  - restart: crash\n")
    done = replay("own.yaml", "--url", "http://127.0.0.1:9", "--api-key", "any-key")
    assert (done.code, done.out) == (3, "")


def test_a_recording_is_not_played_at_a_url_and_says_so(replay: Replay) -> None:
    Path("trace.jsonl").touch()
    done = replay("trace.jsonl", "--url", "http://127.0.0.1:9")
    assert done.code == 2
    assert done.err.startswith("vigil: --url is for scripts")


def test_the_schema_is_printed_for_editors(replay: Replay) -> None:
    done = replay("--schema")
    assert done.code == 0
    assert json.loads(done.out)["$defs"]["Step"]["properties"].keys() >= {"create", "expect_event", "at"}


def test_a_long_story_is_told_from_its_end() -> None:
    play = played("- create:\n- repeat: {times: 50, every: 1m, do: [{heartbeat: }]}\n- get:\n  expect: 404")
    story = report.failure(play).splitlines()
    assert "  up to there (the last 40 of 52 lines)" in story
    assert story[-1].strip().endswith("get session-1 -> 200")
