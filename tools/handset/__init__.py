"""The carrier for development, tests and benchmarks: takes messages in a vendor's wire format and keeps them."""
