"""The webhooks of the handset, in each provider's format and with its signature."""

import base64
import hashlib
import hmac
import json
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from twilio.request_validator import RequestValidator

from tools.handset.scenarios import SCENARIOS, Behaviour
from tools.handset.webhooks import STATUSES
from tools.tests.handset.conftest import RunningHandset, message
from tools.tests.handset.listener import Listener, ReceivedWebhook

PHONE, SENDER = "+61412345678", "+61491570110"
NUMBERS = {behaviour: number for number, behaviour in reversed(SCENARIOS.items())}
SECRET, TOKEN = "a secret of webhooks", "12345678901234567890123456789012"
TWILIO = "/twilio/2010-04-01/Accounts/AC1/Messages.json"


@pytest.fixture(scope="module")
async def shared_listener() -> AsyncIterator[Listener]:
    """Start a listener for all tests of the module."""
    async with Listener() as listening:
        yield listening


@pytest.fixture(scope="module")
def posting_handset(tmp_path_factory: pytest.TempPathFactory, shared_listener: Listener) -> Iterator[RunningHandset]:
    """Start a handset with automatic receipts whose webhooks go to the listener."""
    settings = {"HANDSET_RECEIPTS": "on", "HANDSET_WEBHOOK_BASE": f"{shared_listener.url}/hooks"}
    secrets = {"MOBILE_MESSAGE_WEBHOOK_SECRET": SECRET, "TWILIO_AUTH_TOKEN": TOKEN}
    handset = RunningHandset(tmp_path_factory.mktemp("posting") / "handset.log", **settings, **secrets).start()
    yield handset
    handset.end(signal.SIGTERM)


@pytest.fixture
async def posting(posting_handset: RunningHandset, session: aiohttp.ClientSession) -> RunningHandset:
    """Return the handset with automatic receipts and without messages."""
    async with session.patch(f"{posting_handset.url}/api/settings/", json={"receipts": "on"}) as changed:
        assert changed.status == 200
    async with session.delete(f"{posting_handset.url}/api/messages/") as deleted:
        assert deleted.status == 204
    return posting_handset


@pytest.fixture
def listener(shared_listener: Listener, posting: RunningHandset) -> Listener:
    """Return the listener without received webhooks."""
    shared_listener.received.clear()
    shared_listener.statuses.clear()
    return shared_listener


class Account:
    """Sends messages to each provider, replies from phones, and requests receipts."""

    def __init__(self, session: aiohttp.ClientSession, handset: RunningHandset, listener: Listener) -> None:
        self.session, self.handset, self.callback = session, handset, f"{listener.url}/callback?reference=7"

    async def post(self, path: str, status: int, **request: Any) -> Any:
        async with self.session.post(self.handset.url + path, **request) as response:
            assert response.status == status, await response.text()
            return await response.json(content_type=None)

    async def mobile_message(self, phone: str, text: str = "Hello") -> str:
        answer = await self.post("/v1/messages", 200, json={"messages": [message(phone, text)]})
        return str(answer["results"][0]["message_id"])

    async def twilio(self, phone: str, text: str = "Hello") -> str:
        fields = {"To": phone, "From": SENDER, "Body": text, "StatusCallback": self.callback}
        return str((await self.post(TWILIO, 201, data=fields))["sid"])

    async def messagemedia(self, phone: str, text: str = "Hello", *, with_callback: bool = True) -> str:
        fields: dict[str, Any] = {"destination_number": phone, "source_number": SENDER, "content": text}
        fields["metadata"] = {"reference": "7"}
        if with_callback:
            fields |= {"delivery_report": True, "callback_url": self.callback}
        answer = await self.post("/messagemedia/v1/messages", 202, json={"messages": [fields]})
        return str(answer["messages"][0]["message_id"])

    async def aws(self, phone: str, text: str = "Hello") -> str:
        fields = {"DestinationPhoneNumber": phone, "OriginationIdentity": SENDER, "MessageBody": text}
        scope = "Credential=a/20260302/ap-southeast-2/sms-voice/aws4_request, SignedHeaders=host, Signature=b"
        headers = {"X-Amz-Target": "PinpointSMSVoiceV2.SendTextMessage", "Authorization": f"AWS4-HMAC-SHA256 {scope}"}
        body = json.dumps({**fields, "Context": {"reference": "7"}})
        return str((await self.post("/aws", 200, data=body, headers=headers))["MessageId"])

    async def reply(self, phone: str, text: str) -> None:
        await self.post(f"/api/phones/{phone}/replies/", 201, json={"text": text})

    async def send_receipt(self, message_id: str, **fields: Any) -> None:
        async with self.session.post(
            f"{self.handset.url}/api/messages/{message_id}/receipts/", json=fields
        ) as response:
            assert response.status == 202, await response.text()


