"""Whole-machine tests on the generated Verilog."""
