"""`python -m common topics`: create the topics that are missing."""

import asyncio
import sys

from common.settings import InvalidSetting, read_secret_files
from common.topics import TopicSettings, create_topics

if __name__ == "__main__":
    if sys.argv[1:] != ["topics"]:
        print("usage: python -m common topics", file=sys.stderr)
        raise SystemExit(2)
    try:
        read_secret_files()
    except InvalidSetting as error:
        print(f"topics: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    created = asyncio.run(create_topics(TopicSettings()))
    print(f"topics created: {', '.join(created) or 'none, all exist'}")
