"""What a person starts by hand: the embedded stack, the handset, the token command."""
