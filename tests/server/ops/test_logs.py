"""What a log line may say."""

import io
from typing import Literal

import pytest
import structlog

from vigil.server.ops import logs


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_traceback_tells_where_and_what_but_no_values_of_variables(
    log_format: Literal["json", "text"],
) -> None:
    """Among them would be credentials and what people wrote."""
    before = structlog.get_config()
    out = io.StringIO()
    try:
        logs.configure(log_format, "info", out)
        _crash("0123" * 4)
    finally:
        structlog.configure(**before)
    assert "ZeroDivisionError" in out.getvalue()
    assert "_crash" in out.getvalue()
    assert "0123012301230123" not in out.getvalue()


def _crash(credential: str) -> None:
    try:
        assert len(credential) / 0
    except ZeroDivisionError as error:
        structlog.get_logger().error("a request crashed", exc_info=error)


def test_a_log_that_cannot_be_written_is_no_reason_to_fail() -> None:
    before = structlog.get_config()
    full = open("/dev/full", "w")  # noqa: SIM115  closing it fails, like all else
    try:
        logs.configure("json", "info", full)
        structlog.get_logger().info("lost")
    finally:
        structlog.configure(**before)
    with pytest.raises(OSError, match="No space"):
        full.close()
