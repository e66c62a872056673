"""The settings of the handset, from environment variables. Some of them can be changed while it runs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Settings:
    """The settings. `latency_ms`, `concurrency` and `receipts` can be changed at run time.

    - `concurrency`: requests in flight before further ones get 429; 0 is no limit
    - `receipts`: `on` sends delivery receipts for each message, `off` sends only those that a person or test asks for
    - `webhook_base`: the account's webhooks go to this address followed by `/<provider>/<kind>/`

    - `environment`: the environment variables, in which a provider finds its credentials and secrets

    Any credentials are accepted for a provider whose credentials are not set. Those of Mobile Message are
    HANDSET_USERNAME and HANDSET_PASSWORD. The others have the same names as in delivery's settings.
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
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read HANDSET_* and the providers' credentials. Raises ValueError when a value is invalid."""
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
            environment=dict(environment),
        )
        if settings.receipts not in ("on", "off"):
            raise ValueError("HANDSET_RECEIPTS: set it to on or off")
        return settings

    @property
    def key_file(self) -> Path:
        """The file of the handset's private key, in the folder of its log."""
        return self.log.with_name("handset-key.pem")

    def webhook(self, provider: str, kind: str) -> str:
        """Return the address of an account's webhook, or an empty text when there is none."""
        return f"{self.webhook_base}/{provider}/{kind}/" if self.webhook_base else ""
