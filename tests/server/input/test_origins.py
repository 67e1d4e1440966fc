"""Origins are compared as origins (RFC 6454), however they are written."""

import pytest

from vigil.server.input.origins import of_host, origin


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://chat.example.com:80", "http://chat.example.com"),
        ("https://chat.example.com:443", "https://chat.example.com"),
        ("https://Chat.Example.com", "https://chat.example.com"),
        ("http://chat.example.com:443", "http://chat.example.com:443"),
        ("null", None),
    ],
)
def test_the_usual_port_and_the_case_of_a_host_are_no_difference(written: str, meant: str | None) -> None:
    assert origin(written) == meant


def test_a_host_with_the_usual_port_is_the_same_origin() -> None:
    assert "http://chat.example.com" in of_host("chat.example.com:80")
