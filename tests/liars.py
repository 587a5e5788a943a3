"""A proxy before a server: some answers are errors, some lie about what was stored."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
TROUBLES = ("error", "slow", "wrong", "less", "short", "")


@contextmanager
def lying(endpoint: str, troubles: Sequence[str] = TROUBLES) -> Iterator[tuple[str, Counter[str]]]:
    """The proxy's endpoint, and how often it did what. For each object's name the troubles come one after the other:

    `error`: 500, `slow`: 503 SlowDown, `wrong`: another byte in what is read, `less`: only half of it, `short`: a body
    that breaks off, ``: none, from then on.
    """
    host = endpoint.removeprefix("http://")
    done: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            key = f"{self.command} {self.path}"
            with lock:
                number = asked[key]
                asked[key] += 1
                trouble = troubles[min(number, len(troubles) - 1)]
                if self.command != "GET" or "?" in self.path:
                    trouble = trouble if trouble in ("error", "slow") else ""
                done[trouble] += 1
            if trouble in ("error", "slow"):
                self.answer(*((500, b"") if trouble == "error" else (503, SLOW_DOWN)), {})
                return
            server = http.client.HTTPConnection(host)
            server.request(self.command, self.path, body, dict(self.headers.items()))
            answer = server.getresponse()
            content = answer.read()
            if trouble == "wrong" and content:
                content = content[:-1] + bytes([content[-1] ^ 1])
            self.answer(answer.status, content, dict(answer.getheaders()), trouble)
            server.close()

        def answer(self, status: int, content: bytes, headers: dict[str, str], trouble: str = "") -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            half = content[: len(content) // 2]
            self.send_header("Content-Length", str(len(half if trouble == "less" else content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(half if trouble in ("less", "short") else content)
            self.close_connection = trouble == "short"

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", done
    finally:
        server.shutdown()
        server.server_close()
