"""Small backlogs keep every promise: an outage of the broker and of delivery, a long queue, a full outbox."""

from pathlib import Path

import pytest

from tools.backlogs.run import run
from tools.backlogs.world import Size

pytestmark = [pytest.mark.stack, pytest.mark.slow]

SIZE = Size(outage_s=6, rows=3000, queued=3000, long=300, probes=3)


async def test_small_backlogs_are_drained_in_order_and_completely(tmp_path: Path) -> None:
    report = await run(SIZE, tmp_path / "stack", print, is_timed=False)
    text = "\n".join(report.lines())
    assert report.violations == [], text
    # A run without backlogs would prove nothing.
    for outage in ("the broker is away", "delivery is away"):
        assert report.value(outage, "messages accepted during the outage") > 400, text
    for order in ("single messages that a campaign overtook", "messages that a newer one of their lane overtook"):
        assert report.value("another organisation has a long queue", order) == 0, text
    assert report.value("events are lost at the broker", "messages dispatched while delivery's worker was away") == 300
    assert report.value("an outbox is full", "events transmitted") == SIZE.rows, text
    assert report.value("an outbox is full", "looks at the outbox while it was drained") > 0, text
