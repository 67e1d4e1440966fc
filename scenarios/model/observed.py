"""What a client sees of a server: requests as they were sent, answers as they came, and where the two contradict.

Simulated people write these values, the reference model reads them. It knows neither a server nor a rule.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Credential = Literal["key", "token", "other token", "none", "bad"]


class Sent(NamedTuple):
    """One request, at the moment its headers and body are handed to the server."""

    number: int  # 0, 1, 2, ... over the whole run, in sending order
    person: str
    operation: str  # a route's name: createSession, sendMessage, heartbeat, ...
    session: str | None  # the id in the path
    credential: (
        Credential  # an API key with all scopes, the token of that very session, of another, none, a bad one
    )
    at_ms: int  # session time
    body: bytes  # as sent
    query: Mapping[str, str]
    idempotency_key: str | None
    flaw: int | None  # the status (400, 413, 415) that this bad input must get once all earlier checks pass
    message: str | None = None  # the id in the path


class Answered(NamedTuple):
    """The whole answer to one request."""

    at_ms: int  # session time
    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes


class Why(str):
    """Why an answer does not fit; and `expected`, what would have, as far as it is known: the values of `status`,
    `headers.NAME` and `body.PATH`."""

    expected: Mapping[str, Any]

    def __new__(cls, text: str, expected: Mapping[str, Any]) -> "Why":
        why = super().__new__(cls, text)
        why.expected = expected
        return why


class Violation(Exception):
    """The server said or did what the contract forbids."""

    def __init__(self, rule: str, message: str, *requests: int) -> None:
        """`rule` is a short id with its section of the spec (`3 expiry`); `requests` are numbers of `Sent`."""
        super().__init__(rule, message, *requests)
        self.rule = rule
        self.message = message
        self.expected: Mapping[str, Any] = message.expected if isinstance(message, Why) else {}
        self.requests = requests

    def __str__(self) -> str:
        concerned = ", ".join(f"#{number}" for number in self.requests)
        return f"[{self.rule}] {self.message}" + (f" (request {concerned})" if concerned else "")
