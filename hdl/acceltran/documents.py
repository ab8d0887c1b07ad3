"""C header and Markdown tables of registers and commands, written from their descriptions."""

from acceltran.arch import registers
from acceltran.arch.commands import (
    BODIES,
    COMMAND_BYTES,
    HEADER,
    SEMAPHORES,
    THRESHOLDS,
    CommandField,
    Opcode,
    OperandSource,
)

__all__ = ["c_header", "registers_markdown"]


def _define(name: str, value: str, comment: str = "") -> str:
    line = f"#define ACCELTRAN_{name:<42} {value}"
    return f"{line} /* {comment} */" if comment else line


def _field_defines(prefix: str, fields: tuple[CommandField, ...]) -> list[str]:
    lines = []
    for field in fields:
        name = f"{prefix}_{field.name.upper()}"
        lines.append(_define(f"{name}_OFFSET", str(field.offset), field.doc))
        lines.append(_define(f"{name}_WIDTH", str(field.width)))
    return lines


def c_header() -> str:
    """Register addresses, bits, causes, opcodes, and bit offset and width of each command field."""
    lines = [
        "/* AccelTran: registers (byte addresses) and command fields (bits, little-endian). */",
        "#ifndef ACCELTRAN_H",
        "#define ACCELTRAN_H",
        "",
    ]
    for register in registers.REGISTERS:
        lines.append(_define(f"REG_{register.name}", f"0x{register.address:03x}", register.doc))
    lines.append("")
    for name, doc in registers.COUNTERS:
        address = f"0x{registers.counter_address(name):03x}"
        lines.append(_define(f"COUNTER_{name.upper()}", address, doc))
    lines.append("")
    for name in (
        "IDENTIFIER",
        "VERSION",
        "WATCHDOG_DEFAULT",
        "CONTROL_START",
        "CONTROL_SOFT_RESET",
        "CONTROL_INTERRUPT_ENABLE",
        "STATUS_BUSY",
        "STATUS_DONE",
        "STATUS_ERROR",
        "STATUS_RESETTING",
        "INTERRUPT_DONE",
        "INTERRUPT_ERROR",
    ):
        lines.append(_define(name, f"0x{getattr(registers, name):x}u"))
    lines.append("")
    lines += [_define(f"ERROR_{c.name}", str(c.value)) for c in registers.ErrorCause]
    lines.append("")
    lines += [
        _define("COMMAND_BYTES", str(COMMAND_BYTES)),
        _define("SEMAPHORES", str(SEMAPHORES)),
        _define("THRESHOLDS", str(THRESHOLDS)),
        "",
    ]
    lines += [_define(f"OPCODE_{opcode.name}", str(opcode.value)) for opcode in Opcode]
    lines += [_define(f"SOURCE_{source.name}", str(source.value)) for source in OperandSource]
    lines.append("")
    lines += _field_defines("COMMAND", HEADER)
    for opcode, fields in BODIES.items():
        if fields:
            lines += ["", *_field_defines(opcode.name, fields)]
    lines += ["", "#endif", ""]
    return "\n".join(lines)


def _table(fields: tuple[CommandField, ...]) -> list[str]:
    lines = ["| bits | field | |", "|---|---|---|"]
    for field in fields:
        last = field.offset + field.width - 1
        bits = f"{last}:{field.offset}" if field.width > 1 else str(field.offset)
        lines.append(f"| {bits} | `{field.name}` | {field.doc} |")
    return lines


def registers_markdown() -> str:
    """Tables of the registers, the counters, the error causes and the commands."""
    lines = ["# Registers", "", "AXI4-Lite, 32 bits, byte addresses.", ""]
    lines += ["| address | name | access | |", "|---|---|---|---|"]
    lines += [
        f"| `0x{r.address:03x}` | `{r.name}` | {r.access} | {r.doc} |" for r in registers.REGISTERS
    ]
    lines += ["", "## Counters", ""]
    lines += ["64 bits, low word first; reading a low word freezes its high word.", ""]
    lines += ["| address | name | |", "|---|---|---|"]
    lines += [
        f"| `0x{registers.counter_address(name):03x}` | `{name}` | {doc} |"
        for name, doc in registers.COUNTERS
    ]
    lines += ["", "## Error causes", "", "| code | name |", "|---|---|"]
    lines += [f"| {cause.value} | `{cause.name}` |" for cause in registers.ErrorCause]
    lines += ["", "# Commands", ""]
    lines += [f"{COMMAND_BYTES} bytes each, little-endian; unused bits are 0.", ""]
    lines += ["## Header", "", *_table(HEADER)]
    for opcode, fields in BODIES.items():
        lines += ["", f"## {opcode.name} ({opcode.value})", ""]
        lines += _table(fields) if fields else ["No fields."]
    return "\n".join([*lines, ""])
