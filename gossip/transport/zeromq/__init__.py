"""Messages over ZeroMQ; the only importer of zmq."""

from gossip.transport.zeromq.sockets import HANDSHAKE_S, generate_run_key
from gossip.transport.zeromq.zeromq import ZeroMQTransport

__all__ = ["HANDSHAKE_S", "ZeroMQTransport", "generate_run_key"]
