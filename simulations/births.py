"""What a simulated peer begins with: its record, and what it carries. Both follow from the seed."""

from __future__ import annotations

from gossip.messages import PeerId, Record, Status
from simulations.plan import Plan
from simulations.seeds import derive
from simulations.workload import Body, HollowBody, NoBody, TensorBody

_NO_BODY = NoBody()


def first_record(seed: int, number: int, boot: int) -> Record:
    """The record of a peer as it begins this boot. Its host and addresses stay for life."""
    peer = PeerId(f"{derive(seed, 'id', number):016x}")
    host = f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
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
