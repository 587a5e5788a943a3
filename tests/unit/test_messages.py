"""What a worker is told, and what becomes of it where one end is gone."""

from __future__ import annotations

import io

import pytest

from gitvault.core.utils import messages
from gitvault.core.utils.process import start_python


def test_messages_come_one_by_one_until_the_other_side_ends() -> None:
    pipe = io.BytesIO()
    said: list[object] = [("a", 1), [], None, {b"x": 2}]
    for message in said:
        messages.send(pipe, message)
    pipe.seek(0)
    assert [messages.receive(pipe) for _ in said] == said
    assert messages.receive(pipe) is None
    assert messages.receive(io.BytesIO(pipe.getvalue()[:5])) is None


def test_a_worker_that_is_gone_is_no_error_for_who_tells_it() -> None:
    worker = start_python("this")
    assert worker.stdout
    worker.stdout.read()
    messages.tell(worker, bytes(1 << 20))
    with pytest.raises(BrokenPipeError):
        messages.send(worker.stdin, bytes(1 << 20))  # type: ignore[arg-type]
    messages.finish(worker)
    assert worker.returncode == 0
    worker.stdout.close()
