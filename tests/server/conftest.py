"""What the tests of the server's front share: a small app, a certificate, and the log."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from quart_trio import QuartTrio
from structlog.testing import capture_logs

from tests.server.apps import Gate, gated
from vigil.server.http.listener import Endpoint
from vigil.server.settings.rows import SETTINGS


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def small_app(gate: Gate) -> QuartTrio:
    return gated(gate)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """Every log line of the test, whatever level the other tests are quiet at."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))
    with capture_logs() as lines:
        yield lines
    structlog.configure(**before)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command makes the certificate, and there is none")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    command = [openssl, *new.split(), *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Endpoint:
    return Endpoint(port=0, tls_cert=certificate[0], tls_key=certificate[1])


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of whoever runs the tests; the umask as it was."""
    for row in SETTINGS:
        monkeypatch.delenv(row.env, raising=False)
    umask = os.umask(0o022)
    yield
    os.umask(umask)
