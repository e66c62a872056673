from common.cli import main
from scheduling.app import create_app
from scheduling.settings import Settings
from scheduling.worker import create_worker

if __name__ == "__main__":
    main(Settings, create_app, create_worker)
