"""Create the topics. A topic that a client creates by accident would have one partition."""

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.events import TOPICS


class TopicSettings(BaseSettings):
    """Settings of the topics. In production use three replicas, two of them in sync."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    kafka_bootstrap_servers: str
    topic_partitions: int = Field(12, ge=1)
    topic_replication: int = Field(1, ge=1)
    topic_min_insync_replicas: int = Field(1, ge=1)
    topic_retention_hours: int = Field(168, ge=1)


async def create_topics(settings: TopicSettings) -> list[str]:
    """Create the topics that are missing and return their names."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        configs = {
            "retention.ms": str(settings.topic_retention_hours * 3_600_000),
            "min.insync.replicas": str(settings.topic_min_insync_replicas),
        }
        topics = [
            NewTopic(name, settings.topic_partitions, settings.topic_replication, topic_configs=configs)
            for name in TOPICS
        ]
        answer = await admin.create_topics(topics)
        created = []
        for name, code, *_ in answer.topic_errors:
            error = for_code(code)
            if code == 0:
                created.append(name)
            elif error is not TopicAlreadyExistsError:
                raise error(f"topic {name}")
        return created
    finally:
        await admin.close()
