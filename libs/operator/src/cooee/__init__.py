"""The operator's commands: show how the system is doing, find what is stuck and why, and repair it."""
