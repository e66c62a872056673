"""`python -m tools.handset`: serve the handset."""

import uvloop

from tools.handset.server import serve
from tools.handset.settings import Settings

uvloop.run(serve(Settings.from_environment()))
