"""AWS End User Messaging as a table. botocore's model of the service checks the requests."""

import json
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
    NotConnected,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    SubmissionError,
    Throttled,
)

from .conftest import MARK, Make, ProviderApi

MODEL = botocore.session.get_session().get_service_model("pinpoint-sms-voice-v2")
SEND = MODEL.operation_model("SendTextMessage")
ID = "0f9f3c5e-8f4d-4f0b-9f55-3b0e0a4c6d21"
MESSAGE = OutgoingMessage(7, "+61491570006", "Hi Ana ž")


SESSION = get_session()  # reading the model takes 0.2 s


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "get_session", lambda: SESSION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def aws(make: Make) -> Aws:
    return make(Aws, sender_id="ExampleCo", configuration_set="sms-events")


async def send(provider: Aws, message: OutgoingMessage = MESSAGE) -> Outcome:
    (outcome,) = await provider.send(uuid4(), provider.prepare([message]), [message.id])
    return outcome


async def test_a_message_is_one_request_that_fits_the_model(api: ProviderApi, aws: Aws) -> None:
    api.answers(200, {"MessageId": ID.upper()})
    assert await send(aws) == Outcome("accepted", ID)
    (request,) = api.requests
    assert (request.method, request.path) == (SEND.http["method"], SEND.http["requestUri"])
    target = f"{MODEL.metadata['targetPrefix']}.{SEND.name}"
    assert request.headers["X-Amz-Target"] == target
    assert request.headers["Content-Type"] == f"application/x-amz-json-{MODEL.metadata['jsonVersion']}"
    credential = f"Credential=AKIDEXAMPLE/{datetime.now(UTC):%Y%m%d}/ap-southeast-2/{MODEL.signing_name}/aws4_request"
    assert credential in request.headers["Authorization"]
    fields = json.loads(request.body)
    assert not ParamValidator().validate(fields, SEND.input_shape).has_errors()
    assert fields == {
        "DestinationPhoneNumber": "+61491570006",
        "MessageBody": "Hi Ana ž",
        "MessageType": "TRANSACTIONAL",
        "Context": {"reference": f"{MARK}-7"},
        "OriginationIdentity": "ExampleCo",
        "ConfigurationSetName": "sms-events",
    }


def test_without_sender_id_and_configuration_set_aws_chooses(make: Make) -> None:
    fields = json.loads(make(Aws).prepare([MESSAGE]))
    assert "OriginationIdentity" not in fields
    assert "ConfigurationSetName" not in fields
    own = json.loads(make(Aws).prepare([OutgoingMessage(7, "+61491570006", "Hi", sender_id="+61491570110")]))
    assert own["OriginationIdentity"] == "+61491570110"


def test_every_reason_is_in_the_model() -> None:
    known = {
        reason
        for name in ("ValidationExceptionReason", "ConflictExceptionReason")
        for reason in MODEL.shape_for(name).enum
    }
    assert set(adapter._REASONS) | adapter._ACCOUNT_REASONS <= known
    assert set(adapter._FIELDS) <= set(SEND.input_shape.members)
    assert set(MODEL.shape_for("ResourceType").enum) >= adapter._SENDER_ID_TYPES
    events = {event.removeprefix("TEXT_") for event in MODEL.shape_for("EventType").enum if event.startswith("TEXT_")}
    assert set(adapter._EVENTS) == events - {"ALL"}


def aws_error(name: str, **members: Any) -> dict[str, Any]:
    shape = MODEL.shape_for(name)
    assert set(members) <= set(shape.members)
    return {"__type": f"com.amazonaws#{name}", "Message": "No.", **members}


