"""What a simulated peer begins with: its record, and what it carries. Both follow from the seed."""

from __future__ import annotations

import math
import sys

from gossip.messages import PeerId, Record, Status
from simulations.plan import Plan
from simulations.seeds import derive
from simulations.workload import Body, HollowBody, NoBody, TensorBody

_NO_BODY = NoBody()


def only_dials_out(number: int, share: float) -> bool:
    """Whether nobody can reach this peer, when so large a share of all are like that.

    They are spread evenly over the numbers, those of newcomers too: a half is every other peer.
    Peer 0 can always be reached: everybody is told to ask there.
    """
    return number > 0 and math.floor(number * share) > math.floor((number - 1) * share)


def first_record(plan: Plan, number: int, boot: int) -> Record:
    """The record of a peer as it begins this boot. Its host and addresses stay for life; one that
    only dials out tells no address. Each id is one object in all the tables that name its peer."""
    peer = PeerId(sys.intern(f"{derive(plan.seed, 'id', number):016x}"))
    host = f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
    if only_dials_out(number, plan.dial_out_share):
        return Record(peer, boot, 0, Status.ALIVE, "", "", host)
    return Record(peer, boot, 0, Status.ALIVE, f"{host}:4100", f"{host}:4101", host)


def make_body(plan: Plan, number: int, boot: int) -> Body:
    """The tensors of a trainer, or their sizes, or nothing."""
    exchange = plan.config.exchange
    if not plan.trainers:
        return _NO_BODY
    if plan.task is None:
        return HollowBody(plan.vector_bytes, exchange.fragments, plan.cadence)
    own_seed = derive(plan.seed, "model", number, boot) % (1 << 31)
    model_seed = own_seed if plan.model_seed is None else plan.model_seed
    order_seed = derive(plan.seed, "order")
    return TensorBody(plan.task, model_seed, order_seed, plan.outer, exchange, plan.cadence)
