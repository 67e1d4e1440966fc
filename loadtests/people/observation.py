"""What a client knows of one request: when, for whom, and what came back. The wire format between Locust's workers.

Owns the records that the Locust side hands to the oracle (`oracle.py`) and to the percentiles (`percentiles.py`), and
which operations there are. Knows no Locust, no HTTP library and no rule about limits.

Times are float seconds of a monotonic clock (`time.monotonic`), real seconds also under `--time-scale`. All processes
of one machine share that clock, so their observations compare to the microsecond. Two machines do not share it:
each names its clock (`Oracle.add(..., clock=...)`), and a user or an agent seen by two clocks is not judged.

How to drive a limit so that it can be judged
---------------------------------------------
The oracle knows an admission only as an interval, from before the first byte went out to after the answer's head came
in. Half of what it can prove depends on the traffic:

1.  **Everything is reported.** One request on a session, user or agent that the oracle does not hear of is a false
    accusation later: a request without an answer is reported too (`received_s=None, status=0`), and so is the one
    that was in flight when the run ended. Users and sessions are new in every run (ids that no earlier run had). An
    agent that others use at the same time cannot be judged; what it held before the run is told to the oracle
    (`before`), read from `r` of its first answer.
2.  **Greedy on the minute.** One session, one request at a time, no pause: 61 requests. The 60th must be admitted
    (59/minute shows here), the 61st refused (61/minute, and a GCRA a second later).
3.  **Obey Retry-After to the letter.** After a refusal send the next request at `received_s + Retry-After` (session
    seconds divided by the scale) plus a millisecond, nothing in between. It must be admitted; a header one second
    short shows here, and a fixed window shows when the 60 after the retry are admitted as well: after an admitted
    retry go on at once until the next refusal.
4.  **Retry one second before.** Every other time send at `sent_s + Retry-After - 1`, minus a round trip
    (20 ms will do): it must still be refused. A header one second too long shows here. A refused request is charged
    nowhere, so this probe costs nothing.
5.  **The exact edge.** With the window full and `i` its oldest admission: one request that is surely inside
    (sent so that its answer is in before `i.sent_s + 60 s - 2 ms`: aim `2 * round trip + 3 ms` early) must be refused,
    one that is surely outside (sent at `i.received_s + 60 s + 2 ms` or later) must be admitted. Between the two lies
    what nobody can decide; it is as wide as two round trips. Spread the first 60 over some seconds (say one each
    100 ms): then each of them leaves at its own instant, and 60 edges can be probed instead of one. A burst sent
    again at the pace of the first burst sits on the edge with all of it: undecided.
6.  **Greedy on the hour.** A user needs 17 sessions (60 each), an agent 6 users (1000 each) with 17 sessions each, to
    reach its limit inside a minute. Few requests at a time (up to 8) near the limit: those in flight when it is
    reached are the undecided ones. Then 20 or more refusals one at a time, and (under `--time-scale`) obey
    Retry-After and the two probes of 4 and 5 as for the minute.
7.  **Spread, too.** A sliding counter is only wrong when the window before was full and unevenly used: fill a window
    in its first seconds, obey Retry-After, fill again, three times over.
"""

from typing import Any, Literal, NamedTuple, TypeAlias

Scope = Literal["session", "user", "agent"]

SCOPES: tuple[Scope, ...] = ("session", "user", "agent")

ON_A_SESSION = frozenset(
    {"get", "end", "send", "messages", "renew", "timeout", "heartbeat", "events"},
)
OPERATIONS = ON_A_SESSION | {"create", "list", "health"}

Row: TypeAlias = list[Any]  # an observation as JSON: its fields in their order


class Observation(NamedTuple):
    """One request, as far as it bears on limits (spec section 7).

    `sent_s` is read before the first byte goes out, `received_s` after the head of the answer came in (on a WebSocket:
    the 101); None when no answer came, then `status` is 0. `operation` is one of OPERATIONS; any other name (a made-up
    path, bytes that are no HTTP) counts for nothing. `session` is None for create, list and health. Headers are as
    received, "" when absent. `retry_after_ms` and `scope` are of a 429's `details`, None and "" otherwise.
    """

    sent_s: float
    received_s: float | None
    operation: str
    session: str | None
    user: str | None
    agent: str | None
    status: int
    rate_limit: str = ""
    policy: str = ""
    retry_after: str = ""
    retry_after_ms: int | None = None
    scope: str = ""


def as_rows(observations: list[Observation]) -> list[Row]:
    """For a batch from worker to master: lists of JSON values."""
    return [list(observation) for observation in observations]


def from_rows(rows: list[Row]) -> list[Observation]:
    """Read what `as_rows` wrote."""
    return [Observation(*row) for row in rows]
