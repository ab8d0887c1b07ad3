"""The register map (AXI4-Lite, 32 bits), as data: hardware, drivers and documents read it here."""

import enum
from dataclasses import dataclass

__all__ = [
    "CONTROL_INTERRUPT_ENABLE",
    "CONTROL_SOFT_RESET",
    "CONTROL_START",
    "COUNTERS",
    "COUNTER_BASE",
    "IDENTIFIER",
    "INTERRUPT_DONE",
    "INTERRUPT_ERROR",
    "LANE_COUNTERS",
    "REGISTERS",
    "STATUS_BUSY",
    "STATUS_DONE",
    "STATUS_ERROR",
    "STATUS_RESETTING",
    "VERSION",
    "WATCHDOG_DEFAULT",
    "ErrorCause",
    "Register",
    "counter_address",
    "register_address",
]

IDENTIFIER = 0x4143_5452
"""What ID reads: "ACTR"."""
VERSION = 1
"""Version of the register map and of the command set."""
WATCHDOG_DEFAULT = 1 << 20

CONTROL_START = 1 << 0
CONTROL_SOFT_RESET = 1 << 1
CONTROL_INTERRUPT_ENABLE = 1 << 2
STATUS_BUSY = 1 << 0
STATUS_DONE = 1 << 1
STATUS_ERROR = 1 << 2
STATUS_RESETTING = 1 << 3
INTERRUPT_DONE = 1 << 0
INTERRUPT_ERROR = 1 << 1


class ErrorCause(enum.IntEnum):
    """Why the machine stopped."""

    NONE = 0
    ILLEGAL_COMMAND = 1
    """Unknown opcode, a bit set outside the fields, a field value without meaning, a product that
    needs more partial sums than the lanes hold, or no END (then the index is the program's length).
    """
    BUFFER_ADDRESS = 2
    """An access beyond the end of an on-chip buffer."""
    DRAM_REGION = 3
    """A transfer that does not lie inside REGION_FIRST..REGION_LAST, or is misaligned."""
    AXI_READ = 4
    """SLVERR or DECERR on the read data channel."""
    AXI_WRITE = 5
    """SLVERR or DECERR on the write response channel."""
    WATCHDOG = 6
    """No progress for WATCHDOG cycles."""


@dataclass(frozen=True)
class Register:
    """One 32-bit register."""

    name: str
    address: int
    access: str
    doc: str


def _map() -> tuple[Register, ...]:
    rows = (
        (0x000, "ID", "RO", f"Reads {IDENTIFIER:#010x}"),
        (0x004, "VERSION", "RO", "Version of the register map and of the command set"),
        (0x008, "CONFIG_ARRAY", "RO", "PEs (15:0), lanes per PE (23:16), PEs per cluster (31:24)"),
        (
            0x00C,
            "CONFIG_FORMAT",
            "RO",
            "Integer bits (7:0), fraction bits (15:8), elements of a vector (23:16)",
        ),
        (
            0x010,
            "CONTROL",
            "RW",
            "Bit 0: start (reads 0). Bit 1: soft reset (reads 0). Bit 2: interrupt enable",
        ),
        (0x014, "STATUS", "RO", "Bit 0: busy. Bit 1: done. Bit 2: error. Bit 3: resetting"),
        (0x018, "INTERRUPT", "W1C", "Bit 0: program done. Bit 1: error"),
        (0x020, "PROGRAM_LOW", "RW", "Address of the first command, bits 31:0, 64-byte aligned"),
        (0x024, "PROGRAM_HIGH", "RW", "Address of the first command, bits 63:32"),
        (0x028, "PROGRAM_COMMANDS", "RW", "Commands of the program, END included"),
        (0x030, "REGION_FIRST_LOW", "RW", "First byte that transfers may touch, bits 31:0"),
        (0x034, "REGION_FIRST_HIGH", "RW", "First byte that transfers may touch, bits 63:32"),
        (0x038, "REGION_LAST_LOW", "RW", "Last byte that transfers may touch, bits 31:0"),
        (0x03C, "REGION_LAST_HIGH", "RW", "Last byte that transfers may touch, bits 63:32"),
        (
            0x040,
            "WATCHDOG",
            "RW",
            "Cycles without progress until the watchdog expires; 0: never",
        ),
        (0x044, "ERROR_CAUSE", "RO", "Why the machine stopped; sticky until soft reset"),
        (0x048, "ERROR_COMMAND", "RO", "Index of the command that failed"),
        (0x04C, "COMMANDS_DONE", "RO", "Commands completed since the start"),
        (
            0x050,
            "THRESHOLD_ADDRESS",
            "RW",
            "Word of the threshold table: point 5:0 of entry 12:6, or if bit 13, position of 6:0",
        ),
        (
            0x054,
            "THRESHOLD_DATA",
            "RW",
            "That word; an access advances THRESHOLD_ADDRESS by 1. Kept through any reset",
        ),
    )
    return tuple(Register(name, address, access, doc) for address, name, access, doc in rows)


REGISTERS = _map()

COUNTER_BASE = 0x100
COUNTERS: tuple[tuple[str, str], ...] = (
    ("cycles", "From the start bit written to the interrupt raised"),
    ("multiplier_cycles", "Multiplier-cycles that issued a product"),
    ("products_effectual", "Products issued with both factors non-zero"),
    ("busy_lanes", "Lane-cycles that took a scalar to multiply"),
    ("stall_columns", "Lane-cycles without a column of their own while others had one"),
    ("stall_operand", "Lane-cycles that waited for the elements of a row"),
    ("stall_sums", "Lane-cycles that waited until sums or results were out of the way"),
    ("stall_balance", "Lane-cycles that waited for other rows to end a pass"),
    ("stall_tile", "Lane-cycles that waited for a tile"),
    ("stall_control", "Lane-cycles that waited for the sequencer to deal rows"),
    ("stall_semaphores", "Lane-cycles whose next product waited for a semaphore"),
    ("idle_lanes", "Lane-cycles without a product to wait for; with the others, all there are"),
    ("busy_product", "Cycles in which the product queue worked on a command"),
    ("busy_vector", "Cycles in which the vector queue worked on a command"),
    ("busy_load", "Cycles in which the load queue worked on a command"),
    ("busy_store", "Cycles in which the store queue worked on a command"),
    ("activation_reads", "Vectors read from the activation buffer"),
    ("activation_writes", "Vectors written to the activation buffer"),
    ("activation_skipped", "Vectors of row operands not read because all keep bits were 0"),
    ("weight_reads", "Vectors read from the weight buffer"),
    ("weight_writes", "Vectors written to the weight buffer"),
    ("tile_loads", "Tiles loaded into the lanes"),
    ("tile_reuses", "Tiles found resident in the lanes"),
    ("saturated", "Values clipped to the number format by products and layer norms"),
    ("dma_read_bytes", "Bytes read from DRAM, commands included"),
    ("dma_write_bytes", "Bytes written to DRAM"),
)
"""Counters of 64 bits, low word first; reading a low word freezes its high word."""
LANE_COUNTERS = tuple(
    name for name, _ in COUNTERS if name.startswith("stall_") or name.endswith("_lanes")
)
"""Counters of lane-cycles: together they are lanes times cycles."""


def register_address(name: str) -> int:
    """Byte address of a register."""
    return next(register.address for register in REGISTERS if register.name == name)


def counter_address(name: str) -> int:
    """Byte address of the low word of a counter."""
    return COUNTER_BASE + 8 * [counter for counter, _ in COUNTERS].index(name)
