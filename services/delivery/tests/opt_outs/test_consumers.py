"""The consumer of contacts, called with a batch as Kafka delivers it."""

from types import SimpleNamespace
from typing import Any

from common.events import ContactChanged, ContactState
from delivery.opt_outs import consumers
from services.delivery.tests.stage import Stage


async def test_a_repeated_batch_of_contacts_is_applied_once(stage: Stage) -> None:
    state = ContactState(contact_id=7, version=3, phone="+61453000007", is_active=True, opt_out=True)
    other = state.model_copy(update={"contact_id": 8})
    event = ContactChanged(organisation_id=stage.organisation, contacts=(state, other))
    body = event.model_dump_json().encode()
    record: Any = SimpleNamespace(topic=event.topic, partition=0, offset=0, key=b"1", value=body)
    for _ in range(2):
        await consumers.on_contact_changed(stage.database, [record])
    found = [(row.contact_id, row.opt_out) for row in await stage.rows("SELECT * FROM contact_opt_outs")]
    assert found == [(7, True), (8, True)]
