"""`python -m cooee`, which is what the console script `cooee` starts."""

from common.settings import read_secret_files
from cooee.main import main

read_secret_files()
main()
