"""What providers send as an answer, whole and broken, and what it means: the text and why it ends, or a failure."""

import json
from typing import Any

import pytest

from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, Reply
from vigil.actors.agents.config import RemoteConfig
from vigil.actors.agents.providers.anthropic import AnthropicConfig
from vigil.actors.agents.providers.gemini import GeminiConfig
from vigil.actors.agents.providers.grammar import Body
from vigil.actors.agents.providers.model import ModelConfig
from vigil.actors.agents.providers.ollama import OllamaConfig
from vigil.actors.agents.providers.responses import ResponsesConfig
from vigil.actors.agents.remote import ANSWER_BYTES_MAX, Remote
from vigil.actors.core.errors import AgentFailed

KINDS: dict[str, type[ModelConfig]] = {
    "anthropic": AnthropicConfig,
    "responses": ResponsesConfig,
    "gemini": GeminiConfig,
    "ollama": OllamaConfig,
}


def typed(*events: dict[str, Any]) -> str:
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)


def plain(*events: Any) -> str:
    return "".join(f"data: {json.dumps(one)}\n\n" for one in events)


def lines(*events: Any) -> str:
    return "".join(f"{json.dumps(one)}\n" for one in events)


# --- a piece, an end with a reason, and one whole answer, of each provider


def a_piece(text: Any) -> str:
    delta = {"type": "text_delta", "text": text}
    return typed({"type": "content_block_delta", "index": 0, "delta": delta})


def a_end(reason: Any) -> str:
    return a_reason(reason) + typed({"type": "message_stop"})


def a_reason(reason: Any) -> str:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return typed({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}})


def a_whole(text: str, reason: str) -> str:
    blocks = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}]
    return json.dumps({"type": "message", "role": "assistant", "content": blocks, "stop_reason": reason})


def r_piece(text: Any) -> str:
    return typed({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text})


def r_response(status: str, text: str = "", reason: str | None = None) -> dict[str, Any]:
    output = [{"type": "message", "content": [{"type": "output_text", "text": text}]}] if text else []
    details = {"reason": reason} if reason else None
    return {
        "object": "response",
        "status": status,
        "error": None,
        "incomplete_details": details,
        "output": output,
    }


def r_end(reason: str | None) -> str:
    status = "incomplete" if reason else "completed"
    return typed({"type": f"response.{status}", "response": r_response(status, "Good day", reason)})


def g_piece(text: Any, reason: Any = None) -> str:
    parts = [{"text": text}] if text is not None else []
    content = {"role": "model", "parts": parts}
    return plain({"candidates": [{"content": content, "finishReason": reason, "index": 0}]})


def o_piece(text: Any) -> str:
    return lines({"model": "tiny", "message": {"role": "assistant", "content": text}, "done": False})


def o_end(reason: Any = "stop") -> str:
    message = {"role": "assistant", "content": ""}
    return lines({"model": "tiny", "message": message, "done": True, "done_reason": reason, "eval_count": 3})


