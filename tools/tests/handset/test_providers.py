"""The handset as Twilio, MessageMedia and AWS: answers, and errors by the scenario of the number."""

import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from tools.handset.scenarios import SCENARIOS, Behaviour
from tools.tests.handset.conftest import RunningHandset, credentials

PHONE, SENDER = "+61412345678", "+61491570110"
NUMBERS = {behaviour: number for number, behaviour in reversed(SCENARIOS.items())}
ACCOUNT = "AC" + "b" * 32
TWILIO, MESSAGEMEDIA = f"/twilio/2010-04-01/Accounts/{ACCOUNT}/Messages.json", "/messagemedia/v1/messages"
Answer = tuple[int, dict[str, str], Any]


@pytest.fixture
def twilio(handset: RunningHandset, session: aiohttp.ClientSession) -> Callable[..., Any]:
    """`await twilio(to, **fields)` sends one message to Twilio and returns status, headers and body."""

    async def send(to: str = PHONE, **fields: Any) -> Answer:
        body = {"To": to, "From": SENDER, "Body": "Hello", **fields}
        async with session.post(handset.url + TWILIO, data={k: v for k, v in body.items() if v}) as response:
            content = await response.read()
            return response.status, dict(response.headers), json.loads(content) if content else None

    return send


@pytest.fixture
def messagemedia(handset: RunningHandset, session: aiohttp.ClientSession) -> Callable[..., Any]:
    """`await messagemedia(*numbers, **fields)` sends one request and returns status, headers and body."""

    async def send(*numbers: str, **fields: Any) -> Answer:
        items = [{"destination_number": number, "content": "Hello", **fields} for number in numbers]
        async with session.post(handset.url + MESSAGEMEDIA, json={"messages": items}) as response:
            content = await response.read()
            return response.status, dict(response.headers), json.loads(content) if content else None

    return send


@pytest.fixture
def aws(handset: RunningHandset) -> Callable[..., Any]:
    """`await aws(operation, **fields)` calls AWS with botocore, which checks the format of the answers."""

    async def call(operation: str = "send_text_message", **fields: Any) -> Any:
        async with get_session().create_client(
            "pinpoint-sms-voice-v2",
            region_name="ap-southeast-2",
            endpoint_url=f"{handset.url}/aws",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=AioConfig(retries={"total_max_attempts": 1}),
        ) as client:
            return await getattr(client, operation)(**fields)

    return call


