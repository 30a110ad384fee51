"""Small scenarios, a second or less each: in each of them some deliberate bugs show."""

from __future__ import annotations

from dataclasses import replace

from simulations.conditions import LAN, WAN
from simulations.scenario import Expected, Fault, FaultKind, Profile, Scenario

GONE = Scenario(
    name="gone",
    summary="processes and hosts are lost for good, at 5 % loss",
    peers=24,
    seconds=60.0,
    calm_s=25.0,
    conditions=replace(WAN, loss=0.05),
    faults=(
        Fault(FaultKind.CRASH, at_s=10.0, count=2),
        Fault(FaultKind.LOSE_HOST, at_s=15.0, count=2),
    ),
    expect=Expected(detect_p99_s=14.0, agree_s=15.0, gossip_messages=0),
)
BACK = Scenario(
    name="back",
    summary="processes come back, first with and then without their disks, and newcomers join",
    peers=16,
    seconds=80.0,
    calm_s=35.0,
    conditions=WAN,
    faults=(
        Fault(FaultKind.CRASH, at_s=5.0, count=12, restart_after_s=(1.0, 12.0)),
        Fault(FaultKind.CRASH, at_s=25.0, count=12, restart_after_s=(1.0, 12.0), disk=False),
        Fault(FaultKind.REPLACE, at_s=40.0),
    ),
    expect=Expected(agree_s=30.0),
)
HIDDEN = Scenario(
    name="hidden",
    summary="half of all peers only dial out; a process of each kind crashes",
    peers=16,
    seconds=60.0,
    calm_s=30.0,
    dial_out_share=0.5,
    conditions=WAN,
    faults=(Fault(FaultKind.CRASH, at_s=10.0, targets=(3, 4)),),
    expect=Expected(agree_s=10.0),
)
ALONE = Scenario(
    name="alone",
    summary="one that only dials out is left, and all others lose their hosts at once",
    peers=4,
    seconds=85.0,
    calm_s=70.0,
    dial_out_share=0.5,
    conditions=WAN,
    faults=(Fault(FaultKind.LOSE_HOST, at_s=10.0, targets=(0, 1, 3)),),
    expect=Expected(false_downs=None),
)
SHORT = Scenario(
    name="short",
    summary="half of the peers are cut off for about as long as a verdict takes",
    peers=60,
    seconds=60.0,
    calm_s=30.0,
    conditions=WAN,
    faults=(Fault(FaultKind.SPLIT, at_s=20.0, for_s=(7.0, 9.0)),),
    expect=Expected(agree_s=20.0),
)
BRIDGE = Scenario(
    name="bridge",
    summary="a few peers see both halves of a split while it lasts",
    peers=60,
    seconds=66.0,
    calm_s=30.0,
    conditions=WAN,
    faults=(Fault(FaultKind.SPLIT, at_s=20.0, for_s=(12.0, 12.0), bridge=10),),
    expect=Expected(agree_s=20.0),
)
LONG_BRIDGE = replace(
    BRIDGE,
    name="long bridge",
    summary="the same, for longer than any verdict waits",
    peers=40,
    seconds=92.0,
    faults=(Fault(FaultKind.SPLIT, at_s=20.0, for_s=(40.0, 40.0), bridge=3),),
)
FAREWELL = Scenario(
    name="farewell",
    summary="some leave, politely",
    peers=16,
    seconds=40.0,
    calm_s=20.0,
    conditions=WAN,
    faults=(Fault(FaultKind.LEAVE, at_s=10.0, count=3),),
    expect=Expected(agree_s=5.0),
)
RESTS = Scenario(
    name="rests",
    summary="threads are held and processes stopped for up to 25 s, while others crash",
    peers=16,
    seconds=100.0,
    calm_s=30.0,
    conditions=WAN,
    faults=(
        Fault(FaultKind.STALL, per_minute=12.0, for_s=(3.0, 25.0)),
        Fault(FaultKind.FREEZE, per_minute=6.0, for_s=(5.0, 25.0)),
        Fault(FaultKind.CRASH, at_s=30.0, count=2),
    ),
    expect=Expected(agree_s=25.0),
)
HELD = Scenario(
    name="held",
    summary="some crash, and when they are doubted all others are held up for seconds",
    peers=16,
    seconds=60.0,
    calm_s=25.0,
    conditions=WAN,
    faults=(
        Fault(FaultKind.CRASH, at_s=10.0, count=3),
        Fault(FaultKind.STALL, at_s=11.6, share=1.0, for_s=(8.0, 20.0)),
    ),
    expect=Expected(agree_s=15.0),
)
SPLIT = Scenario(
    name="split",
    summary="half of the peers are cut off for 40 s",
    peers=16,
    seconds=120.0,
    calm_s=60.0,
    conditions=WAN,
    faults=(Fault(FaultKind.SPLIT, at_s=10.0, for_s=(40.0, 40.0)),),
    expect=Expected(agree_s=45.0),
)
LOSSY = Scenario(
    name="lossy",
    summary="six of ten frames are lost, while peers are replaced",
    peers=24,
    seconds=150.0,
    calm_s=110.0,
    conditions=replace(WAN, loss=0.6),
    faults=(Fault(FaultKind.REPLACE, per_minute=24.0),),
    expect=Expected(false_downs=None),
)
ACCUSER = Scenario(
    name="accuser",
    summary="one peer hears nothing and accuses everybody",
    peers=16,
    seconds=100.0,
    calm_s=40.0,
    conditions=WAN,
    faults=(Fault(FaultKind.ACCUSE, at_s=5.0, for_s=(50.0, 50.0)),),
    expect=Expected(agree_s=35.0),
)
FAR = replace(
    ACCUSER,
    name="far",
    summary="the same where a refutation takes a second or more, and verdicts overtake it",
    conditions=replace(WAN, latency_s=(0.3, 0.6)),
)
QUIET = Scenario(
    name="quiet",
    summary="nothing happens",
    peers=32,
    seconds=25.0,
    calm_s=20.0,
    profile=Profile.LAN,
    conditions=LAN,
    expect=Expected(messages_per_s=12.0, gossip_messages=0),
)
CRASH = Scenario(
    name="crash",
    summary="one peer crashes",
    peers=12,
    seconds=30.0,
    calm_s=25.0,
    conditions=WAN,
    faults=(Fault(FaultKind.CRASH, at_s=1.0),),
)
NEWS = Scenario(
    name="news",
    summary="newcomers take the place of some, and others want to hear of them",
    peers=100,
    seconds=40.0,
    calm_s=25.0,
    conditions=WAN,
    faults=(Fault(FaultKind.REPLACE, at_s=10.0, count=3),),
    expect=Expected(rounds_over_log2=0),
)
