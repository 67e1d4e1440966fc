"""What a chat-completions server says, and an agent of the kind openai that must fail."""

from typing import Any

import pytest
import trio

from tests.actors.agents.talk import Talk
from vigil.actors.agents.base import Agent
from vigil.actors.core.errors import AgentFailed, AgentTimedOut

KEY = "sk-do-not-show-0123456789"
MIB = 1024 * 1024


def piece(text: str | None, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def completion(text: str | None) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


HELLO = (piece("Hel"), piece("lo"), piece(None, "stop"), "[DONE]")


async def fails(agent: Agent, talk: Talk | None = None) -> str:
    """What a client is told. Nothing here may wait for a time-out."""
    with pytest.raises(AgentFailed) as failure, trio.fail_after(60):
        await agent.reply((talk or Talk("Hi")).turn)
    assert not isinstance(failure.value, AgentTimedOut)
    return str(failure.value)
