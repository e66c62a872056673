"""What the handset is told by its environment, and what can be changed while it runs."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Settings:
    """`latency_ms`, `concurrency` (requests in flight, 0: no limit) and `receipts` may change at run time.

    `receipts`: `on` tells what becomes of each message by itself, `off` only what somebody asks for.
    `webhook_base`: `/<provider>/<kind>/` is put behind it where a vendor has one address for an account.
    Of a vendor whose credentials are not set any will do; Mobile Message's are HANDSET_USERNAME and HANDSET_PASSWORD,
    the others have the names that delivery's settings have.
    """

    host: str = "127.0.0.1"
    port: int = 8090
    log: Path = Path(".cooee/handset.jsonl")
    latency_ms: int = 0
    concurrency: int = 0
    username: str = ""
    password: str = ""
    receipts: str = "off"
    webhook_base: str = ""
    mobile_message_webhook_secret: str = ""
    twilio_account_sid: str = ""
    twilio_auth_token: str = ""
    messagemedia_api_key: str = ""
    messagemedia_api_secret: str = ""
    aws_topic_arn: str = "arn:aws:sns:ap-southeast-2:000000000000:handset"

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read HANDSET_* and the vendors' credentials. Raises ValueError for what cannot be."""
        environment = os.environ
        settings = cls(
            host=environment.get("HANDSET_HOST") or cls.host,
            port=int(environment.get("HANDSET_PORT") or cls.port),
            log=Path(environment.get("HANDSET_LOG") or cls.log),
            latency_ms=int(environment.get("HANDSET_LATENCY_MS") or cls.latency_ms),
            concurrency=int(environment.get("HANDSET_CONCURRENCY") or cls.concurrency),
            username=environment.get("HANDSET_USERNAME", ""),
            password=environment.get("HANDSET_PASSWORD", ""),
            receipts=environment.get("HANDSET_RECEIPTS") or cls.receipts,
            webhook_base=environment.get("HANDSET_WEBHOOK_BASE", "").rstrip("/"),
            mobile_message_webhook_secret=environment.get("MOBILE_MESSAGE_WEBHOOK_SECRET", ""),
            twilio_account_sid=environment.get("TWILIO_ACCOUNT_SID", ""),
            twilio_auth_token=environment.get("TWILIO_AUTH_TOKEN", ""),
            messagemedia_api_key=environment.get("MESSAGEMEDIA_API_KEY", ""),
            messagemedia_api_secret=environment.get("MESSAGEMEDIA_API_SECRET", ""),
            aws_topic_arn=environment.get("AWS_TOPIC_ARNS", "").split(",")[0].strip() or cls.aws_topic_arn,
        )
        if settings.receipts not in ("on", "off"):
            raise ValueError("HANDSET_RECEIPTS is on or off")
        return settings

    @property
    def key_file(self) -> Path:
        """Where the handset's private key lies: beside its log."""
        return self.log.with_name("handset-key.pem")

    def webhook(self, provider: str, kind: str) -> str:
        """Return an account's address for what it is told, empty when there is none."""
        return f"{self.webhook_base}/{provider}/{kind}/" if self.webhook_base else ""
