"""Benches of the command line."""
