"""`python -m common topics`: provisions the topics of the bus."""

import asyncio
import sys

from common.topics import TopicSettings, create_topics

if __name__ == "__main__":
    if sys.argv[1:] != ["topics"]:
        print("usage: python -m common topics", file=sys.stderr)
        raise SystemExit(2)
    made = asyncio.run(create_topics(TopicSettings()))
    print(f"topics made: {', '.join(made) or 'none, all are there'}")
