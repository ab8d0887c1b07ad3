"""Buffers, the engines that move vectors, and the AXI ports."""