async def arrived(handset: RunningHandset, session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    """Return the messages on the handset."""
    async with session.get(f"{handset.url}/api/messages/") as response:
        found: list[dict[str, Any]] = (await response.json())["messages"]
        return found


async def test_twilio_accepts_sms_and_mms(
    handset: RunningHandset, session: aiohttp.ClientSession, twilio: Callable[..., Any]
) -> None:
    status, _, sms = await twilio(StatusCallback="http://127.0.0.1:1/?reference=7")
    assert (status, sms["status"], sms["num_segments"], sms["sid"][:2]) == (201, "queued", "1", "SM")
    _, _, mms = await twilio(MediaUrl="http://127.0.0.1:1/a.png")
    assert (mms["sid"][:2], mms["num_media"]) == ("MM", "1")
    first, second = await arrived(handset, session)
    assert (first["reference"], first["from"], first["encoding"]) == ("7", SENDER, "GSM-7")
    assert (second["media_urls"], second["encoding"]) == (["http://127.0.0.1:1/a.png"], "MMS")
    url = f"{handset.url}{TWILIO.removesuffix('.json')}/{sms['sid']}.json"
    async with session.get(url) as response:
        assert (await response.json())["status"] == "queued"
    async with session.get(url.replace(sms["sid"], "SM0")) as response:
        assert (response.status, (await response.json())["code"]) == (404, 20404)


@pytest.mark.parametrize(
    ("to", "fields", "status", "code"),
    [
        (NUMBERS[Behaviour.BLOCK], {}, 400, 21610),
        (NUMBERS[Behaviour.REFUSE_NUMBER], {}, 400, 21211),
        (NUMBERS[Behaviour.REFUSE_SENDER], {}, 400, 21606),
        (NUMBERS[Behaviour.REFUSE_CONTENT], {}, 400, 21617),
        (NUMBERS[Behaviour.THROTTLE], {}, 429, 20429),
        (NUMBERS[Behaviour.NO_CREDIT], {}, 401, 20003),
        ("0412345678", {}, 400, 21211),
        ("+61212345678", {}, 400, 21614),
        (PHONE, {"Body": ""}, 400, 21602),
        (PHONE, {"Body": "x" * 1601}, 400, 21617),
        (PHONE, {"From": ""}, 400, 21603),
    ],
)
async def test_twilio_refuses_with_its_error_codes(
    twilio: Callable[..., Any], to: str, fields: dict[str, str], status: int, code: int
) -> None:
    answered, _, body = await twilio(to, **fields)
    assert (answered, body["code"], body["status"]) == (status, code, status)
    assert body["message"]


async def test_messagemedia_accepts_all_messages_of_a_request_or_none(
    handset: RunningHandset, session: aiohttp.ClientSession, messagemedia: Callable[..., Any]
) -> None:
    status, _, body = await messagemedia(PHONE, NUMBERS[Behaviour.REFUSE_NUMBER], "12")
    assert (status, await arrived(handset, session)) == (400, [])
    assert [detail.split(":")[0] for detail in body["details"]] == [
        "/messages/1/destination_number",
        "/messages/2/destination_number",
    ]
    more = {"format": "MMS", "media": ["http://127.0.0.1:1/a.png"], "subject": "Map", "metadata": {"reference": "7"}}
    status, _, body = await messagemedia(PHONE, "+61412345679", **more)
    assert (status, [item["status"] for item in body["messages"]]) == (202, ["queued", "queued"])
    (first, _) = await arrived(handset, session)
    assert (first["reference"], first["subject"], first["encoding"]) == ("7", "Map", "MMS")
    message_id = body["messages"][0]["message_id"]
    async with session.get(f"{handset.url}{MESSAGEMEDIA}/{message_id}") as response:
        assert (await response.json())["message_id"] == message_id
    async with session.get(f"{handset.url}{MESSAGEMEDIA}/none") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("numbers", "fields", "status"),
    [
        ([NUMBERS[Behaviour.THROTTLE]], {}, 429),
        ([NUMBERS[Behaviour.NO_CREDIT]], {}, 403),
        ([NUMBERS[Behaviour.REFUSE_SENDER]], {}, 400),
        ([NUMBERS[Behaviour.BLOCK]], {}, 202),
        ([], {}, 400),
        ([PHONE] * 101, {}, 400),
        ([PHONE], {"content": ""}, 400),
        ([PHONE], {"media": ["http://127.0.0.1:1/a.png"]}, 400),
        ([PHONE], {"subject": "x" * 65}, 400),
        ([PHONE], {"format": "FAX"}, 400),
    ],
)
async def test_messagemedia_answers_with_its_statuses(
    messagemedia: Callable[..., Any], numbers: list[str], fields: dict[str, Any], status: int
) -> None:
    assert (await messagemedia(*numbers, **fields))[0] == status


@pytest.mark.parametrize("body", ["", "{", "[]", "1", '{"messages": 1}', '{"messages": [1]}'])
async def test_messagemedia_malformed_request_is_a_400(
    handset: RunningHandset, session: aiohttp.ClientSession, body: str
) -> None:
    async with session.post(handset.url + MESSAGEMEDIA, data=body) as response:
        assert (response.status, bool((await response.json())["message"])) == (400, True)