@pytest.fixture
def account(session: aiohttp.ClientSession, posting: RunningHandset, listener: Listener) -> Account:
    """Return an account at every provider."""
    return Account(session, posting, listener)


def bodies(received: list[ReceivedWebhook]) -> list[dict[str, Any]]:
    """Return the JSON bodies."""
    return [json.loads(one.body) for one in received]


def is_signed_by_mobile_message(webhook: ReceivedWebhook) -> bool:
    """Return whether the HMAC of a webhook is correct."""
    signed = webhook.headers["X-MM-Timestamp"].encode() + b"." + webhook.body
    return hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest() == webhook.headers["X-MM-Signature"]


def verify_rsa(key: object, signature: str, content: bytes) -> None:
    """Verify an RSA signature. Raises InvalidSignature."""
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(base64.b64decode(signature), content, padding.PKCS1v15(), hashes.SHA256())


async def test_mobile_message_posts_a_signed_receipt_for_each_part(account: Account, listener: Listener) -> None:
    message_id = await account.mobile_message(PHONE, "x" * 161)
    received = await listener.wait(lambda received: len(received) == 4)
    assert all(is_signed_by_mobile_message(one) for one in received)
    assert {one.path for one in received} == {"/hooks/mobile_message/receipts/"}
    parts = [(body["status"], body["part_number"], body["total_parts"]) for body in bodies(received)]
    assert sorted(parts) == [("delivered", 1, 2), ("delivered", 2, 2), ("sent", 1, 2), ("sent", 2, 2)]
    assert {body["message_id"] for body in bodies(received)} == {message_id}
    assert set(bodies(received)[0]) == {
        *("to", "sender", "message", "custom_ref", "status", "message_id", "received_at", "part_number", "total_parts")
    }


async def test_twilio_callback_verifies_with_twilios_own_package(account: Account, listener: Listener) -> None:
    sid = await account.twilio(PHONE)
    received = await listener.wait(lambda received: len(received) == 2)
    for one, status in zip(received, ("sent", "delivered"), strict=True):
        fields = dict(parse_qsl(one.body.decode()))
        assert RequestValidator(TOKEN).validate(one.url, fields, one.headers["X-Twilio-Signature"])
        assert (fields["MessageSid"], fields["MessageStatus"]) == (sid, status)
        assert one.url.endswith("/callback?reference=7")


async def test_messagemedia_callback_has_the_metadata(account: Account, listener: Listener) -> None:
    message_id = await account.messagemedia(PHONE)
    received = bodies(await listener.wait(lambda received: len(received) == 2))
    assert [(body["status"], body["error_code"]) for body in received] == [("submitted", "210"), ("delivered", "220")]
    assert all(body["metadata"] == {"reference": "7"} and body["message_id"] == message_id for body in received)
    assert len({body["delivery_report_id"] for body in received}) == 2


async def test_messagemedia_signs_webhooks_of_messages_without_callback(account: Account, listener: Listener) -> None:
    await account.messagemedia(PHONE, with_callback=False)
    (webhook, *_) = await listener.wait(lambda received: len(received) == 2)
    async with account.session.get(f"{account.handset.url}/messagemedia/v1/iam/signature_keys/enabled") as response:
        key = serialization.load_pem_public_key((await response.json())["public_key"].encode())
    signed = f"POST {webhook.path} HTTP/1.1{webhook.headers['Date']}".encode() + webhook.body
    verify_rsa(key, webhook.headers["X-Messagemedia-Signature"], signed)


