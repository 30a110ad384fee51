"""Between the model's device and phi on the host.

On the host both are a memory copy apart (``DirectStaging``). On an accelerator the copy runs on a
side stream while training goes on (``LaneStaging``): theta is first gathered on the device, which
the trainer's stream waits for, then copied to pinned host memory, which nobody waits for.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, Protocol

import torch
from torch import Tensor

from gossip.mixing.flat import FlatModel

SPARES_MAX: Final = 8
"""Host vectors kept for the next correction; fresh memory is slower than any copy."""


class Ticket(Protocol):
    """A copy under way; ``torch.cuda.Event`` is one."""

    def query(self) -> bool:
        """Whether it is done."""
        ...

    def synchronize(self) -> None:
        """Wait until it is done."""
        ...


class Lane(Protocol):
    """Copies between one device and the host, in the order asked for, beside the training."""

    def host_n(self, elements: int) -> Tensor:
        """Fresh fp32 host memory that the device can copy from and to without a detour."""
        ...

    def copy_out(self, device_N: Tensor, host_N: Tensor) -> Ticket:
        """Start copying to the host, after what the trainer's stream was asked so far."""
        ...

    def copy_in(self, host_n: Tensor) -> Tensor:
        """A copy on the device, usable by whatever the trainer's stream is asked from now on."""
        ...

    def fence(self) -> Ticket:
        """Done when all copies asked for so far are."""
        ...


class Staging(Protocol):
    """How a Replica reaches theta. All but ``take`` and ``give``: trainer's thread only.

    ``takes_any_memory``: ``add_`` is as fast from any host memory as from what ``take`` gives.
    """

    takes_any_memory: bool

    def capture(self) -> None:
        """Begin to read theta as it is now. At most one capture at a time."""
        ...

    def captured(self, wait: bool) -> bool:
        """Whether the capture is complete; with ``wait`` it is."""
        ...

    def read_(self, out_n: Tensor, start: int) -> None:
        """The captured theta from ``start`` on."""
        ...

    def trade(self, phi_N: Tensor) -> Tensor | None:
        """The whole captured theta in exchange for ``phi_N``; None where only ``read_`` works."""
        ...

    def move_(self, z_n: Tensor, start: int) -> None:
        """Let theta from ``start`` on be z, plus what training did since the capture."""
        ...

    def flush(self, elements: int) -> None:
        """Carry out the moves of the first ``elements``."""
        ...

    def add_(self, c_n: Tensor, alpha: float, start: int) -> None:
        """Add ``alpha * c_n`` to theta from ``start`` on."""
        ...

    def replace_(self, from_N: Tensor) -> None:
        """Set theta; a capture under way is forgotten."""
        ...

    def take(self, elements: int) -> Tensor:
        """A host vector with any content, made or reused; any thread."""
        ...

    def give(self, host_n: Tensor) -> None:
        """Take a vector back for reuse, once no copy reads it any more; any thread."""
        ...


