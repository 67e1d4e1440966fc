"""What OpenAI-compatible servers send as an answer, and what it means: the text and why it ends, or a failure."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, Reply
from vigil.actors.agents.completion import Completion
from vigil.actors.agents.config import RemoteConfig
from vigil.actors.agents.providers.grammar import Body
from vigil.actors.agents.remote import ANSWER_BYTES_MAX, Remote
from vigil.actors.core.errors import AgentFailed

DONE = "data: [DONE]\n\n"


def delta(content: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """One chunk; `more` are fields of its choice."""
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish, **more}]}


def whole(content: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"object": "chat.completion", "choices": [{"message": message, "finish_reason": finish, **more}]}


def stream(*chunks: Any) -> str:
    return "".join(f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in chunks)


GOOD = stream(delta("Good "), delta("day"), delta("", "stop"), "[DONE]")

# --- the answer, and why it ends

ENDS: dict[str, str] = {
    "a reason, then done": GOOD,
    "a reason with the last piece": stream(delta("Good "), delta("day", "stop"), "[DONE]"),
    "a reason with each piece": stream(delta("Good ", "stop"), delta("day", "stop"), "[DONE]"),
    "a reason too early": stream(delta("Good ", "stop"), delta("day"), "[DONE]"),
    "a reason in a chunk of its own": stream(
        delta("Good day"), {"choices": [{"finish_reason": "stop"}]}, "[DONE]"
    ),
    "a reason, and no done": stream(delta("Good "), delta("day"), delta(None, "stop")),
    "done, and no reason": stream(delta("Good "), delta("day"), "[DONE]"),
    "done without a line end": stream(delta("Good day", "stop")) + "data: [DONE]",
    "the last piece without a line end": stream(delta("Good ")) + f"data: {json.dumps(delta('day', 'stop'))}",
    "done with spaces": stream(delta("Good day")) + "data:   [DONE]  \n\n",
    "anything after done": GOOD + stream(delta(" not this"), {"error": "too late"}, "garbage"),
    "a reason that is a text for none": stream(delta("Good ", "null"), delta("day", "null"), "[DONE]"),
    "a reason that is empty": stream(delta("Good ", ""), delta("day", ""), "[DONE]"),
    "a reason that is false": stream(delta("Good ", False), delta("day", 0), "[DONE]"),
    "a reason that is a number": stream(delta("Good "), delta("day", 1)),
    "a reason of its own": stream(delta("Good "), delta("day", "eos_token")),
    "a reason that is an object": stream(delta("Good "), delta("day", {"type": "stop", "matched": 2})),
    "tools that nobody offered": stream(delta("Good day"), delta(None, "tool_calls"), "[DONE]"),
}
PASSED_OVER: dict[str, str] = {
    "a comment": ": processing\n\n",
    "an event without data": "event: ping\n\n",
    "a ping": 'event: ping\ndata: {"type": "ping"}\n\n',
    "a ping in words": "event: keep-alive\ndata: still here\n\n",
    "an empty event": "data:\n\ndata:  \n\n",
    "an empty object": stream({}),
    "an object of another kind": stream({"object": "ping", "id": "x"}),
    "other JSON": stream("null", "[]", '"hello"', "17", "true"),
    "no choices": stream({"choices": []}, {"choices": None}, {"choices": {}}, {"choices": "none"}),
    "choices that are none": stream({"choices": [None]}, {"choices": ["x", 3]}, {"choices": [[]]}),
    "choices that say nothing": stream({"choices": [{}]}, {"choices": [{"index": 0, "delta": None}]}),
    "a delta that is none": stream({"choices": [{"delta": "x"}]}, {"choices": [{"delta": []}]}),
    "content that is none": stream(delta(None), delta(""), delta([]), delta({}), delta(False)),
    "usage figures": stream({"choices": [], "usage": {"total_tokens": 3}}, {"usage": None}),
    "verdicts of a filter": stream({"choices": [], "prompt_filter_results": [{"index": 0}]}),
    "the role": stream({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}),
    "calls of tools": stream({"choices": [{"delta": {"content": None, "tool_calls": [{"index": 0}]}}]}),
    "reasoning": stream(
        {"choices": [{"delta": {"reasoning_content": "hm", "reasoning": "hm", "content": None}}]}
    ),
    "reasoning in parts": stream(delta([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}])),
    "other choices": stream(
        {"choices": [{"index": 1, "delta": {"content": "Bad"}, "finish_reason": "length"}]},
        {"choices": [{"index": 2, "error": "boom", "delta": {"content": "worse"}}]},
    ),
    "no error": stream({"error": None}, {"error": False}, {"error": ""}, {"error": {}}, {"error": []}),
    "no error of a choice": stream(delta(None, error=None), delta(None, error={}), delta(None, error=False)),
    "other events": "event: metadata\nid: 3\nretry: 10\ndata: {}\n\n",
    "a key twice": 'data: {"id": 1, "id": 1, "choices": [{"delta": {}, "delta": {}}]}\n\n',
    "infinite figures": 'data: {"choices": [{"delta": {}, "logprobs": {"x": -Infinity, "y": NaN}}]}\n\n',
    "half a character elsewhere": 'data: {"choices": [{"logprobs": {"token": "\\ud83d"}}]}\n\n',
}
SHAPES: dict[str, str] = {
    "no space after the colon": GOOD.replace("data: ", "data:"),
    "carriage returns": GOOD.replace("\n", "\r"),
    "both ends of lines": GOOD.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + GOOD,
    "blank lines first": "\n\r\n \n" + GOOD,
    "a mark after blank lines": "\n\n\ufeff" + GOOD,
    "typed events": GOOD.replace("data: {", "event: message\nid: 1\nretry: 10\ndata: {"),
    "events of another type": GOOD.replace("data: {", "event: chunk\ndata: {"),
    "data over several lines": GOOD.replace('"delta":', '\ndata: "delta":\ndata:'),
    "content in typed parts": stream(
        delta([{"type": "text", "text": "Good "}, {"type": "image_url", "image_url": {"url": "x"}}]),
        delta([{"type": "output_text", "text": "d"}, "a", {"text": "y"}]),
        "[DONE]",
    ),
    "content in one part": stream(delta({"type": "text", "text": "Good day"}, "stop")),
    "an index of its kind": stream(delta("Good ", index="0"), delta("day", index=0.0), "[DONE]"),
    "no index": stream(
        {"choices": [{"delta": {"content": "Good day"}}, {"delta": {"content": "Bad"}}]}, "[DONE]"
    ),
    "choices in any order": stream(
        {
            "choices": [
                {"index": 1, "delta": {"content": "Bad"}},
                {"index": 0, "delta": {"content": "Good day"}},
            ]
        },
        "[DONE]",
    ),
    "one completion": json.dumps(whole("Good day")),
    "one completion over lines": "\ufeff\n" + json.dumps(whole("Good day"), indent=2) + "\n",
    "one completion without a reason": json.dumps(whole("Good day", None)),
    "one completion in parts": json.dumps(whole([{"type": "text", "text": "Good day"}])),
    "one completion with no error": json.dumps(whole("Good day") | {"error": None}),
    "one completion as an event": stream(whole("Good day")),
    "the whole once more at the end": stream(
        delta("Good "), delta("day", "stop"), whole("Good day"), "[DONE]"
    ),
    "pieces as messages": stream(whole("Good ", None), whole("day", None), "[DONE]"),
}
CUT: dict[str, tuple[str, Reply]] = {
    "by its length": (stream(delta("Good"), delta("", "length"), "[DONE]"), Reply("Good", "{}", "length")),
    "by a filter": (
        stream(delta("Good"), delta("", "content_filter")),
        Reply("Good", "{}", "content_filter"),
    ),
    "at its length, as one completion": (json.dumps(whole("Good", "length")), Reply("Good", "{}", "length")),
    "the last reason counts": (
        stream(delta("Good", "stop"), delta(" d", "stop"), delta(None, "length"), delta(None), "[DONE]"),
        Reply("Good d", "{}", "length"),
    ),
    "a later chunk says nothing of it": (
        stream(delta("Good", "length"), delta(None, None), {"choices": []}, "[DONE]"),
        Reply("Good", "{}", "length"),
    ),
}
ANSWERS: dict[str, tuple[str, Reply]] = {
    **{f"ends: {name}": (body, Reply("Good day")) for name, body in ENDS.items()},
    **{
        f"passed over: {name}": (noise + stream(delta("Good ")) + noise + stream(delta("day", "stop")) + noise + DONE,
                                 Reply("Good day"))
        for name, noise in PASSED_OVER.items()
    },
    **{f"shape: {name}": (body, Reply("Good day")) for name, body in SHAPES.items()},
    **{f"cut: {name}": value for name, value in CUT.items()},
}  # fmt: skip

# --- failures

HALF = stream(delta("Good ", "stop"))
FAILURES: dict[str, tuple[str, str]] = {
    "nothing": ("", "broke off"),
    "blanks": (" \n\n\r\n", "broke off"),
    "half a mark": ("\u00ef", "broke off"),
    "done at once": (DONE, "empty answer"),
    "nothing but a reason": (stream(delta("", "content_filter"), "[DONE]"), "empty answer"),
    "nothing but reasoning": (stream({"choices": [{"delta": {"reasoning": "hm"}}]}, "[DONE]"), "empty answer"),
    "nothing of choice 0": (
        stream({"choices": [{"index": 1, "delta": {"content": "Hi"}}]}, "[DONE]"),
        "empty answer",
    ),
    "no end": (stream(delta("Good "), delta("day")), "broke off"),
    "no reason but another choice's": (
        stream(delta("Good "), {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}),
        "broke off",
    ),
    "half a piece": (HALF + 'data: {"choices": [{"delta": {"content": "da', "not JSON"),
    "an error": (HALF + stream({"error": {"message": "overloaded", "code": 502}}), "reported an error"),
    "an error as text": (HALF + stream({"error": "boom"}, "[DONE]"), "reported an error"),
    "an error as a flag": (HALF + stream({"error": True, "message": "boom"}, "[DONE]"), "reported an error"),
    "an error beside choices": (HALF + stream(delta("day") | {"error": {"code": 502}}), "reported an error"),
    "an error in the choice": (HALF + stream(delta("day", error={"code": 502}), "[DONE]"), "reported an error"),
    "an error in the delta": (
        HALF + stream({"choices": [{"delta": {"content": "", "error": "boom"}}]}, "[DONE]"),
        "reported an error",
    ),
    "an error as a reason": (HALF + stream(delta("", "error"), "[DONE]"), "reported an error"),
    "an object that is an error": (
        HALF + stream({"object": "error", "message": "boom", "code": 400}, "[DONE]"),
        "reported an error",
    ),
    "an error by its type": (HALF + stream({"type": "error", "message": "x"}, "[DONE]"), "reported an error"),
    "an error event": (HALF + 'event: error\ndata: {"message": "overloaded"}\n\n' + DONE, "reported an error"),
    "an error event in words": (HALF + "event: error\ndata: overloaded\n\n" + DONE, "reported an error"),
    "an error event without words": (HALF + "event: error\ndata:\n\n" + DONE, "reported an error"),
    "an error in an event of another type": (
        HALF + 'event: status\ndata: {"error": "boom"}\n\n' + DONE,
        "reported an error",
    ),
    "words": (HALF + stream("upstream went away", "[DONE]"), "not JSON"),
    "half an event of another type": (HALF + "event: chunk\ndata: {\n\n" + DONE, "not JSON"),
    "a piece that is a number": (HALF + stream(delta(7), "[DONE]"), "no text"),
    "a part that is a number": (HALF + stream(delta([{"type": "text", "text": 7}]), "[DONE]"), "no text"),
    "half a character": (HALF + stream(delta("\ud83d"), "[DONE]"), "no text"),
    "too much": (stream(delta("x" * ANSWER_CHARACTERS_MAX), delta("y", "stop")), "too long"),
    "an endless event": ("data: " + "x" * ANSWER_BYTES_MAX, "a line without an end"),
    "one error": (json.dumps({"error": {"message": "boom"}}), "reported an error"),
    "one error in the choice": (json.dumps(whole("Good", error="boom")), "reported an error"),
    "one error in the message": (
        json.dumps({"choices": [{"message": {"content": "Good", "error": "boom"}}]}),
        "reported an error",
    ),
    "one object of another kind": (json.dumps({"detail": "Good"}), "no chat completion"),
    "one completion cut in half": (json.dumps(whole("Good day"))[:-10], "not JSON"),
    "two completions": (json.dumps(whole("Good")) + "\n" + json.dumps(whole("day")), "not JSON"),
    "one endless object": ("{" + " " * ANSWER_BYTES_MAX, "too long"),
    "a page": ("<html>Good day</html>", "broke off"),
}  # fmt: skip


@pytest.fixture
def far() -> Remote:
    return Remote(RemoteConfig(id="helper", kind="openai"), "http://127.0.0.1:1", secret=None)


def read(far: Remote, chunks: Iterator[bytes]) -> tuple[Reply, list[str]]:
    said: list[str] = []
    completion = Body(far, Completion(far, said.append))
    for chunk in chunks:
        if completion.feed(chunk):
            break
    return completion.end(), said


def chunks(body: bytes, size: int) -> Iterator[bytes]:
    return (body[n : n + size] for n in range(0, len(body), size))


@pytest.mark.parametrize(("body", "reply"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_what_choice_0_says_until_the_end(far: Remote, body: str, reply: Reply) -> None:
    for size in (1, 7, 100_000):
        answer, said = read(far, chunks(body.encode(), size))
        assert answer == reply
        assert "".join(said) == reply.content


@pytest.mark.parametrize(("body", "told"), FAILURES.values(), ids=FAILURES)
def test_what_reports_an_error_or_does_not_end_fails(far: Remote, body: str, told: str) -> None:
    raw = body.encode("utf-8", "surrogatepass")
    for size in (1 if len(raw) < 10_000 else 4096, 1_000_000):
        with pytest.raises(AgentFailed, match=told):
            read(far, chunks(raw, size))


def test_a_finish_reason_is_no_end_and_done_is_one(far: Remote) -> None:
    completion = Body(far, Completion(far, lambda _piece: None))
    assert not completion.feed(stream(delta("Good", "stop")).encode())
    assert not completion.is_done
    assert completion.feed(DONE.encode())
    assert completion.is_done
