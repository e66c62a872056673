"""`python -m cooee`, which is what the console script `cooee` starts."""

from cooee.main import main

main()
