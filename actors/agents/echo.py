"""An agent that repeats each message: for a first try, and for tests."""

from vigil.actors.agents.base import Reply, Turn


class EchoAgent:
    async def reply(self, turn: Turn) -> Reply:
        turn.say(turn.message.content)
        return Reply(turn.message.content)