async def test_aws_accepts_text_and_refuses_media_to_australia(
    handset: RunningHandset, session: aiohttp.ClientSession, aws: Callable[..., Any]
) -> None:
    answer = await aws(DestinationPhoneNumber=PHONE, MessageBody="Hello", Context={"reference": "7"})
    assert answer["MessageId"]
    await aws(DestinationPhoneNumber=PHONE, MessageBody="Hello", DryRun=True)
    (message,) = await arrived(handset, session)
    assert (message["id"], message["reference"]) == (answer["MessageId"], "7")
    with pytest.raises(ClientError, match="COUNTRY_NOT_ENABLED"):
        await aws("send_media_message", DestinationPhoneNumber=PHONE, OriginationIdentity=SENDER)
    for operation in ("describe_account_attributes", "describe_spend_limits", "describe_phone_numbers"):
        await aws(operation)


@pytest.mark.parametrize(
    ("behaviour", "code", "reason"),
    [
        (Behaviour.BLOCK, "ConflictException", "DESTINATION_PHONE_NUMBER_OPTED_OUT"),
        (Behaviour.REFUSE_NUMBER, "ValidationException", "INVALID_PARAMETER"),
        (Behaviour.REFUSE_SENDER, "ValidationException", "SENDER_ID_NOT_REGISTERED"),
        (Behaviour.REFUSE_CONTENT, "ValidationException", "INVALID_PARAMETER"),
        (Behaviour.THROTTLE, "ThrottlingException", None),
        (Behaviour.BUSY_TWICE, "InternalServerException", None),
        (Behaviour.NO_CREDIT, "ServiceQuotaExceededException", "MONTHLY_SPEND_LIMIT_REACHED_FOR_TEXT"),
    ],
)
async def test_aws_refuses_with_its_exceptions(
    aws: Callable[..., Any], behaviour: Behaviour, code: str, reason: str | None
) -> None:
    with pytest.raises(ClientError) as raised:
        await aws(DestinationPhoneNumber=NUMBERS[behaviour], MessageBody="Hello")
    assert (raised.value.response["Error"]["Code"], raised.value.response.get("Reason")) == (code, reason)


async def test_aws_refuses_a_missing_signature_and_an_unknown_operation(
    handset: RunningHandset, session: aiohttp.ClientSession
) -> None:
    for target, status in (("SendTextMessage", 403), ("SendCarrierPigeon", 400)):
        headers = {"X-Amz-Target": f"PinpointSMSVoiceV2.{target}"}
        async with session.post(f"{handset.url}/aws", data="{}", headers=headers) as response:
            assert response.status == status
            assert (await response.json(content_type=None))["__type"]


async def test_temporary_refusals_are_counted_for_each_provider(
    twilio: Callable[..., Any], messagemedia: Callable[..., Any]
) -> None:
    number = NUMBERS[Behaviour.THROTTLE_TWICE]
    assert [(await twilio(number))[0] for _ in range(3)] == [429, 429, 201]
    assert [(await messagemedia(number))[0] for _ in range(3)] == [429, 429, 202]
    assert [(await twilio(NUMBERS[Behaviour.FAIL_ONCE]))[0] for _ in range(2)] == [500, 201]


async def test_credentials_are_checked_when_set(start_handset: Callable[..., RunningHandset]) -> None:
    handset = start_handset(
        TWILIO_ACCOUNT_SID=ACCOUNT, TWILIO_AUTH_TOKEN="t", MESSAGEMEDIA_API_KEY="k", MESSAGEMEDIA_API_SECRET="s"
    )
    paths = {
        f"/twilio/2010-04-01/Accounts/{ACCOUNT}.json": (ACCOUNT, "t"),
        "/messagemedia/v1/messaging/credits": ("k", "s"),
    }
    async with aiohttp.ClientSession() as session:
        for path, (user, secret) in paths.items():
            for header, status in [("", 401), (credentials(user, "no"), 401), (credentials(user, secret), 200)]:
                async with session.get(handset.url + path, headers={"Authorization": header}) as response:
                    assert response.status == status
