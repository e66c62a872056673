"""`python -m scheduling api|worker|migrate`."""

from common.cli import main
from scheduling.settings import Settings

if __name__ == "__main__":
    main(Settings)
