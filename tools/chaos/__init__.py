"""The chaos run: load and faults from a seed on the embedded stack, and a comparison of all records at the end."""
