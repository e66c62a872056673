"""`python -m contacts api|worker|migrate`."""

from common.cli import main
from contacts.app import create_app
from contacts.settings import Settings
from contacts.worker import create_worker

if __name__ == "__main__":
    main(Settings, create_app, create_worker)
