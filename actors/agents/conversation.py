"""What was said in a session, as models are told it. It knows no provider."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from vigil.actors.core.records import Message

Chat = list[dict[str, str]]


def chat(message: Message, earlier: Iterable[Message], characters_max: int) -> Chat:
    """The conversation up to `message`, from `earlier` messages newest first.

    Of those the newest are kept that have `characters_max` together. Neighbours of one author become one message
    and the first is the user's, because many models' templates refuse anything else.
    """
    kept = [message, *_newest(earlier, characters_max)]
    turns = [
        {"role": role, "content": "\n\n".join(one.content for one in together)}
        for role, together in groupby(reversed(kept), key=_role)
    ]
    if turns[0]["role"] == "assistant":
        del turns[0]
    return turns


def with_system(prompt: str | None, turns: Chat) -> Chat:
    """The system prompt as the first message, if there is one."""
    return [{"role": "system", "content": prompt}, *turns] if prompt else turns


def _newest(earlier: Iterable[Message], characters_max: int) -> Iterator[Message]:
    for message in earlier:
        characters_max -= len(message.content)
        if characters_max < 0:
            return
        yield message


def _role(message: Message) -> str:
    return "assistant" if message.is_agent else "user"
