"""What one run came to: a few lines for people, one JSON object for programs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import TypeAlias

from simulations.execution import Outcome
from simulations.figures import Figures, News

JsonValue: TypeAlias = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None


def repeating(
    outcome: Outcome,
    scenario: str,
    peers: int | None,
    sabotage: str | None = None,
    ignored: Sequence[str] = (),
) -> str:
    """The one command that repeats a run."""
    words = ["gossip", "simulate", scenario, "--seed", str(outcome.seed)]
    words += [] if peers is None else ["--peers", str(peers)]
    words += [] if sabotage is None else ["--sabotage", sabotage]
    return shlex.join([*words, "--ignore", *ignored] if ignored else words)


def as_json(outcome: Outcome, repeat: str, gossip_interval_s: float) -> dict[str, JsonValue]:
    """Everything, for one line of JSON; what was not measured is null."""
    figures = outcome.figures
    injected: dict[str, JsonValue] = {kind.value: n for kind, n in outcome.injected.items()}
    found: dict[str, JsonValue] = {
        "scenario": outcome.scenario,
        "seed": outcome.seed,
        "peers": outcome.peers,
        "ok": outcome.ok,
        "interrupted": outcome.interrupted,
        "virtual_s": _number(outcome.ended_at_s),
        "detect_p50_s": _number(figures.known.quantile_s(0.5)),
        "detect_p99_s": _number(figures.known.quantile_s(0.99)),
        "detect_max_s": _number(figures.known.largest_s),
        "detect_dial_out_p50_s": _number(figures.known_of[True].quantile_s(0.5)),
        "detect_dial_out_p99_s": _number(figures.known_of[True].quantile_s(0.99)),
        "detect_others_p50_s": _number(figures.known_of[False].quantile_s(0.5)),
        "detect_others_p99_s": _number(figures.known_of[False].quantile_s(0.99)),
        "lost_known": figures.known.count,
        "lost_not_known": figures.not_known,
        "detect_pairs_p50_s": _number(figures.detection.quantile_s(0.5)),
        "detect_pairs_p99_s": _number(figures.detection.quantile_s(0.99)),
        "detect_pairs_max_s": _number(figures.detection.largest_s),
        "detections": figures.detection.count,
        "first_doubt_p50_s": _number(figures.first_doubt.quantile_s(0.5)),
        "first_verdict_p50_s": _number(figures.first_verdict.quantile_s(0.5)),
        "dial_out": figures.dial_out,
        "false_downs": figures.false_downs,
        "falsely_down": len(figures.falsely_down),
        "agree_s": _number(figures.agreed_s),
        "dissemination_rounds": _rounds(figures, gossip_interval_s),
        "dissemination": _dissemination(figures, gossip_interval_s),
        "idle_bytes_per_s": _number(figures.idle_bytes_per_s),
        "idle_messages_per_s": _number(figures.idle_messages_per_s),
        "idle_gossip_messages": figures.idle_gossip_messages,
        "control_bytes_per_s": _number(figures.control_bytes_per_s),
        "worst_bytes_per_s": _number(figures.worst_bytes_per_s),
        "faults": injected,
        "dropped": {kind.value: n for kind, n in outcome.dropped.items()},
        "events": outcome.events,
        "frames": outcome.frames,
        "lost_frames": outcome.lost_frames,
        "randomly_lost": outcome.randomly_lost,
        "duplicated": outcome.duplicated,
        "reordered": outcome.reordered,
        "delayed": outcome.delayed,
        "events_per_s": _number(outcome.events_per_s),
        "wall_s": _number(outcome.wall_s),
    }
    if outcome.broken:
        counts: dict[str, JsonValue] = {**outcome.broken_rules}
        found |= {"rule": outcome.rule, "broken": outcome.broken, "repeat": repeat}
        found["broken_rules"] = counts
    return found


def as_text(outcome: Outcome, repeat: str, gossip_interval_s: float) -> str:
    """The same for people."""
    figures = outcome.figures
    verdict = "ok" if outcome.ok else "interrupted" if outcome.interrupted else "BROKEN"
    faults = ", ".join(f"{n} {kind.value}" for kind, n in outcome.injected.items()) or "none"
    dropped = ", ".join(f"{n} by {kind.value}" for kind, n in outcome.dropped.items())
    known, pairs = figures.known, figures.detection
    lines = [
        f"{outcome.scenario}: {outcome.peers} peers, {outcome.ended_at_s:g} s, "
        f"seed {outcome.seed}: {verdict}",
        f"  faults      {faults}",
    ]
    if outcome.randomly_lost or outcome.duplicated or outcome.reordered or outcome.delayed:
        lines.append(
            f"  frames      {outcome.randomly_lost} lost, {outcome.duplicated} duplicated, "
            f"{outcome.reordered} reordered, {outcome.delayed} delayed"
        )
    if dropped:
        lines.append(f"  dropped     {dropped}")
    if known.count:
        lines.append(
            f"  detection   {known.count} lost, known to 99 % p50 {known.quantile_s(0.5):.1f} s, "
            f"p99 {known.quantile_s(0.99):.1f} s, longest {known.largest_s:.1f} s; "
            f"not yet {figures.not_known}"
        )
    if pairs.count:
        lines.append(
            f"  each pair   p50 {pairs.quantile_s(0.5):.1f} s, p99 {pairs.quantile_s(0.99):.1f} s; "
            f"first doubt p50 {figures.first_doubt.quantile_s(0.5):.1f} s, "
            f"first verdict p50 {figures.first_verdict.quantile_s(0.5):.1f} s"
        )
    if figures.dial_out:
        kind = figures.known_of[True]
        lines.append(
            f"  dial-out    {figures.dial_out} lives that nobody could dial; lost ones known p50 "
            f"{kind.quantile_s(0.5):.1f} s, p99 {kind.quantile_s(0.99):.1f} s"
        )
    rounds = {kind: _rounds(figures, gossip_interval_s, kind) for kind in News}
    if any(rounds.values()):
        each = [
            f"{kind.value} {rounds[kind]} (p99 {figures.news[kind].quantile_s(0.99):.1f} s)"
            for kind in News
            if rounds[kind]
        ]
        lines.append(f"  news        rounds until all knew: {', '.join(each)}")
    lines += [
        f"  false       {figures.false_downs} verdicts about {len(figures.falsely_down)} lives",
        f"  agreement   {_seconds(figures.agreed_s)} after the calm began",
        f"  traffic     idle {_bytes(figures.idle_bytes_per_s)}, "
        f"{figures.idle_messages_per_s:.1f} messages/s a peer, "
        f"{figures.idle_gossip_messages} gossip; whole run {_bytes(figures.control_bytes_per_s)}, "
        f"worst peer {_bytes(figures.worst_bytes_per_s)}",
        f"  speed       {outcome.events:,} events in {outcome.wall_s:.1f} s "
        f"({outcome.events_per_s:,.0f}/s)",
    ]
    if outcome.broken:
        if sum(outcome.broken_rules.values()) > 1:
            counts = ", ".join(f"{rule} {n}" for rule, n in outcome.broken_rules.items())
            lines.append(f"  broken      {counts}; the first:")
        lines += [f"  {outcome.broken}", f"  repeat: {repeat}"]
    return "\n".join(lines)


def _rounds(figures: Figures, gossip_interval_s: float, *kinds: News) -> int | None:
    """Gossip rounds until the last peer knew."""
    rounds = figures.rounds(gossip_interval_s, *kinds)
    return None if math.isnan(rounds) else int(rounds)


def _dissemination(figures: Figures, gossip_interval_s: float) -> dict[str, JsonValue]:
    """By what the news was: how many heard it from others, and how soon."""
    return {
        kind.value: {
            "heard": heard.count,
            "p99_s": _number(heard.quantile_s(0.99)),
            "rounds": _rounds(figures, gossip_interval_s, kind),
        }
        for kind, heard in figures.news.items()
    }


def _number(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return round(value, 3) if math.isfinite(value) else None


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if math.isfinite(value) else "never"


def _bytes(rate: float) -> str:
    return f"{rate / 1e3:.2f} KB/s" if math.isfinite(rate) else "unknown"
