"""The fragment lock: the trainer waits for one chunk at most."""

from __future__ import annotations

import threading

from gossip.mixing.locks import FragmentLock


def test_a_waiting_writer_goes_before_the_readers_next_chunk() -> None:
    """A reader that takes the lock again and again cannot starve the writer."""
    lock = FragmentLock()
    order: list[str] = []
    closed = threading.Event()

    def write() -> None:
        closed.set()
        with lock.writing():
            order.append("write")

    def read_again() -> None:
        with lock.reading():
            order.append("read")

    writer, reader = threading.Thread(target=write), threading.Thread(target=read_again)
    with lock.reading():
        writer.start()
        assert closed.wait(10)
        while not lock._gate.locked():
            assert writer.is_alive()
        reader.start()  # finds the gate closed, though the writer has not begun
    for thread in (writer, reader):
        thread.join(10)
        assert not thread.is_alive()
    assert ["write", "read"] == order
