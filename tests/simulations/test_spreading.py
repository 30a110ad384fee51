"""How news gets about, by what it is; and who is not waited for."""

from __future__ import annotations

import math
from dataclasses import replace

from simulations.execution import Execution
from simulations.figures import Figures, News
from simulations.scenario import load

PEERS = 40


def figures_of(name: str) -> Figures:
    """A shipped scenario among few peers."""
    return Execution(replace(load(name), peers=PEERS), seed=7).run().figures


def test_news_of_every_kind_is_measured_where_frames_are_lost() -> None:
    """Each of those that are there hears it once: of those that come, leave and crash, three of
    each kind, all others do, but for those that stand still meanwhile."""
    news = figures_of("lossy_wan").news
    assert all(each.count for each in news.values())
    for kind in (News.CAME, News.LEFT):
        assert 3 * (PEERS - 12) <= news[kind].count <= 3 * (PEERS - 2)
    assert 6 * (PEERS - 12) <= news[News.DOWN].count <= 6 * (PEERS - 2)


def test_who_could_not_hear_is_not_waited_for() -> None:
    """Whoever was deaf hears of refutations long after all others."""
    heard = figures_of("one_bad_accuser")
    assert heard.news[News.REFUTED].count > 1000
    assert heard.rounds(0.5) <= math.ceil(math.log2(PEERS)) + 1


def test_the_slowest_kind_is_judged() -> None:
    """All together, unless asked for one."""
    figures = Figures()
    assert math.isnan(figures.rounds(0.5))
    figures.news[News.CAME].add(0.7)
    figures.news[News.DOWN].add(1.2)
    assert 3 == figures.rounds(0.5)
    assert 2 == figures.rounds(0.5, News.CAME)
    assert math.isnan(figures.rounds(0.5, News.LEFT))
