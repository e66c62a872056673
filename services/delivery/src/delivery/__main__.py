"""`python -m delivery api|worker|migrate`."""

from common.cli import main
from delivery.app import create_app
from delivery.settings import Settings
from delivery.worker import create_worker

if __name__ == "__main__":
    main(Settings, create_app, create_worker)