@pytest.mark.parametrize(
    ("body", "category", "raw"),
    [
        (
            aws_error("ConflictException", Reason="DESTINATION_PHONE_NUMBER_OPTED_OUT", ResourceType="opt-out-list"),
            "opted_out",
            "DESTINATION_PHONE_NUMBER_OPTED_OUT",
        ),
        (
            aws_error("ConflictException", Reason="DESTINATION_PHONE_NUMBER_BLOCKED_BY_PROTECT_NUMBER_OVERRIDE"),
            "blocked",
            "DESTINATION_PHONE_NUMBER_BLOCKED_BY_PROTECT_NUMBER_OVERRIDE",
        ),
        (
            aws_error("ValidationException", Reason="SENDER_ID_NOT_REGISTERED", Fields=[{"Name": "MessageBody"}]),
            "account_error",
            "SENDER_ID_NOT_REGISTERED",
        ),
        (
            aws_error(
                "ValidationException",
                Reason="FIELD_VALIDATION_FAILED",
                Fields=[{"Name": "Other"}, {"Name": "DestinationPhoneNumber", "Message": "bad"}],
            ),
            "invalid_number",
            "FIELD_VALIDATION_FAILED",
        ),
        (aws_error("ValidationException", Reason="OTHER"), "unknown", "OTHER"),
        (aws_error("ValidationException"), "unknown", "ValidationException"),
        (
            aws_error("ResourceNotFoundException", ResourceType="sender-id", ResourceId="x"),
            "account_error",
            "ResourceNotFoundException",
        ),
    ],
)
async def test_a_refused_message_has_its_failure_category(
    api: ProviderApi, aws: Aws, body: Any, category: Any, raw: str
) -> None:
    api.answers(400, body)
    outcome = await send(aws)
    assert (outcome.status, outcome.failure_category, outcome.raw, outcome.retryable) == (
        "refused",
        category,
        raw,
        False,
    )
    assert outcome.error
    assert outcome.error.endswith("No.")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, aws_error("ThrottlingException"), Throttled),
        (429, "", Throttled),
        (400, aws_error("ServiceQuotaExceededException", Reason="MONTHLY_SPEND_LIMIT_REACHED_FOR_TEXT"), AccountError),
        (400, aws_error("AccessDeniedException", Reason="ACCOUNT_DISABLED"), AccountError),
        (400, aws_error("ConflictException", Reason="NO_ORIGINATION_IDENTITIES_FOUND"), AccountError),
        (400, aws_error("ValidationException", Reason="COUNTRY_NOT_ENABLED"), AccountError),
        (400, aws_error("ResourceNotFoundException", ResourceType="configuration-set"), AccountError),
        (400, {"__type": "UnrecognizedClientException", "message": "The security token is invalid."}, AccountError),
        (403, {"__type": "InvalidSignatureException"}, AccountError),
        (403, "<html>", AccountError),
        (500, aws_error("InternalServerException", RequestId="r"), OutcomeUnknown),
        (500, "<html>", OutcomeUnknown),
        (503, "", OutcomeUnknown),
        (200, "<html>", OutcomeUnknown),
        (200, {}, OutcomeUnknown),
        (200, "", OutcomeUnknown),
    ],
)
async def test_a_failed_request_raises_one_of_the_submission_errors(
    api: ProviderApi, aws: Aws, status: int, body: Any, error: type[SubmissionError]
) -> None:
    api.answers(status, body)
    with pytest.raises(error):
        await send(aws)
    assert len(api.requests) == 1  # a repeated request would send another message


async def test_unavailable_with_a_retry_time_is_throttling(api: ProviderApi, aws: Aws) -> None:
    api.answers(503, "", Retry_After="3")
    with pytest.raises(Throttled) as raised:
        await send(aws)
    assert raised.value.retry_after_s == 3


async def test_a_connection_that_breaks_after_writing_is_an_unknown_outcome(api: ProviderApi, aws: Aws) -> None:
    """aiobotocore raises the same class for a connection that was never made."""
    api.script.append(None)
    with pytest.raises(OutcomeUnknown):
        await send(aws)
    assert len(api.requests) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid", "https://{host}"])
async def test_without_a_connection_nothing_was_sent(api: ProviderApi, make: Make, url: str) -> None:
    with pytest.raises(NotConnected):
        await send(make(Aws, base_url=url.format(host=api.url.removeprefix("http://"))))


async def test_without_credentials_it_is_an_account_error(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(adapter, "get_session", get_session)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "missing"))
    with pytest.raises(AccountError):
        await send(aws)


async def test_a_text_that_does_not_fit_the_model_is_not_sent(api: ProviderApi, aws: Aws) -> None:
    outcome = await send(aws, OutgoingMessage(7, "+61491570006", ""))
    assert (outcome.status, outcome.failure_category) == ("refused", "content_rejected")
    assert not api.requests


async def test_check_returns_credit_and_sender_ids(api: ProviderApi, aws: Aws) -> None:
    api.answers(200, {"PhoneNumbers": [{"PhoneNumber": "+61491570110"}]})
    api.answers(200, {"SenderIds": [{"SenderId": "ExampleCo"}]})
    assert (await aws.check()).sender_ids == ("+61491570110", "ExampleCo")
    api.answers(400, aws_error("AccessDeniedException"))
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
def test_the_providers_own_hosts_reach_people(make: Make, url: str, reaches_people: bool) -> None:
    assert make(Aws, base_url=url).reaches_people is reaches_people
