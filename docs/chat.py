"""A chat in the terminal. It needs httpx and a server that runs; an empty line or Ctrl-D ends it.

VIGIL_API_KEY=$(cat vigil-data/api-key) python docs/chat.py
"""

import json
import os
import sys

import httpx

SESSIONS = os.environ.get("VIGIL_URL", "http://localhost:3000") + "/api/messaging/sessions"


def chat(http: httpx.Client) -> None:
    created = http.post(SESSIONS, json={"agentId": "agent-123", "userId": "user-456"})
    session = said(created).json()
    http.headers["Authorization"] = f"Bearer {session['sessionToken']}"  # it opens this session alone
    while content := input("you: "):
        event, body = "", {"content": content, "transport": "sse"}
        with http.stream("POST", f"{SESSIONS}/{session['sessionId']}/messages", json=body) as answer:
            for line in said(answer).iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    event = value
                elif field == "data" and event == "chunk":  # a piece; `agentResponse` has the whole
                    print(json.loads(value)["text"], end="", flush=True)
                elif field == "data" and event == "error":
                    print("no answer:", json.loads(value)["message"], end="")
        print()


def said(answer: httpx.Response) -> httpx.Response:
    """The same answer, if it is a good one; else the chat ends with what the server says."""
    if answer.is_error:
        sys.exit(f"{answer.status_code}: {json.loads(answer.read())['message']}")
    return answer


if __name__ == "__main__":
    key = os.environ.get("VIGIL_API_KEY") or sys.exit("Set VIGIL_API_KEY to an API key of the server")
    try:
        with httpx.Client(timeout=120, headers={"Authorization": f"Bearer {key}"}) as client:
            chat(client)
    except EOFError:
        print()
    except KeyboardInterrupt:
        sys.exit(130)
    except (httpx.HTTPError, ValueError) as error:  # an address that is none, another server's answer
        sys.exit(f"{SESSIONS}: {error}")
