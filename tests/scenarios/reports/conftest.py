"""The play that most tests of the timeline look at."""

import pytest

from tests.scenarios.playing import played
from vigil.scenarios.play.results import Play

TALK = """
- create: {userId: ana}
  as: talk
- listen: talk
  as: window
- at: 10m
  send: Hello
  device: phone
- at: 20m
  heartbeat: talk
  device: laptop
- at: 51m
  get: talk
  expect: {status: 410, body: {details.reason: inactivity}}
- health:
"""


@pytest.fixture(scope="module")
def talk() -> Play:
    return played(TALK)
