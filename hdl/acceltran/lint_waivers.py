"""Waivers that Verilator's lint needs for the Verilog that Amaranth writes."""

__all__ = ["LINT_WAIVERS"]

LINT_WAIVERS = """\
`verilator_config
// Amaranth sizes an expression by its own rules and leaves extension to Verilog's assignment.
lint_off -rule WIDTHEXPAND
// A sum is one bit wider than its operands; the part that is kept is assigned explicitly.
lint_off -rule WIDTHTRUNC
// A default is assigned before each case statement, so that no case needs to be complete.
lint_off -rule CASEINCOMPLETE
// A register has its reset value as initial value too.
lint_off -rule PROCASSINIT
// Every signal keeps its name, also where an equal one is read, and every sum its carry; a unit
// may need only some fields of a payload.
lint_off -rule UNUSEDSIGNAL
// All modules are in one file.
lint_off -rule DECLFILENAME
"""
