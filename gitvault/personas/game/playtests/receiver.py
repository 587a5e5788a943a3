"""A socket for games in any language: a connection is a session, what comes is written down as it comes.

On this machine only. The first line says what the session is (docs/playtests.md); who sends anything else, such as a
web page that found the port, is not listened to.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import socketserver
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from gitvault.personas.game.playtests.recorder import VERSION

PORT = 9247
"""Where clients look for it."""
_FIRST = 1 << 20
_PIECE = 1 << 16


class Receiver:
    """Takes sessions from a socket; each that ended is a file of `ended`. Of a player only `hashed` is written."""

    def __init__(
        self,
        folder: Path,
        port: int,
        about: Callable[[], Mapping[str, Any]],
        hashed: Callable[[str], str],
    ) -> None:
        """`about`: what a session's first line says unless the game does. Raises OSError: the port is taken."""
        self.ended: SimpleQueue[Path] = SimpleQueue()
        self._folder = folder
        self._about = about
        self._hashed = hashed
        self._server = _Server(("127.0.0.1", port), self._handler())
        self.port: int = self._server.server_address[1]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen; at the end sessions that go on are cut off, and are in `ended` too."""
        thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            for connection in list(self._server.connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            # Waits for the threads of the connections.
            self._server.server_close()
            thread.join()

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                # A game that crashes resets its connection; what it sent before is here.
                with suppress(ConnectionError):
                    receiver._receive(self.rfile.readline(_FIRST), self.rfile.read1)

        return Handler

    def _receive(self, first: bytes, read: Callable[[int], bytes]) -> None:
        said = _session(first)
        if said is None:
            return
        who = said.pop("player", "")
        # Whoever sends a hash could pass for somebody else.
        said.pop("player_hash", None)
        document = {**self._about(), **said, **({"player_hash": self._hashed(str(who))} if who else {})}
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{secrets.token_hex(8)}.jsonl"
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb", buffering=0) as written:
            written.write(json.dumps(document, separators=(",", ":")).encode() + b"\n")
            with suppress(ConnectionError):
                while piece := read(_PIECE):
                    written.write(piece)
        self.ended.put(file)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64
    # `server_close` waits for the threads: what they write is whole then.
    daemon_threads = False

    def __init__(self, *arguments: Any) -> None:
        self.connections: set[Any] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        # Before the thread starts, so that none is waited for that nobody can end.
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)


def _session(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and said.get("v") == VERSION else None
