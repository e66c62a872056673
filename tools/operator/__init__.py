"""What an operator does by hand: see how things are, find what is stuck and why, repair."""
