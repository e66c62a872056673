"""A small process in place of a service: `python -m tools.tests.embedded.stand_in <port> [behaviour]`.

It answers every GET with the names of its environment variables, and logs when it starts and ends.
"""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StandIn(BaseHTTPRequestHandler):
    """Answers every GET with the names of the environment variables."""

    def do_GET(self) -> None:
        body = json.dumps(sorted(os.environ)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Log nothing: the log is for starts and ends."""


def end(number: int, frame: object) -> None:
    print("ended", time.monotonic(), flush=True)
    os._exit(0)


if __name__ == "__main__":
    port, behaviour = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    if behaviour == "misconfigured":
        print("stand-in: A_SECRET: field required", flush=True)
        sys.exit(2)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else end)
    server = ThreadingHTTPServer(("127.0.0.1", port), StandIn)
    print("started", time.monotonic(), flush=True)
    server.serve_forever()
