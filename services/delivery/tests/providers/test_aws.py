"""AWS End User Messaging as a table. What goes over the wire is judged by botocore's own model of the service."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import botocore.session
import pytest
from aiobotocore.session import get_session
from botocore.validate import ParamValidator

from delivery.providers import aws as adapter
from delivery.providers.aws import Aws
from delivery.providers.base import (
    AccountError,
    SubmissionError,
    NotConnected,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Throttled,
)

from .conftest import MARK

MODEL = botocore.session.get_session().get_service_model("pinpoint-sms-voice-v2")
SEND = MODEL.operation_model("SendTextMessage")
ID = "0f9f3c5e-8f4d-4f0b-9f55-3b0e0a4c6d21"
MESSAGE = OutgoingMessage(7, "+61491570006", "Hi Ana ž")


SESSION = get_session()  # reads the model once: 0.2 s


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "get_session", lambda: SESSION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def aws(make: Callable[..., Any]) -> Aws:
    made: Aws = make(Aws, aws_sender="ExampleCo", aws_configuration_set="sms-events")
    return made


async def send(provider: Aws, message: OutgoingMessage = MESSAGE) -> Outcome:
    (outcome,) = await provider.send(uuid4(), provider.prepare([message]), [message.id])
    return outcome


async def test_a_message_is_one_request_that_the_model_knows(vendor: Any, aws: Aws) -> None:
    vendor.answers(200, {"MessageId": ID.upper()})
    assert await send(aws) == Outcome("accepted", ID)
    (taken,) = vendor.requests
    assert (taken.method, taken.path) == (SEND.http["method"], SEND.http["requestUri"])
    target = f"{MODEL.metadata['targetPrefix']}.{SEND.name}"
    assert taken.headers["X-Amz-Target"] == target
    assert taken.headers["Content-Type"] == f"application/x-amz-json-{MODEL.metadata['jsonVersion']}"
    credential = f"Credential=AKIDEXAMPLE/{datetime.now(UTC):%Y%m%d}/ap-southeast-2/{MODEL.signing_name}/aws4_request"
    assert credential in taken.headers["Authorization"]
    fields = json.loads(taken.body)
    assert not ParamValidator().validate(fields, SEND.input_shape).has_errors()
    assert fields == {
        "DestinationPhoneNumber": "+61491570006",
        "MessageBody": "Hi Ana ž",
        "MessageType": "TRANSACTIONAL",
        "Context": {"reference": f"{MARK}-7"},
        "OriginationIdentity": "ExampleCo",
        "ConfigurationSetName": "sms-events",
    }


def test_without_sender_and_set_aws_chooses(make: Any) -> None:
    fields = json.loads(make(Aws).prepare([MESSAGE]))
    assert "OriginationIdentity" not in fields
    assert "ConfigurationSetName" not in fields
    own = json.loads(make(Aws).prepare([OutgoingMessage(7, "+61491570006", "Hi", sender="+61491570110")]))
    assert own["OriginationIdentity"] == "+61491570110"


def test_every_reason_is_one_of_the_model() -> None:
    known = {
        reason
        for name in ("ValidationExceptionReason", "ConflictExceptionReason")
        for reason in MODEL.shape_for(name).enum
    }
    assert set(adapter._REASONS) | adapter._ACCOUNT_REASONS <= known
    assert set(adapter._FIELDS) <= set(SEND.input_shape.members)
    assert set(MODEL.shape_for("ResourceType").enum) >= adapter._SENDERS
    events = {event.removeprefix("TEXT_") for event in MODEL.shape_for("EventType").enum if event.startswith("TEXT_")}
    assert set(adapter._EVENTS) == events - {"ALL"}


def fault(name: str, **members: Any) -> dict[str, Any]:
    shape = MODEL.shape_for(name)
    assert set(members) <= set(shape.members)
    return {"__type": f"com.amazonaws#{name}", "Message": "No.", **members}


@pytest.mark.parametrize(
    ("body", "category", "raw"),
    [
        (
            fault("ConflictException", Reason="DESTINATION_PHONE_NUMBER_OPTED_OUT", ResourceType="opt-out-list"),
            "opted_out",
            "DESTINATION_PHONE_NUMBER_OPTED_OUT",
        ),
        (
            fault("ConflictException", Reason="DESTINATION_PHONE_NUMBER_BLOCKED_BY_PROTECT_NUMBER_OVERRIDE"),
            "blocked",
            "DESTINATION_PHONE_NUMBER_BLOCKED_BY_PROTECT_NUMBER_OVERRIDE",
        ),
        (
            fault("ValidationException", Reason="SENDER_ID_NOT_REGISTERED", Fields=[{"Name": "MessageBody"}]),
            "account_error",
            "SENDER_ID_NOT_REGISTERED",
        ),
        (
            fault(
                "ValidationException",
                Reason="FIELD_VALIDATION_FAILED",
                Fields=[{"Name": "Other"}, {"Name": "DestinationPhoneNumber", "Message": "bad"}],
            ),
            "invalid_number",
            "FIELD_VALIDATION_FAILED",
        ),
        (fault("ValidationException", Reason="OTHER"), "unknown", "OTHER"),
        (fault("ValidationException"), "unknown", "ValidationException"),
        (
            fault("ResourceNotFoundException", ResourceType="sender-id", ResourceId="x"),
            "account_error",
            "ResourceNotFoundException",
        ),
    ],
)
async def test_a_refused_message_has_its_category(vendor: Any, aws: Aws, body: Any, category: Any, raw: str) -> None:
    vendor.answers(400, body)
    outcome = await send(aws)
    assert (outcome.status, outcome.failure_category, outcome.raw, outcome.retryable) == ("refused", category, raw, False)
    assert outcome.error
    assert outcome.error.endswith("No.")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, fault("ThrottlingException"), Throttled),
        (429, "", Throttled),
        (400, fault("ServiceQuotaExceededException", Reason="MONTHLY_SPEND_LIMIT_REACHED_FOR_TEXT"), AccountError),
        (400, fault("AccessDeniedException", Reason="ACCOUNT_DISABLED"), AccountError),
        (400, fault("ConflictException", Reason="NO_ORIGINATION_IDENTITIES_FOUND"), AccountError),
        (400, fault("ValidationException", Reason="COUNTRY_NOT_ENABLED"), AccountError),
        (400, fault("ResourceNotFoundException", ResourceType="configuration-set"), AccountError),
        (400, {"__type": "UnrecognizedClientException", "message": "The security token is invalid."}, AccountError),
        (403, {"__type": "InvalidSignatureException"}, AccountError),
        (403, "<html>", AccountError),
        (500, fault("InternalServerException", RequestId="r"), OutcomeUnknown),
        (500, "<html>", OutcomeUnknown),
        (503, "", OutcomeUnknown),
        (200, "<html>", OutcomeUnknown),
        (200, {}, OutcomeUnknown),
        (200, "", OutcomeUnknown),
    ],
)
async def test_a_whole_answer_is_one_of_the_closed_list(
    vendor: Any, aws: Aws, status: int, body: Any, error: type[SubmissionError]
) -> None:
    vendor.answers(status, body)
    with pytest.raises(error):
        await send(aws)
    assert len(vendor.requests) == 1  # a repeated call would be another message


async def test_a_busy_service_that_says_until_when_is_a_throttling(vendor: Any, aws: Aws) -> None:
    vendor.answers(503, "", Retry_After="3")
    with pytest.raises(Throttled) as raised:
        await send(aws)
    assert raised.value.retry_after_s == 3


async def test_a_connection_that_breaks_after_writing_is_an_unknown_outcome(vendor: Any, aws: Aws) -> None:
    """aiobotocore gives it the same name as a connection that was never made."""
    vendor.script.append(None)
    with pytest.raises(OutcomeUnknown):
        await send(aws)
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid", "https://{host}"])
async def test_without_a_connection_nothing_was_sent(vendor: Any, make: Any, url: str) -> None:
    with pytest.raises(NotConnected):
        await send(make(Aws, aws_base_url=url.format(host=vendor.url.removeprefix("http://"))))


async def test_without_credentials_it_is_the_accounts_fault(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(adapter, "get_session", get_session)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(AccountError):
        await send(aws)


async def test_a_text_that_the_model_refuses_is_not_sent(vendor: Any, aws: Aws) -> None:
    outcome = await send(aws, OutgoingMessage(7, "+61491570006", ""))
    assert (outcome.status, outcome.failure_category) == ("refused", "content_rejected")
    assert not vendor.requests


async def test_how_the_account_stands(vendor: Any, aws: Aws) -> None:
    vendor.answers(200, {"PhoneNumbers": [{"PhoneNumber": "+61491570110"}]})
    vendor.answers(200, {"SenderIds": [{"SenderId": "ExampleCo"}]})
    assert (await aws.check()).senders == ("+61491570110", "ExampleCo")
    vendor.answers(400, fault("AccessDeniedException"))
    with pytest.raises(AccountError):
        await aws.check()


@pytest.mark.parametrize(
    ("url", "reaches_people"),
    [
        ("", True),
        ("https://sms-voice.ap-southeast-2.amazonaws.com", True),
        ("http://127.0.0.1:8090/aws", False),
        ("https://amazonaws.com.example.com", False),
    ],
)
def test_the_vendor_itself_is_known_by_its_host(make: Any, url: str, reaches_people: bool) -> None:
    assert make(Aws, aws_base_url=url).reaches_people is reaches_people
