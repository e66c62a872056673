"""`python -m gateway api`."""

from common.cli import main
from gateway.app import create_app
from gateway.settings import Settings

if __name__ == "__main__":
    main(Settings, create_app)
