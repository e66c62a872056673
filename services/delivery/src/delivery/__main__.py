"""`python -m delivery api|worker|migrate`."""

from common.cli import main
from delivery.settings import Settings

if __name__ == "__main__":
    main(Settings)
