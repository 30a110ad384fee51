"""The order of events: that of one heap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simulations.agenda import Agenda, Event

LATER_S = st.lists(st.lists(st.integers(0, 40) | st.integers(4000, 20000), max_size=4), max_size=30)


@given(LATER_S)
def test_events_come_by_time_then_number_whenever_they_are_asked_for(
    later: list[list[int]],
) -> None:
    """Each event that comes asks for some more, now or later: within its slot, or in others."""
    agenda, waiting, number, now = Agenda(512.0), list[Event](), 0, 0.0
    for steps in [[3, 1, 2], *later]:
        for step in steps:
            number += 1
            event = (now + step / 4000.0, number, 0, None, None)
            agenda.push(event)
            waiting.append(event)
        if agenda.near or agenda.next_slot():
            came = agenda.near.pop()
            assert min(waiting) == came
            waiting.remove(came)
            now = came[0]
    while agenda.near or agenda.next_slot():
        came = agenda.near.pop()
        assert min(waiting) == came
        waiting.remove(came)
    assert not waiting
