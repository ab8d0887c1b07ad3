"""Tests of the golden models against independent float references."""
