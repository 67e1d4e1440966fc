"""`vigil load limits --profile FILE`: servers of other kinds, some of which keep their limits and some do not."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from pathlib import Path

import pytest

from tests.loadtests.oracle.limiters import FixedWindow, Gcra, Meter, SlidingCounter, SlidingLog
from vigil import __main__ as vigil
from vigil.loadtests.anywhere import profile as profiles
from vigil.loadtests.anywhere.judging import Seen, judge
from vigil.loadtests.oracle.answers import Limit
from vigil.loadtests.runner.options import LoadError

LIMIT = Limit(10, 1)


class Impatient(SlidingLog):
    """Exact, but refuses one request too early."""

    def wait_ms(self, now: int) -> int:
        return super().wait_ms(now) or (500 if self.standing(now)[0] == 1 else 0)


class Unlimited(SlidingLog):
    """Refuses nobody."""

    def wait_ms(self, now: int) -> int:  # noqa: ARG002
        return 0


@contextmanager
def limited(meter: type[Meter], retry: int = 0) -> Iterator[str]:
    """A server that knows its callers by a header; `retry` is added to what it promises. Its URL."""
    lock = threading.Lock()
    meters: defaultdict[str, Meter] = defaultdict(lambda: meter(LIMIT))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:
                now = time.monotonic_ns() // 1_000_000
                one = meters[self.headers["X-Key"]]
                wait_ms = one.wait_ms(now)
                if not wait_ms:
                    one.charge(now)
            self.send_response(429 if wait_ms else 200)
            if wait_ms:
                self.send_header("Retry-After", str(ceil(wait_ms / 1000) + retry))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def written(path: Path, url: str, **fields: object) -> Path:
    content = {
        "request": {"url": url, "headers": {"X-Key": "{subject}"}},
        "subjects": ["a", "b"],
        "limit": "10/second",
        **fields,
    }
    path.write_text(json.dumps(content))  # YAML holds JSON
    return path


@pytest.mark.parametrize(
    ("meter", "retry", "code", "told"),
    [
        (SlidingLog, 0, 0, "10 in 1 s: held"),
        (FixedWindow, 0, 1, "admitted within 1 s, not 10"),
        (SlidingCounter, 0, 1, "admitted within 1 s, not 10"),
        (Gcra, 0, 1, "admitted within 1 s, not 10"),
        (Impatient, 0, 1, "refused at"),
        (SlidingLog, 3, 1, "and there is room after"),
    ],
)
def test_a_limit_that_is_kept_is_told_from_one_that_is_not(
    meter: type[Meter], retry: int, code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with limited(meter, retry) as url:
        file, out = written(tmp_path / "p.yaml", url), tmp_path / "out.json"
        assert vigil.main(["load", "limits", "--profile", str(file), "--json", str(out)]) == code
    assert told in capsys.readouterr().out
    assert json.loads(out.read_text())["exitCode"] == code


def test_a_limit_that_was_never_reached_is_not_held(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with limited(Unlimited) as url:
        file = written(tmp_path / "p.yaml", url, limit="1000/hour", window="1s", run_time="500ms", at_once=1)
        assert vigil.main(["load", "limits", "--profile", str(file)]) == 5
    assert "no window was surely full" in capsys.readouterr().out


def test_nobody_at_the_url_is_unreachable(tmp_path: Path) -> None:
    file = written(tmp_path / "p.yaml", "http://127.0.0.1:9/")
    assert vigil.main(["load", "limits", "--profile", str(file)]) == 4


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"limit": "10/day"}, "limit: "),
        ({"subjects": []}, "subjects: "),
        ({"colour": "red"}, "colour: "),
        ({"request": {"url": "http://x/"}}, "{subject} stands nowhere"),
        ({"request": {"url": "x{subject}"}}, "request.url: "),
    ],
)
def test_a_bad_profile_is_refused_by_name(fields: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as error:
        profiles.load(written(tmp_path / "p.yaml", "http://x/", **fields))
    assert told in str(error.value)


def test_a_profile_goes_with_limits_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "p.yaml", "http://x/")
    assert vigil.main(["load", "soak", "--profile", str(file)]) == 2
    assert "goes with limits alone" in capsys.readouterr().err


# --- the oracle as a library


def test_what_intervals_cannot_decide_is_no_proof() -> None:
    seen = [Seen("a", at, at + 0.6, "admitted") for at in (0.0, 0.1, 0.7)]
    judgement = judge(seen, requests=2, window_s=1.0)
    assert (judgement.over_admitted, judgement.undecided) == (0, 1)


def test_an_answer_that_never_came_excuses_a_refusal_and_accuses_nobody() -> None:
    seen = [Seen("a", 0.0, 0.1, "admitted"), Seen("a", 0.2, 0.3, "unknown"), Seen("a", 0.4, 0.5, "refused")]
    judgement = judge(seen, requests=2, window_s=10.0)
    assert not judgement.is_proven_wrong
    without = judge([seen[0], seen[2]], requests=2, window_s=10.0)
    assert without.falsely_refused == 1


def test_subjects_have_windows_of_their_own() -> None:
    seen = [Seen(name, 0.0, 0.1, "admitted") for name in "ab"]
    assert not judge(seen, requests=1, window_s=1.0).is_proven_wrong
    assert judge([one._replace(subject="a") for one in seen], requests=1, window_s=1.0).over_admitted == 1


def test_a_promise_that_is_too_early_is_found() -> None:
    seen = [Seen("a", 0.0, 0.1, "admitted"), Seen("a", 1.0, 1.1, "refused", 2.0)]
    assert judge(seen, requests=1, window_s=10.0).retry_early == 1
    assert judge([seen[0], seen[1]._replace(retry_after_s=9.0)], requests=1, window_s=10.0).retry_early == 0
