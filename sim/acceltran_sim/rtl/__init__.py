"""Running programs on the generated Verilog."""
