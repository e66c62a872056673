"""Provisions the topics: nobody makes one by accident, with one partition."""

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.events import TOPICS


class TopicSettings(BaseSettings):
    """How topics are made. In production three replicas, two of which must have what counts as written."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    kafka_bootstrap_servers: str
    topic_partitions: int = Field(12, ge=1)
    topic_replication: int = Field(1, ge=1)
    topic_min_insync_replicas: int = Field(1, ge=1)
    topic_retention_hours: int = Field(168, ge=1)


async def create_topics(settings: TopicSettings) -> list[str]:
    """Makes the topics that are missing and returns their names."""
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
        made = []
        for name, code, *_ in answer.topic_errors:
            error = for_code(code)
            if code == 0:
                made.append(name)
            elif error is not TopicAlreadyExistsError:
                raise error(f"topic {name}")
        return made
    finally:
        await admin.close()
