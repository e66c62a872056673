"""`python -m delivery api|worker|migrate`."""

import gc

from common.cli import main
from delivery.settings import Settings

if __name__ == "__main__":
    gc.set_threshold(50_000, 20, 50)  # batches make much that dies young: looking for cycles cost a tenth of the worker
    main(Settings)
