"""`python -m contacts api|worker|migrate`."""

from common.cli import main
from contacts.settings import Settings

if __name__ == "__main__":
    main(Settings)
