"""Lanes, epilogue, softmax, layer norm: what turns numbers into numbers."""
