"""The handset: emulates the providers' APIs for development, tests and benchmarks, and stores the messages."""