class Spares:
    """A bounded pool of host vectors, each with the ticket of the copies that may read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spares: deque[tuple[Tensor, Ticket | None]] = deque(maxlen=SPARES_MAX)

    def take(self, elements: int) -> Tensor | None:
        """A spare of exactly this size that no copy reads, or None."""
        with self._lock:
            for index, (spare_n, ticket) in enumerate(self._spares):
                if spare_n.numel() == elements and (ticket is None or ticket.query()):
                    del self._spares[index]
                    return spare_n
        return None

    def give(self, spare_n: Tensor, ticket: Ticket | None) -> None:
        """Keep a vector; over the limit the oldest is let go."""
        with self._lock:
            self._spares.append((spare_n, ticket))


class DirectStaging:
    """Theta is read and written at once: for models on the host, and devices with no lane."""

    takes_any_memory = True

    def __init__(self, model: FlatModel) -> None:
        self._model = model
        self._spares = Spares()

    def capture(self) -> None:
        """Nothing to begin: ``read_`` reads the live theta."""

    def captured(self, wait: bool) -> bool:  # noqa: ARG002 (the protocol's signature)
        """Always."""
        return True

    def read_(self, out_n: Tensor, start: int) -> None:
        """See Staging."""
        self._model.gather_(out_n, start)

    def trade(self, phi_N: Tensor) -> Tensor | None:  # noqa: ARG002 (the protocol's signature)
        """There is no captured copy to trade."""
        return None

    def move_(self, z_n: Tensor, start: int) -> None:
        """See Staging; nothing was trained since, so theta is z."""
        self._model.scatter_(z_n, start)

    def flush(self, elements: int) -> None:
        """Nothing is held back."""

    def add_(self, c_n: Tensor, alpha: float, start: int) -> None:
        """See Staging."""
        self._model.add_(c_n, alpha, start)

    def replace_(self, from_N: Tensor) -> None:
        """See Staging."""
        self._model.scatter_(from_N)

    def take(self, elements: int) -> Tensor:
        """See Staging."""
        spare_n = self._spares.take(elements)
        return torch.empty(elements) if spare_n is None else spare_n

    def give(self, host_n: Tensor) -> None:
        """See Staging."""
        self._spares.give(host_n, None)


class LaneStaging:
    """Theta is captured and moved through a lane; costs 4 N bytes on the device and the host."""

    takes_any_memory = False

    def __init__(self, model: FlatModel, lane: Lane) -> None:
        self._model = model
        self._lane = lane
        self._device_N = torch.zeros(model.elements, device=model.device)
        self._host_N = lane.host_n(model.elements)
        self._ticket: Ticket | None = None
        self._spares = Spares()

    def capture(self) -> None:
        """See Staging."""
        assert self._ticket is None, "a capture is under way"
        self._model.gather_(self._device_N)
        self._ticket = self._lane.copy_out(self._device_N, self._host_N)

    def captured(self, wait: bool) -> bool:
        """See Staging; the next capture may begin once this was true."""
        if self._ticket is None:
            return True
        if wait:
            self._ticket.synchronize()
        if not self._ticket.query():
            return False
        self._ticket = None
        return True

    def read_(self, out_n: Tensor, start: int) -> None:
        """See Staging."""
        out_n.copy_(self._host_N[start : start + out_n.numel()])

    def trade(self, phi_N: Tensor) -> Tensor | None:
        """See Staging; costs nothing, however large the model."""
        captured_N, self._host_N = self._host_N, phi_N
        return captured_N

    def move_(self, z_n: Tensor, start: int) -> None:
        """See Staging; the difference is kept until ``flush``, as theta has moved on since."""
        held_n = self._host_N[start : start + z_n.numel()]
        torch.sub(z_n, held_n, out=held_n)

    def flush(self, elements: int) -> None:
        """See Staging. The next capture's copy waits in the lane until this one is read."""
        self._model.add_(self._lane.copy_in(self._host_N[:elements]), 1.0)

    def add_(self, c_n: Tensor, alpha: float, start: int) -> None:
        """See Staging."""
        self._model.add_(self._lane.copy_in(c_n), alpha, start)

    def replace_(self, from_N: Tensor) -> None:
        """See Staging. Waits for the copy, so that the caller may reuse ``from_N``."""
        self._ticket = None
        self._model.scatter_(self._lane.copy_in(from_N))
        self._lane.fence().synchronize()

    def take(self, elements: int) -> Tensor:
        """See Staging."""
        spare_n = self._spares.take(elements)
        return self._lane.host_n(elements) if spare_n is None else spare_n

    def give(self, host_n: Tensor) -> None:
        """See Staging."""
        self._spares.give(host_n, self._lane.fence())


class CudaLane:
    """A side stream of one CUDA device and pinned host memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def host_n(self, elements: int) -> Tensor:
        """See Lane."""
        return torch.empty(elements, pin_memory=True)

    def copy_out(self, device_N: Tensor, host_N: Tensor) -> Ticket:
        """See Lane."""
        self._side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._side):
            host_N.copy_(device_N, non_blocking=True)
        return self.fence()

    def copy_in(self, host_n: Tensor) -> Tensor:
        """See Lane."""
        with torch.cuda.stream(self._side):
            copy_n = host_n.to(self._device, non_blocking=True)
        trainer = torch.cuda.current_stream(self._device)
        trainer.wait_stream(self._side)
        # The allocator must not hand this memory to the side stream while the trainer's reads it.
        copy_n.record_stream(trainer)
        return copy_n

    def fence(self) -> Ticket:
        """See Lane."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        event.record(self._side)
        return event


def make_staging(model: FlatModel) -> Staging:
    """The staging for the model's device."""
    if model.device.type == "cuda":
        return LaneStaging(model, CudaLane(model.device))
    return DirectStaging(model)
