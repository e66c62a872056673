"""Programs that a person starts by hand: the embedded stack, the demo, the handset, operator commands, benchmarks."""
