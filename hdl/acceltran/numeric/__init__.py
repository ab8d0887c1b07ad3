"""Arithmetic units that every part shares: rounding, tables of functions, vectors."""
