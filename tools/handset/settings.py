"""What the handset is told by its environment, and what can be changed while it runs."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Settings:
    """`latency_ms` and `concurrency` (requests in flight, 0: no limit) may change at run time."""

    host: str = "127.0.0.1"
    port: int = 8090
    log: Path = Path(".cooee/handset.jsonl")
    latency_ms: int = 0
    concurrency: int = 0
    username: str = ""
    password: str = ""

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read HANDSET_*; without HANDSET_USERNAME any credentials will do."""
        environment = os.environ
        return cls(
            host=environment.get("HANDSET_HOST") or cls.host,
            port=int(environment.get("HANDSET_PORT") or cls.port),
            log=Path(environment.get("HANDSET_LOG") or cls.log),
            latency_ms=int(environment.get("HANDSET_LATENCY_MS") or cls.latency_ms),
            concurrency=int(environment.get("HANDSET_CONCURRENCY") or cls.concurrency),
            username=environment.get("HANDSET_USERNAME", ""),
            password=environment.get("HANDSET_PASSWORD", ""),
        )