async def test_aws_posts_after_its_subscription_is_confirmed(account: Account, listener: Listener) -> None:
    message_id = await account.aws(PHONE)
    (confirmation, *_) = bodies(await listener.wait(lambda received: len(received) >= 1))
    assert confirmation["Type"] == "SubscriptionConfirmation"
    async with account.session.get(confirmation["SubscribeURL"]) as confirmed:
        assert confirmed.status == 200
    received = await listener.wait(lambda received: sum(b"DELIVERED" in one.body for one in received) >= 1)
    envelope = bodies(received)[-1]
    assert received[-1].headers["x-amz-sns-message-type"] == envelope["Type"] == "Notification"
    event = json.loads(envelope["Message"])
    assert (event["messageId"], event["eventType"]) == (message_id, "TEXT_DELIVERED")
    assert event["context"] == {"reference": "7"}
    async with account.session.get(envelope["SigningCertURL"]) as response:
        key = x509.load_pem_x509_certificate(await response.read()).public_key()
    names = [name for name in ("Message", "MessageId", "Timestamp", "TopicArn", "Type") if name in envelope]
    verify_rsa(key, envelope["Signature"], "".join(f"{name}\n{envelope[name]}\n" for name in names).encode())


@pytest.mark.parametrize(
    ("behaviour", "statuses"),
    [
        (Behaviour.UNDELIVERED, ["sent", "undelivered"]),
        (Behaviour.TWICE, ["sent", "sent", "delivered", "delivered"]),
        (Behaviour.OUT_OF_ORDER, ["delivered", "sent"]),
        (Behaviour.CORRECTED, ["sent", "undelivered", "delivered"]),
    ],
)
async def test_receipts_of_a_scenario_are_posted_in_its_order(
    account: Account, listener: Listener, behaviour: Behaviour, statuses: list[str]
) -> None:
    await account.twilio(NUMBERS[behaviour])
    received = await listener.wait(lambda received: len(received) == len(statuses))
    assert [dict(parse_qsl(one.body.decode()))["MessageStatus"] for one in received] == statuses


async def test_early_receipts_are_posted_before_the_answer(account: Account, listener: Listener) -> None:
    await account.twilio(NUMBERS[Behaviour.EARLY])
    assert len(listener.received) == 2


async def test_receipt_of_the_last_part_is_a_failure(account: Account, listener: Listener) -> None:
    await account.mobile_message(NUMBERS[Behaviour.PART_FAILS], "x" * 161)
    received = bodies(await listener.wait(lambda received: len(received) == 4))
    assert sorted((body["part_number"], body["status"]) for body in received[2:]) == [(1, "delivered"), (2, "failed")]


async def test_forged_receipt_does_not_verify_and_mangled_ids_differ(account: Account, listener: Listener) -> None:
    message_id = await account.mobile_message(NUMBERS[Behaviour.FORGED])
    (forged,) = await listener.wait(lambda received: len(received) == 1)
    assert not is_signed_by_mobile_message(forged)
    await account.send_receipt(message_id, status="delivered", mangled=True)
    mangled = await listener.wait(lambda received: len(received) == 2)
    assert is_signed_by_mobile_message(mangled[1])
    assert bodies(mangled)[1]["message_id"] == message_id.upper()


async def test_refused_webhook_is_posted_again(account: Account, listener: Listener) -> None:
    listener.statuses = [503, 500]
    message_id = await account.mobile_message(NUMBERS[Behaviour.NO_RECEIPT])
    await account.send_receipt(message_id, status="delivered")
    received = await listener.wait(lambda received: len(received) == 3)
    assert len({one.body for one in received}) == 1
    assert all(is_signed_by_mobile_message(one) for one in received)


async def test_requested_receipts_replace_planned_ones(account: Account, listener: Listener) -> None:
    message_id = await account.twilio(NUMBERS[Behaviour.LATE])
    await listener.wait(lambda received: len(received) == 1)
    await account.send_receipt(message_id, status="expired", times=2)
    received = await listener.wait(lambda received: len(received) == 3)
    assert [dict(parse_qsl(one.body.decode()))["MessageStatus"] for one in received] == [
        "sent",
        "undelivered",
        "undelivered",
    ]