PIECES = {"anthropic": a_piece, "responses": r_piece, "gemini": g_piece, "ollama": o_piece}
ENDS = {
    "anthropic": a_end("end_turn"),
    "responses": r_end(None),
    "gemini": g_piece(None, "STOP"),
    "ollama": o_end(),
}
ERROR = {"error": {"message": "overloaded", "code": 503}}
ERRORS = {kind: [plain(ERROR), plain({"error": "boom"})] for kind in KINDS}
ERRORS["anthropic"] += [
    typed({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    "event: error\ndata: overloaded\n\n",
]
ERRORS["responses"] += [
    typed({"type": "error", "code": "server_error", "message": "x", "param": None}),
    typed({"type": "response.failed", "response": r_response("failed") | ERROR}),
    typed({"type": "response.completed", "response": r_response("completed") | ERROR}),
    typed({"type": "response.completed", "response": r_response("failed")}),
]
ERRORS["gemini"] += [plain([ERROR]), plain({"promptFeedback": {"blockReason": "SAFETY"}})]
ERRORS["ollama"] = [lines({"error": "an error was encountered"}), lines(ERROR)]
NOISE = {
    "anthropic": [
        typed({"type": "message_start", "message": {"content": [], "stop_reason": None, "usage": {}}}),
        typed({"type": "ping"}),
        typed({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        typed({"type": "content_block_stop", "index": 0}),
        typed({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        typed({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}}),
        typed({"type": "an_event_of_tomorrow", "text": "Bad"}),
        plain({"error": None}, None, [], 17, "text"),
    ],
    "responses": [
        typed({"type": "response.created", "response": r_response("in_progress")}),
        typed({"type": "response.in_progress", "response": r_response("in_progress")}),
        typed({"type": "response.output_item.added", "item": {"type": "message", "content": []}}),
        typed({"type": "response.output_text.done", "text": "Good day"}),
        typed({"type": "response.reasoning_summary_text.delta", "delta": "hm"}),
        typed({"type": "response.function_call_arguments.delta", "delta": "{"}),
    ],
    "gemini": [
        plain({"usageMetadata": {"promptTokenCount": 3}, "modelVersion": "x"}, {"promptFeedback": {}}),
        plain({"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]}),
        plain(
            {"candidates": [{"index": 1, "content": {"parts": [{"text": "Bad"}]}, "finishReason": "STOP"}]}
        ),
        plain({"candidates": []}, {"candidates": None}, {"candidates": [None, {}]}),
        plain({"candidates": [{"content": {"parts": [{"functionCall": {"name": "x"}}]}}]}),
    ],
    "ollama": [
        lines({"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False}),
        lines({"model": "tiny"}, {"message": None}, {}),
        "\n\r\n",
    ],
}
SSE_NOISE = [": keep-alive\n\n", "event: ping\ndata: still here\n\n", "data:\n\n", "id: 1\nretry: 10\n\n"]
WHOLE = {
    "anthropic": a_whole("Good day", "end_turn"),
    "responses": json.dumps(r_response("completed", "Good day"), indent=2),
    "gemini": json.dumps({"candidates": [{"content": {"parts": [{"text": "Good day"}]}, "finishReason": "STOP"}]}),
    "ollama": lines({"message": {"content": "Good day"}, "done": True})[:-1],
}  # fmt: skip
CUT = [
    ("anthropic", a_piece("Good") + a_end("max_tokens"), "length"),
    ("anthropic", a_piece("Good") + a_end("model_context_window_exceeded"), "length"),
    ("anthropic", a_piece("Good") + a_end("refusal"), "content_filter"),
    ("anthropic", a_piece("Good") + a_end("stop_sequence"), "stop"),
    ("anthropic", a_piece("Good") + a_end({"odd": 1}), "stop"),
    ("anthropic", a_whole("Good", "max_tokens"), "length"),
    ("responses", r_piece("Good") + r_end("max_output_tokens"), "length"),
    ("responses", r_piece("Good") + r_end("content_filter"), "content_filter"),
    (
        "responses",
        typed({"type": "response.refusal.delta", "delta": "Good"}) + r_end(None),
        "content_filter",
    ),
    ("gemini", g_piece("Good", "MAX_TOKENS"), "length"),
    ("gemini", g_piece("Go", "STOP") + g_piece("od", "MAX_TOKENS"), "length"),
    ("gemini", g_piece("Good", "SAFETY"), "content_filter"),
    ("gemini", g_piece("Good", "OTHER"), "stop"),
    ("ollama", o_piece("Good") + o_end("length"), "length"),
    ("ollama", o_piece("Good") + o_end("load"), "stop"),
    ("ollama", o_piece("Good") + o_end(None), "stop"),
]


@pytest.fixture
def far() -> Remote:
    return Remote(RemoteConfig(id="helper", kind="x"), "http://127.0.0.1:1", secret=None)


def read(far: Remote, kind: str, raw: bytes, size: int = 1_000_000) -> tuple[Reply, str]:
    said: list[str] = []
    protocol = KINDS[kind].PROTOCOL
    body = Body(far, protocol.grammar(far, said.append), is_lines=protocol.is_lines)
    for start in range(0, len(raw), size):
        if body.feed(raw[start : start + size]):
            break
    return body.end(), "".join(said)


def good_day(kind: str, noise: str = "") -> str:
    return noise + PIECES[kind]("Good ") + noise + PIECES[kind]("day") + noise + ENDS[kind]


def shapes(kind: str) -> list[str]:
    good = good_day(kind)
    end_lost = good.rstrip("\n")
    marks = ["\ufeff" + good, "\n\n \n" + good, good.replace("\n", "\r\n"), end_lost]
    if kind == "ollama":
        return marks
    return [*marks, good.replace("\n", "\r"), good.replace("data: ", "data:"), good + "data: [DONE]\n\n"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_its_pieces_however_it_is_framed_and_whatever_says_nothing(
    far: Remote, kind: str
) -> None:
    noises = NOISE[kind] + ([] if kind == "ollama" else SSE_NOISE)
    bodies = [*shapes(kind), *(good_day(kind, noise) for noise in noises), WHOLE[kind]]
    for body in bodies:
        for size in (1, 7, 100_000):
            assert read(far, kind, body.encode(), size) == (Reply("Good day"), "Good day"), body


@pytest.mark.parametrize(("kind", "body", "reason"), CUT)
def test_why_an_answer_ends_is_told_in_the_contracts_words(
    far: Remote, kind: str, body: str, reason: str
) -> None:
    reply, _ = read(far, kind, body.encode())
    assert (reply.content, reply.finish_reason) == ("Good", reason)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_fails_the_answer_wherever_it_stands(far: Remote, kind: str) -> None:
    piece, end = PIECES[kind]("Good "), ENDS[kind]
    for error in ERRORS[kind]:
        for body in (error, error + piece + end, piece + error, piece + error + end, piece + piece + error):
            for size in (1, 100_000):
                with pytest.raises(AgentFailed, match=r"reported an error|refused the message"):
                    read(far, kind, body.encode(), size)


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_end_as_its_protocol_says_or_cannot_be_read_has_failed(far: Remote, kind: str) -> None:
    piece, end = PIECES[kind], ENDS[kind]
    broken = [
        ("", "broke off"),
        (" \n\n", "broke off"),
        (piece("Good "), "broke off"),
        (piece("Good ") + piece("day")[:-10], "not JSON"),
        (end.replace("Good day", ""), "empty answer"),
        (piece(7) + end, "no text"),
        (piece("\ud83d") + end, "no text"),
        (piece("x" * ANSWER_CHARACTERS_MAX) + piece("y") + end, "too long"),
        ("<html>Good day</html>", "broke off"),
        (WHOLE[kind][:-5], "not JSON"),
        ("{" + " " * ANSWER_BYTES_MAX, "too long"),
        ("data: " + "x" * ANSWER_BYTES_MAX, "without an end"),
    ]
    if kind != "ollama":
        broken.append((piece("Good ") + "data: upstream went away\n\n" + end, "not JSON"))
    for body, told in broken:
        with pytest.raises(AgentFailed, match=told):
            read(far, kind, body.encode("utf-8", "surrogatepass"), 4096)


def test_a_stop_reason_alone_does_not_end_anthropics_answer(far: Remote) -> None:
    with pytest.raises(AgentFailed, match="broke off"):
        read(far, "anthropic", (a_piece("Good ") + a_reason("end_turn")).encode())


@pytest.mark.parametrize("kind", ["anthropic", "responses", "ollama"])
def test_after_its_end_nothing_counts(far: Remote, kind: str) -> None:
    body = good_day(kind) + PIECES[kind]("not this") + ERRORS[kind][0]
    assert read(far, kind, body.encode())[0] == Reply("Good day")
