"""Closed-model load with wrk: 32 connections, each with its next request as soon as the last is answered.

It knows wrk and its Lua; it refuses to know what the requests mean. Install it with `apt-get install wrk`.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vigil.loadtests.bench.rig import BenchError

CONNECTIONS = 32
INSTALL = "wrk is not installed: `apt-get install wrk` (Debian, Ubuntu) or `brew install wrk`"

_SCRIPT = """
local requests, at = {}, 0
function init(args)
  for line in io.lines(args[1]) do
    local method, path, body = line:match("^(%S+) (%S+) (.*)$")
    requests[#requests + 1] = wrk.format(method, path, nil, body ~= "" and body or nil)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\\n{"requests":%d,"us":%d,"us_p50":%d,"us_p99":%d,"us_max":%d,"refused":%d,"broken":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""


class WrkMissing(BenchError):
    """wrk is not installed."""


class WrkFailed(BenchError):
    """wrk did not run, or not every answer was a success."""


@dataclass(frozen=True, slots=True)
class Request:
    """`path` with its query; `body` one line of JSON, or "" for none."""

    method: str
    path: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run saw. Latencies in milliseconds, from sent to answered."""

    per_s: float
    ms_p50: float
    ms_p99: float
    ms_max: float


def find() -> str:
    """The path of the program. Raises WrkMissing."""
    path = shutil.which("wrk")
    if path is None:
        raise WrkMissing(INSTALL)
    return path


def run(
    url: str,
    requests: Sequence[Request],
    headers: Sequence[str],
    seconds: int,
    connections: int = CONNECTIONS,
) -> Sample:
    """Go round over the requests for so many seconds. `headers` are `Name: value`. Raises WrkFailed, WrkMissing."""
    with tempfile.TemporaryDirectory() as directory:
        script, lines = Path(directory, "script.lua"), Path(directory, "requests")
        script.write_text(_SCRIPT)
        lines.write_text("".join(f"{one.method} {one.path} {one.body}\n" for one in requests))
        command = [find(), "-t1", f"-c{connections}", f"-d{seconds}s", f"-s{script}", "--timeout=30s"]
        command += [f"-H{header}" for header in headers]
        done = subprocess.run(  # noqa: S603  found above
            [*command, url, "--", str(lines)], capture_output=True, text=True, check=False
        )
    return parsed(done.stdout, done.stderr)


def parsed(stdout: str, stderr: str = "") -> Sample:
    """The last line of what wrk with our script says. Raises WrkFailed."""
    last = stdout.rstrip().rpartition("\n")[2]
    if not last.startswith("{"):
        raise WrkFailed(f"wrk did not run: {(stderr or stdout).strip()}")
    figures = json.loads(last)
    if figures["refused"] or figures["broken"] or not figures["requests"]:
        raise WrkFailed(f"not every request was answered with success, so nothing was measured: {last}")
    per_s = figures["requests"] / figures["us"] * 1_000_000
    return Sample(round(per_s), *(figures[name] / 1000 for name in ("us_p50", "us_p99", "us_max")))
