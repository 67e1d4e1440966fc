"""What tests of the player say of a play."""

from vigil.scenarios.play.results import Play

MINUTE_MS = 60_000


LONG = """
- create: {userId: ana, timeoutConfig: {timeoutMinutes: 60}}
  as: talk
- listen: talk
- parallel:
    phone:
      - repeat: {times: 9, every: 20m, do: [{send: "From the phone, ${n}"}]}
    laptop:
      - repeat: {times: 17, every: 10m, do: [{heartbeat: talk}]}
- after: 2m
  burst: {count: 70, every: 0s, do: {get: talk}}
  expect: {statuses: {200: 60, 429: 10}}
- at: 3h10m
  get: talk
  expect: 410
"""


def began(play: Play) -> list[int]:
    """When each request was sent, in milliseconds since the start."""
    return [exchange.at_ms - play.started_ms for exchange in play.exchanges]


def only_failure(play: Play) -> tuple[str, str, str]:
    """Of a play that failed for one reason: the expectation, what was expected and what came."""
    (failed,) = play.failures
    assert play.verdict == "failed"
    return failed.expectation, failed.expected, failed.came
