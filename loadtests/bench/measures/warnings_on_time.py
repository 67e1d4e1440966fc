"""How late listeners hear that their session is about to expire, and that it has.

    python -m vigil.loadtests.bench.measures.warnings_on_time [--sessions 1000] [--spread-s 10]

A server with `--time-scale 60`: a session of 5 minutes with a warning a minute before its end lasts 5 s. All listen
before the first deadline, and the deadlines are spread evenly over `--spread-s` of real time. Lateness is in real
milliseconds, from the instant that the session's `expiresAt` names to the one at which its listener has the event.
The server's clock is read from the instants at which it created the sessions, and taken at the earliest that they
allow, so that an error there makes events later and never earlier.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from vigil.loadtests.bench.rig import Arrival, Ears, Http, percentiles, pinned_server

SCALE = 60
LIFE_MINUTES = 5
WARNING_MINUTES = 1
_LONG_MINUTES = 1440  # until all listen
_LAST_S = 2.0  # for the last event to arrive


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.warnings_on_time")
    parser.add_argument("--sessions", type=int, default=1000, help="each with a listener (1000)")
    parser.add_argument("--spread-s", type=float, default=10, help="real seconds of deadlines (10)")
    typed = parser.parse_args(argv)
    with pinned_server(f"--time-scale={SCALE}") as (host, port):
        print(json.dumps(_measure(host, port, typed.sessions, typed.spread_s), indent=2))


def _measure(host: str, port: int, sessions: int, spread_s: float) -> dict[str, Any]:
    http = Http(host, port)
    ids, epoch_s = _create(http, sessions)
    ears = Ears(host, port, ids)
    arrivals: list[Arrival] = []
    began_s = time.perf_counter()
    for n, session_id in enumerate(ids):
        http.send(f"/{session_id}/renew", {})
        http.send(f"/{session_id}/timeout", {"timeoutMinutes": LIFE_MINUTES}, method="PATCH")
        arrivals += ears.hear(began_s + (n + 1) * spread_s / sessions, http)
    arrivals += ears.hear(time.perf_counter() + LIFE_MINUTES * 60 / SCALE + _LAST_S, http)
    ears.close()
    ends = {one.listener: one.event["data"]["expiresAt"] for one in _of(arrivals, "sessionTimeoutUpdated")}
    ends_s = {listener: epoch_s + _real_s(end) for listener, end in ends.items()}
    early_s = WARNING_MINUTES * 60 / SCALE
    expired = [one.at_s - ends_s[one.listener] for one in _of(arrivals, "sessionExpired")]
    warned = [one.at_s - ends_s[one.listener] + early_s for one in _of(arrivals, "sessionExpirationWarning")]
    return {
        "sessions": sessions,
        "deadlines_spread_s": round(max(ends_s.values()) - min(ends_s.values()), 2),
        "lost": 2 * sessions - len(warned) - len(expired),
        "warned_late": percentiles(warned),
        "expired_late": percentiles(expired),
    }


def _create(http: Http, sessions: int) -> tuple[list[str], float]:
    """The sessions' ids, and the earliest `time.perf_counter` at which session time can have been 0."""
    config = {
        "timeoutMinutes": _LONG_MINUTES,
        "maxDurationMinutes": 3 * _LONG_MINUTES,
        "warningThresholdMinutes": WARNING_MINUTES,
    }
    body = {"agentId": "silent", "userId": "user-456", "timeoutConfig": config}
    ids, epochs_s = [], []
    for _ in range(sessions):
        sent_s = time.perf_counter()
        created = http.post("", body)
        ids.append(created["sessionId"])
        epochs_s.append(sent_s - _real_s(created["createdAt"]))
    return ids, max(epochs_s)


def _of(arrivals: Sequence[Arrival], kind: str) -> Iterator[Arrival]:
    return (arrival for arrival in arrivals if arrival.event["type"] == kind)


def _real_s(text: str) -> float:
    """An instant of session time as real seconds."""
    return datetime.fromisoformat(text).timestamp() / SCALE


if __name__ == "__main__":
    main()
