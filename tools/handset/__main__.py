"""Run the handset: `python -m tools.handset`."""

import gc

import uvloop

from tools.handset.server import serve
from tools.handset.settings import Settings

gc.set_threshold(100_000)  # stored messages stay reachable: frequent collections would free nothing
uvloop.run(serve(Settings.from_environment()))
