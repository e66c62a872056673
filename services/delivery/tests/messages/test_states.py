"""The states of dispatches, for which scheduling asks when an outcome does not arrive."""

from collections.abc import Callable

import httpx
from aiokafka import AIOKafkaProducer

from common.events import MessageDelivered, MessageSent, ScheduleDue
from delivery.clients.bus import intake_lag
from delivery.messages import service
from delivery.messages.schemas import DispatchId
from services.delivery.tests.stage import Stage


async def test_states_have_the_event_of_their_outcome(
    stage: Stage, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    sent, failed, waiting = stage.due(), stage.due(parts=5), stage.due(organisation_id="org_other", format="mms")
    await stage.set_config("sms_limit", "2")
    await stage.add_due(sent, failed, waiting)
    await stage.send(stage.make_worker())
    asked = [
        {"schedule_id": event.schedule_id, "dispatch_number": number}
        for event, number in ((waiting, 1), (sent, 1), (failed, 1), (sent, 2))
    ]
    answer = await _ask(client, asked, bearer("delivery", "", issuer="scheduling", role="system"))
    assert (await _ask(client, asked, {})).status_code == 401
    assert (await _ask(client, asked * 200, bearer("delivery", "", issuer="scheduling"))).status_code == 400
    body = answer.json()
    assert body["intake_lag"] == 1, "without a broker there may be a lag"
    assert [state["state"] for state in body["states"]] == ["open", "sent", "failed", "not_found"]
    shown = MessageSent.model_validate(body["states"][1]["event"])
    published = next(event for event in await stage.events() if isinstance(event, MessageSent))
    assert shown.model_dump(exclude={"event_id", "occurred_at"}) == published.model_dump(
        exclude={"event_id", "occurred_at"}
    )
    assert body["states"][2]["event"]["failure_category"] == "limit_exceeded"
    assert body["states"][0]["event"] is None


async def test_the_lag_counts_what_the_intake_has_not_consumed(kafka_servers: str) -> None:
    before = await intake_lag(kafka_servers)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_servers)
    await producer.start()
    for number in range(3):
        await producer.send_and_wait(ScheduleDue.topic, b"{}", str(number).encode())
    await producer.stop()
    assert await intake_lag(kafka_servers) == before + 3


async def test_a_delivered_message_has_the_event_of_its_delivery(stage: Stage) -> None:
    event = stage.due()
    await stage.add_due(event)
    await stage.send(stage.make_worker())
    await stage.execute("UPDATE messages SET status = 'delivered', delivered_time = now(), version = 2")
    async with stage.database.all_tenants() as session:
        (state,) = await service.states(session, [DispatchId(schedule_id=event.schedule_id, dispatch_number=1)])
    assert state.state == "delivered"
    assert MessageDelivered.model_validate(state.event).version == 2


async def _ask(client: httpx.AsyncClient, asked: list[dict[str, int]], headers: dict[str, str]) -> httpx.Response:
    return await client.post("/internal/messages/states/", json={"schedules": asked}, headers=headers)
