"""A chat in the terminal. It needs httpx and a server that runs; an empty line ends it.

VIGIL_API_KEY=$(cat vigil-data/api-key) python docs/chat.py
"""

import json
import os

import httpx

SESSIONS = os.environ.get("VIGIL_URL", "http://localhost:3000") + "/api/messaging/sessions"
KEY = {"Authorization": f"Bearer {os.environ['VIGIL_API_KEY']}"}

with httpx.Client(timeout=120) as http:
    created = http.post(SESSIONS, headers=KEY, json={"agentId": "agent-123", "userId": "user-456"})
    session = created.raise_for_status().json()
    http.headers["Authorization"] = f"Bearer {session['sessionToken']}"  # it opens this session alone
    while content := input("you: "):
        event, body = "", {"content": content, "transport": "sse"}
        with http.stream("POST", f"{SESSIONS}/{session['sessionId']}/messages", json=body) as answer:
            for line in answer.raise_for_status().iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    event = value
                elif field == "data" and event == "chunk":  # a piece; `agentResponse` has the whole
                    print(json.loads(value)["text"], end="", flush=True)
                elif field == "data" and event == "error":
                    print("no answer:", json.loads(value)["message"], end="")
        print()
