"""What a server's refusal means, told from the words of the library that asked."""

from __future__ import annotations

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
