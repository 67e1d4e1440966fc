"""The operations of spec section 1, written down a second time: what the tests hold the product's own table to."""

from dataclasses import dataclass
from typing import Any

from tests.harness import Answer, Api, only

NEW_SESSION = {"agentId": "silent", "userId": "user-456"}
NOWHERE = "00000000-0000-4000-8000-000000000000"  # a session that never was


@dataclass(frozen=True, eq=False)
class Operation:
    name: str
    method: str
    path: str  # under the base path; {} is a session's id
    scope: str
    status: int
    body: Any = None

    @property
    def names_a_session(self) -> bool:
        return "{}" in self.path

    async def __call__(self, api: Api, session_id: str = "", query: str = "", **more: Any) -> Answer:
        """Perform it, by default as it succeeds."""
        sent = {"body": self.body} if "content" not in more else {}
        return await api.request(self.method, self.path.format(session_id) + query, **{**sent, **more})


CREATE = Operation("create session", "POST", "", "sessions:create", 201, NEW_SESSION)
LIST = Operation("list sessions", "GET", "", "sessions:read", 200)
HEALTH = Operation("health", "GET", "/health", "sessions:health", 200)
GET = Operation("get session", "GET", "/{}", "sessions:read", 200)
END = Operation("end session", "DELETE", "/{}", "sessions:manage", 200)
SEND = Operation("send message", "POST", "/{}/messages", "sessions:write", 201, {"content": "Hello"})
HISTORY = Operation("get messages", "GET", "/{}/messages", "sessions:read", 200)
RENEW = Operation("renew", "POST", "/{}/renew", "sessions:write", 200)
RETIME = Operation("update timeout", "PATCH", "/{}/timeout", "sessions:manage", 200, {"timeoutMinutes": 60})
HEARTBEAT = Operation("heartbeat", "POST", "/{}/heartbeat", "sessions:write", 200)

OPERATIONS = (CREATE, LIST, HEALTH, GET, END, SEND, HISTORY, RENEW, RETIME, HEARTBEAT)
ON_SERVICE = (CREATE, LIST, HEALTH)
ON_SESSION = (GET, END, SEND, HISTORY, RENEW, RETIME, HEARTBEAT)


async def subject(api: Api, operation: Operation) -> str:
    """The id of a new session for an operation that names one, "" for the others."""
    return str((await api.create())["sessionId"]) if operation.names_a_session else ""


def errors(answer: Answer) -> dict[str, str]:
    """Path to message of a 400."""
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR"), answer
    return {problem["path"]: problem["message"] for problem in answer.json["details"]["errors"]}


def key_without(scope: str) -> str:
    """A good API key with another scope."""
    return only("sessions:health" if scope != "sessions:health" else "sessions:read")
