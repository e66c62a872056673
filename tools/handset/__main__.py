"""`python -m tools.handset`: serve the handset."""

import gc

import uvloop

from tools.handset.server import serve
from tools.handset.settings import Settings

gc.set_threshold(100_000)  # all that is taken stays: looking through it again and again finds nothing
uvloop.run(serve(Settings.from_environment()))
