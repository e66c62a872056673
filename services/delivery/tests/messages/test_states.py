"""What scheduling asks when it has heard nothing."""

from collections.abc import Callable
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer

from common.database import Database
from common.events import MessageDelivered, MessageSent, ScheduleDue
from delivery.app import create_app
from delivery.clients.bus import intake_lag
from delivery.messages import service
from delivery.messages.schemas import ScheduleRun


async def test_the_states_of_runs_are_told_with_their_events(stage: Stage, make_settings: Any, serve: Any, bearer: Any) -> None:
    sent, failed, waiting = stage.due(), stage.due(parts=5), stage.due(organisation_id="org_other", format="mms")
    await stage.set_config("sms_limit", "2")
    await stage.add_due(sent, failed, waiting)
    await stage.send(stage.make_worker())
    asked = [
        {"schedule_id": event.schedule_id, "dispatch_number": run}
        for event, run in ((waiting, 1), (sent, 1), (failed, 1), (sent, 2))
    ]
    app = create_app(make_settings())
    async with serve(app) as client, app.router.lifespan_context(app):
        answer = await _ask(client, asked, bearer("delivery", "", issuer="scheduling", role="system"))
        assert (await _ask(client, asked, {})).status_code == 401
        assert (await _ask(client, asked * 200, bearer("delivery", "", issuer="scheduling"))).status_code == 400
    body = answer.json()
    assert body["intake_lag"] == 1, "nobody knows, as there is no broker"
    assert [state["state"] for state in body["states"]] == ["open", "sent", "failed", "unknown_here"]
    told = MessageSent.model_validate(body["states"][1]["event"])
    on_the_bus = next(event for event in await stage.events() if isinstance(event, MessageSent))
    assert told.model_dump(exclude={"event_id", "occurred_at"}) == on_the_bus.model_dump(
        exclude={"event_id", "occurred_at"}
    )
    assert body["states"][2]["event"]["category"] == "limit_exceeded"
    assert body["states"][0]["event"] is None


async def test_the_lag_is_what_the_intake_has_not_taken_in(kafka_servers: str) -> None:
    before = await intake_lag(kafka_servers)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_servers)
    await producer.start()
    for number in range(3):
        await producer.send_and_wait(ScheduleDue.topic, b"{}", str(number).encode())
    await producer.stop()
    assert await intake_lag(kafka_servers) == before + 3


async def test_a_delivered_message_is_told_as_such(stage: Stage) -> None:
    event = stage.due()
    await stage.add_due(event)
    await stage.send(stage.make_worker())
    await stage.execute("UPDATE messages SET status = 'delivered', delivered_time = now(), version = 2")
    async with stage.database.all_tenants() as session:
        (state,) = await service.states(session, [ScheduleRun(schedule_id=event.schedule_id, dispatch_number=1)])
    assert state.state == "delivered"
    assert MessageDelivered.model_validate(state.event).version == 2


async def _ask(client: httpx.AsyncClient, asked: list[dict[str, int]], headers: dict[str, str]) -> httpx.Response:
    return await client.post("/internal/messages/states/", json={"schedules": asked}, headers=headers)
