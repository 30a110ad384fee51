"""``gossip local``: real peer processes on this machine, with a fault schedule.

schedule      when which peer is killed, frozen or added
process       one ``gossip run`` process, seen through its ``events.jsonl``
sights        how each peer sees each other one, from the same lines
supervisor    starts them, carries out the schedule, ends them whatever happens
watch         what people see meanwhile
command       flags, exit code and the JSON line
"""

from simulations.local.command import main

__all__ = ["main"]
