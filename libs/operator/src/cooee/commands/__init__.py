"""One module for each command. `main.py` of the package registers them."""
