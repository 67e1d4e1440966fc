"""Server-sent events by the WHATWG's text: line ends, fields, the byte order mark, what is no event, and bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measure import examples
from vigil.actors.agents.event_stream import BOM, EventStream, EventTooLong, ServerSentEvent


def read(*chunks: bytes, bytes_max: int = 1000) -> list[ServerSentEvent]:
    stream = EventStream(bytes_max)
    found = [event for chunk in chunks for event in stream.feed(chunk)]
    return [*found, *stream.end()]


def said(*datas: str) -> list[ServerSentEvent]:
    return [ServerSentEvent("message", data) for data in datas]


STREAMS: dict[str, tuple[bytes, list[ServerSentEvent]]] = {
    "nothing": (b"", []),
    "line feeds": (b"data: a\n\ndata: b\n\n", said("a", "b")),
    "carriage returns": (b"data: a\r\rdata: b\r\r", said("a", "b")),
    "both": (b"data: a\r\n\r\ndata: b\r\n\r\n", said("a", "b")),
    "mixed": (b"data: a\r\n\rdata: b\n\r\ndata: c\r\r\n", said("a", "b", "c")),
    "no other ends of lines": (
        "data: a\x0b\x0c\x1c\x85\u2028b\n\n".encode(),
        said("a\x0b\x0c\x1c\x85\u2028b"),
    ),
    "data of several lines": (b"data: a\ndata:\ndata: b\n\n", said("a\n\nb")),
    "one space is left out": (b"data:a\n\ndata:  b \n\ndata:\tc\n\n", said("a", " b ", "\tc")),
    "colons in data": (b"data: a: b:c\n\n", said("a: b:c")),
    "empty data is data": (b"data:\n\ndata\n\n", said("", "")),
    "no data is no event": (b"event: ping\nid: 7\n\n\n\ndata: a\n\n", said("a")),
    "comments": (b": hello\n\n:\ndata: a\n: data: b\n\n", said("a")),
    "a type, for one event": (
        b"event: add\ndata: a\n\ndata: b\n\n",
        [ServerSentEvent("add", "a"), ServerSentEvent("message", "b")],
    ),
    "a type after its data": (b"data: a\nevent:add\n\n", [ServerSentEvent("add", "a")]),
    "the last type counts": (b"event: x\nevent: y\ndata: a\n\n", [ServerSentEvent("y", "a")]),
    "an empty type": (b"event:\ndata: a\n\n", said("a")),
    "unknown fields": (b"id: 1\nretry: 10\nfoo: bar\nDATA: b\n data: c\ndata-x: d\ndata: a\n\n", said("a")),
    "a mark at the start": (BOM + b"data: a\n\ndata: b\n\n", said("a", "b")),
    "a mark before a blank line": (BOM + b"\n\ndata: a\n\n", said("a")),
    "two marks": (BOM + BOM + b"data: a\n\ndata: b\n\n", said("b")),
    "a mark elsewhere": (b"data: a\n\n" + BOM + b"data: b\n\ndata: c" + BOM + b"\n\n", said("a", "c\ufeff")),
    "bytes that are no UTF-8": (b"data: a\xffb\n\n", said("a\ufffdb")),
    "no blank line at the end": (b"data: a\n\ndata: b\n", said("a", "b")),
    "no end of the last line": (b"data: a\n\ndata: b", said("a", "b")),
    "a carriage return as the last": (b"data: a\r", said("a")),
    "half a comment at the end": (b"data: a\n\n: b", said("a")),
    "other bodies": (b"<html>\n<body>hello</body>\n</html>", []),
}


@pytest.mark.parametrize(("body", "events"), STREAMS.values(), ids=STREAMS)
def test_a_stream_gives_its_events_however_it_is_cut(body: bytes, events: list[ServerSentEvent]) -> None:
    assert read(body) == events
    assert read(*(body[n : n + 1] for n in range(len(body)))) == events
    for cut in range(len(body) + 1):
        assert read(body[:cut], b"", body[cut:]) == events


lines = st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=12), max_size=4)


@examples(200)
@given(st.lists(lines.filter(bool), max_size=6), st.sampled_from(["\n", "\r", "\r\n"]), st.data())
def test_what_is_written_as_data_is_read(datas: list[list[str]], end: str, data: st.DataObject) -> None:
    body = "".join("".join(f"data: {line}{end}" for line in one) + end for one in datas).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert read(*chunks) == said(*map("\n".join, datas))


@pytest.mark.parametrize(
    "endless",
    [b"data: aaaaaaaa", b"data: a\n", b"data\n", b": a comment without an end", b"x" * 50],
    ids=["a line", "lines", "empty lines", "a comment", "an unknown field"],
)
def test_an_event_without_an_end_is_refused(endless: bytes) -> None:
    with pytest.raises(EventTooLong):
        read(*[endless] * 1000, bytes_max=100)


def test_events_that_are_short_are_taken_however_many_come() -> None:
    assert read(b"data: aaaaaaaa\n\n: b\n\nid: c\n" * 1000, bytes_max=20) == said(*["aaaaaaaa"] * 1000)
