"""`python -m gateway api`."""

from common.cli import main
from gateway.settings import Settings

if __name__ == "__main__":
    main(Settings)
