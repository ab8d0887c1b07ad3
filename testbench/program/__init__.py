"""Tests of the way from a model folder to a program and its memory image."""
