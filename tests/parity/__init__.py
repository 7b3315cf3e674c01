"""Ours beside the published programs, number by number: ``python -m tests.parity``."""
