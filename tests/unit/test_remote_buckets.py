"""What a server's refusal means, told from the words of the library that asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from gitvault.errors import RemoteError, RemoteFull, RemoteRefused, RemoteUnreachable
from gitvault.remotes.places.buckets import Bucket

exceptions = pytest.importorskip("obstore.exceptions")

ASKED = (
    "Generic S3 error: Error performing PUT http://127.0.0.1:9403/b/x in {} - Server returned non-2xx status code: {}:"
)


@pytest.mark.parametrize(
    ("took", "status", "kind"),
    [
        ("1.2ms", "401 Unauthorized", RemoteRefused),
        ("1.2ms", "403 Forbidden", RemoteRefused),
        ("1.2ms", "507 Insufficient Storage", RemoteFull),
        ("1.2ms", "503 Service Unavailable", RemoteUnreachable),
        # How long it took is no status.
        ("403.1ms", "500 Internal Server Error", RemoteUnreachable),
        ("507.25ms", "500 Internal Server Error", RemoteUnreachable),
    ],
)
def test_a_status_is_told_from_any_other_number(
    monkeypatch: pytest.MonkeyPatch, took: str, status: str, kind: type[RemoteError]
) -> None:
    place = Bucket("s3", "bucket", "a", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x"})

    def fail(*_: object, **__: object) -> None:
        raise exceptions.GenericError(ASKED.format(took, status))

    monkeypatch.setattr("obstore.put", fail)
    with pytest.raises(kind):
        place.put("x", b"content")


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """The endpoint of a server that answers everything with that error, as S3 says it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said so</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "kind", "sentence"),
    [
        (403, "RequestTimeTooSkewed", RemoteRefused, "this machine's clock is wrong"),
        (400, "ExpiredToken", RemoteRefused, "the credentials have expired"),
        (403, "QuotaExceeded", RemoteFull, "the quota is reached"),
        (507, "InsufficientStorage", RemoteFull, "no room left"),
        (403, "AccessDenied", RemoteRefused, "access denied"),
        (503, "SlowDown", RemoteUnreachable, "fewer requests"),
    ],
)
def test_what_a_server_says_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, kind: type[Exception], sentence: str
) -> None:
    """Over a real connection: what a server of ours cannot be brought to say."""
    for key, value in (
        ("ACCESS_KEY_ID", "me"),
        ("SECRET_ACCESS_KEY", "SECRET"),
        ("REGION", "x"),
        ("ALLOW_HTTP", "true"),
    ):
        monkeypatch.setenv(f"AWS_{key}", value)
    with answering(status, code) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(kind, match=sentence) as raised:
            Bucket("s3", "bucket", "", os.environ).put("a/b", b"12345")
    assert "SECRET" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_credentials_or_an_account_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(key)
    with pytest.raises(RemoteRefused, match="no account is named; set AZURE_STORAGE_ACCOUNT_NAME"):
        Bucket("az", "container", "", os.environ).get("a")
    # What obstore says on a machine that is not in the cloud, where asking would take as long as it likes.
    text = "Error performing PUT http://169.254.169.254/latest/api/token in 1s - Server returned status code: 403"
    said = Bucket("s3", "bucket", "", {"AWS_REGION": "x"})._error(ValueError(text))
    assert str(said).endswith("no credentials are found; give them as that store's own programs want them")
