"""How long a message needs to reach those who listen.

    python -m vigil.loadtests.bench.measures.listeners [--listeners 1000] [--messages 30] [--per-second 100]

Twice: all listeners on one session, a message a second; and a session for each listener, messages one after another to
sessions in turn. From the instant at which the message is sent to the one at which a listener has its
`messageBroadcast`, on real sockets and a SQLite store. What was not heard counts as `lost`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from vigil.loadtests.bench.rig import Ears, Http, percentiles, pinned_server

_LAST_S = 3.0  # for the last message to arrive


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.listeners")
    parser.add_argument("--listeners", type=int, default=1000, help="in each of the two measurements (1000)")
    parser.add_argument("--messages", type=int, default=30, help="to the one session (30)")
    parser.add_argument("--per-second", type=int, default=100, help="messages to the many sessions (100)")
    typed = parser.parse_args(argv)
    with pinned_server() as (host, port):
        one = measure(host, port, typed.listeners, sessions=1, messages=typed.messages, per_s=1)
    with pinned_server() as (host, port):
        many = measure(
            host, port, typed.listeners, sessions=typed.listeners, messages=2000, per_s=typed.per_second
        )
    print(json.dumps({"one_session": one, "a_session_each": many}, indent=2))


def measure(
    host: str, port: int, listeners: int, *, sessions: int, messages: int, per_s: float
) -> dict[str, Any]:
    http = Http(host, port)
    body = {"agentId": "silent", "userId": "user-456"}
    ids = [http.post("", body)["sessionId"] for _ in range(sessions)]
    ears = Ears(host, port, [ids[n % sessions] for n in range(listeners)])
    for _ in ears.hear(time.perf_counter() + 1.0):
        """What opening them has left."""
    sent_s: list[float] = []
    took_s: list[float] = []
    began_s = time.perf_counter()
    for n in range(messages):
        sent_s.append(time.perf_counter())
        http.send(f"/{ids[n % sessions]}/messages", {"content": str(n)})
        last = n == messages - 1
        until_s = time.perf_counter() + _LAST_S if last else began_s + (n + 1) / per_s
        took_s += [
            arrival.at_s - sent_s[int(arrival.event["data"]["content"])]
            for arrival in ears.hear(until_s, http)
            if arrival.event["type"] == "messageBroadcast"
        ]
    ears.close()
    expected = messages * listeners // sessions
    return {
        "listeners": listeners,
        "sessions": sessions,
        "messages": messages,
        "lost": expected - len(took_s),
        **percentiles(took_s),
    }


if __name__ == "__main__":
    main()