async def test_replies_and_opt_outs_are_posted_in_each_format(account: Account, listener: Listener) -> None:
    async def last(number: int) -> ReceivedWebhook:
        return (await listener.wait(lambda received: len(received) >= number))[-1]

    for name, phone in (("mobile_message", "+61412000001"), ("twilio", "+61412000002")):
        await getattr(account, name)(phone)
    await listener.wait(lambda received: len(received) == 4)
    await account.reply("+61412000001", " stop. ")
    inbound = json.loads((await last(5)).body)
    assert (inbound["type"], inbound["sender"], inbound["to"]) == ("unsubscribe", "61412000001", "61491570110")
    assert inbound["original_custom_ref"] == "ref-+61412000001"
    await account.reply("+61412000002", "STOP")
    webhook = await last(6)
    fields = dict(parse_qsl(webhook.body.decode(), keep_blank_values=True))
    assert RequestValidator(TOKEN).validate(webhook.url, fields, webhook.headers["X-Twilio-Signature"])
    assert (fields["From"], fields["To"], fields["Body"], fields["OptOutType"]) == (
        "+61412000002",
        SENDER,
        "STOP",
        "STOP",
    )


async def test_messagemedia_reply_goes_to_the_callback_and_an_opt_out_to_the_account(
    account: Account, listener: Listener
) -> None:
    message_id = await account.messagemedia(PHONE)
    await listener.wait(lambda received: len(received) == 2)
    await account.reply(PHONE, "UNSUBSCRIBE")
    received = (await listener.wait(lambda received: len(received) == 4))[2:]
    by_path = {one.path: json.loads(one.body) for one in received}
    assert by_path["/callback"]["message_id"] == message_id
    assert by_path["/callback"]["content"] == "UNSUBSCRIBE"
    assert by_path["/hooks/messagemedia/inbound/"]["notification_id"]


async def test_opted_out_phone_is_refused_until_start(account: Account, listener: Listener) -> None:
    """Each provider refuses in its own way."""
    await account.mobile_message(PHONE)
    await account.reply(PHONE, "STOP")
    answer = await account.post("/v1/messages", 200, json={"messages": [message(PHONE)]})
    assert answer["results"][0]["status"] == "blocked"
    await account.twilio(PHONE)  # a STOP counts for one provider only
    await account.reply(PHONE, "STOP")
    refused = await account.post(TWILIO, 400, data={"To": PHONE, "From": SENDER, "Body": "Hello"})
    assert refused["code"] == 21610
    await account.reply(PHONE, "START")
    await account.twilio(PHONE)


async def test_opt_out_at_aws_is_refused_and_at_messagemedia_reported(account: Account, listener: Listener) -> None:
    await account.aws(PHONE)
    await account.reply(PHONE, "STOP")
    with pytest.raises(AssertionError, match="DESTINATION_PHONE_NUMBER_OPTED_OUT"):
        await account.aws(PHONE)
    await account.messagemedia(PHONE)
    await account.reply(PHONE, "STOP")
    message_id = await account.messagemedia(PHONE)
    received = await listener.wait(lambda received: any(message_id.encode() in one.body for one in received))
    report = next(body for one in received if (body := json.loads(one.body)).get("message_id") == message_id)
    assert (report["status"], report["error_code"]) == ("rejected", "302")


async def test_reply_to_a_name_is_refused(account: Account) -> None:
    fields = {"to": PHONE, "message": "Hello", "sender": "Torrens", "custom_ref": "1"}
    await account.post("/v1/messages", 200, json={"messages": [fields]})
    async with account.session.post(
        f"{account.handset.url}/api/phones/{PHONE}/replies/", json={"text": "Hello?"}
    ) as response:
        assert response.status == 409


async def test_without_automatic_receipts_only_requested_ones_are_posted(account: Account, listener: Listener) -> None:
    async with account.session.patch(f"{account.handset.url}/api/settings/", json={"receipts": "off"}) as response:
        assert response.status == 200
    message_id = await account.mobile_message(PHONE)
    for status in STATUSES:
        await account.send_receipt(message_id, status=status)
    await listener.wait(lambda received: len(received) == len(STATUSES))
    async with account.session.get(f"{account.handset.url}/v1/messages?message_id={message_id}") as response:
        (found,) = (await response.json())["results"]
    assert (found["status"], found["delivered_at"] is not None) == ("delivered", True)
