"""The command set, as data: hardware, models, assembler, documentation and C header read it here.

A command is ``COMMAND_BYTES`` bytes in DRAM, little-endian, a header that all commands share and
a body that depends on the opcode. Every field lies at a fixed bit offset; bits that belong to no
field must be zero. Addresses of the on-chip buffers count vectors ("flat": in a buffer of several
banks the low bits are the bank).
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "BODIES",
    "COMMAND_BYTES",
    "HEADER",
    "LOOPS",
    "SEMAPHORES",
    "SEMAPHORE_COUNT_BITS",
    "THRESHOLDS",
    "WAITS",
    "CommandField",
    "Opcode",
    "OperandSource",
    "ThresholdMode",
    "decode",
    "encode",
]

COMMAND_BYTES = 128
WAITS = 4
SEMAPHORES = 16
SEMAPHORE_COUNT_BITS = 16
THRESHOLDS = 128
LOOPS = "bijk"
"""Tile loops of a product: batch, row tile, column pass, inner tile; a loop's code is its index."""

ADDRESS = 24
COUNT = 16


class Opcode(enum.IntEnum):
    """What a command does. Zero is no command, so that blank memory is illegal."""

    LOAD = 1
    STORE = 2
    MATMUL = 3
    SOFTMAX = 4
    LAYERNORM = 5
    THRESHOLD = 6
    END = 7
    SEQUENCE = 8


class OperandSource(enum.IntEnum):
    """Where the tiles of a product come from, and how the second operand lies there."""

    WEIGHT = 0
    """Weight buffer, row k of the operand is a row of the tensor."""
    ACTIVATION = 1
    """Activation buffer, row k of the operand is a row of the tensor."""
    ACTIVATION_TRANSPOSED = 2
    """Activation buffer, column j of the operand is row j of the tensor."""


class ThresholdMode(enum.IntEnum):
    """Where a threshold comes from."""

    FIXED = 0
    """The command's value."""
    CURVE = 1
    """The entry's curve, at the command's target."""
    CLOSED_LOOP = 2
    """The entry's curve, at a position that moves from program to program towards the target."""


@dataclass(frozen=True)
class CommandField:
    """One field: ``width`` bits at bit ``offset`` of the command."""

    name: str
    width: int
    offset: int
    doc: str

    @property
    def mask(self) -> int:
        """All ones, at the field's width."""
        return (1 << self.width) - 1


def _layout(start: int, *members: tuple[str, int, str]) -> tuple[CommandField, ...]:
    """Place fields one after another; none of 32 bits or fewer crosses a 32-bit word."""
    fields = []
    offset = start
    for name, width, doc in members:
        if offset // 32 != (offset + width - 1) // 32:
            offset = -(-offset // 32) * 32
        fields.append(CommandField(name, width, offset, doc))
        offset += width
    assert offset <= COMMAND_BYTES * 8, f"command body ends at bit {offset}"
    return tuple(fields)


HEADER = _layout(
    0,
    ("opcode", 8, "What to do"),
    ("signal_enable", 1, "Count one on semaphore `signal` when the command has completed"),
    ("signal", 4, "Semaphore to count"),
    *(
        member
        for n in range(WAITS)
        for member in (
            (f"wait{n}_enable", 1, f"Wait number {n} is in use"),
            (f"wait{n}_semaphore", 4, "Semaphore to wait for"),
            (
                f"wait{n}_everywhere",
                1,
                "Wait for the signals of all clusters, not only for those of its own",
            ),
            (f"wait{n}_rows", 1, "MATMUL: the rows wait, tiles and biases are loaded before"),
            (
                f"wait{n}_final",
                1,
                "MATMUL: only the rows of the last inner tile, and results, wait",
            ),
            (
                f"wait{n}_count",
                SEMAPHORE_COUNT_BITS,
                "Signals that the semaphore must have counted (modulo 2^16, at most 2^15 ahead)",
            ),
        )
    ),
)

_BODY = 5 * 32

_OWN_ROWS = (
    ("own_rows", 1, "Of the rows, those only that the cluster owns; see SEQUENCE"),
    ("first_row", COUNT, "own_rows: place of row 0 among those that a cluster owns"),
)

_TRANSFER = _layout(
    _BODY,
    ("dram_address", 64, "Byte address in DRAM, a multiple of 8"),
    ("buffer", 1, "0: activation buffer, 1: weight buffer"),
    ("compressed", 1, "DRAM holds keep bits, then the effectual values, packed"),
    ("base", ADDRESS, "First vector in the buffer"),
    ("vectors", ADDRESS, "Vectors to move, a multiple of row_vectors"),
    ("row_vectors", COUNT, "Vectors of a row"),
    ("row_stride", COUNT, "Vectors from row to row in the buffer"),
)

BODIES: Mapping[Opcode, tuple[CommandField, ...]] = {
    Opcode.LOAD: _TRANSFER,
    Opcode.STORE: _TRANSFER,
    Opcode.MATMUL: _layout(
        _BODY,
        ("a_base", ADDRESS, "First vector of row 0 of A (the sparse, row-side operand)"),
        ("a_batch_stride", ADDRESS, "Vectors from batch to batch of A"),
        ("a_row_stride", COUNT, "Vectors from row to row of A"),
        ("inner_vectors", COUNT, "Vectors of a row of A that take part: the inner dimension"),
        ("b_base", ADDRESS, "First vector of B"),
        ("b_source", 2, "0: weight buffer, 1: activation buffer, 2: activation buffer, transposed"),
        ("b_batch_stride", ADDRESS, "Vectors from batch to batch of B; 0 shares B"),
        ("b_row_stride", COUNT, "Vectors from row to row of B's tensor"),
        ("b_rows", COUNT, "Rows of B's tensor that are valid; others count as zero"),
        ("c_base", ADDRESS, "Vector 0 of row 0 of C, a multiple of the banks"),
        ("c_batch_stride", ADDRESS, "Vectors from batch to batch of C"),
        ("c_row_stride", COUNT, "Vectors from row to row of C, a multiple of the banks"),
        ("c_first", COUNT, "First vector of a row of C that is written"),
        ("columns", COUNT, "Vectors of a row of C that are written"),
        ("rows", COUNT, "Rows of A and C"),
        ("batches", COUNT, "Batches"),
        ("row_tile", COUNT, "Rows of a tile"),
        ("inner_tile", 8, "Vectors of the inner dimension in a tile"),
        ("streams", 6, "Rows at a time, each on its share of the lanes: a power of two"),
        ("order0", 2, "Outermost tile loop: 0 b, 1 i, 2 j, 3 k"),
        ("order1", 2, "Second tile loop"),
        ("order2", 2, "Third tile loop"),
        ("order3", 2, "Innermost tile loop"),
        ("bias_enable", 1, "Add a bias"),
        ("bias_base", ADDRESS, "First vector of the bias in the weight buffer"),
        ("bias_shift", 6, "Left shift that aligns the bias with the sums"),
        ("shift", 6, "Right shift from the sums to the result, half up"),
        ("function", 2, "Activation function: 0 none, 1 ReLU, 2 GELU"),
        ("gelu_input_shift", 5, "Left shift from the pre-activation scale to the table's"),
        ("gelu_output_shift", 5, "Right shift from the table's scale to the result's"),
        ("threshold", 7, "Entry of the threshold table"),
        *_OWN_ROWS,
        ("own_keys", 1, "Of the rows of B's tensor, those only that are keys; see SEQUENCE"),
        ("first_key", COUNT, "own_keys: place of B's first row among the keys"),
        ("reuse_tile", 1, "The first tile is there: the product before has kept it"),
        ("keep_tile", 1, "The last tile stays for the next product, which reuses it"),
        ("share", 1, "Write C to all clusters that share the sequence"),
        (
            "share_stride",
            ADDRESS,
            "share: vectors of C from one of them to the next",
        ),
        ("resume_sums", 1, "Sums go on from those that a product before has kept in the lanes"),
        ("keep_sums", 1, "Sums stay in the lanes for a later product; nothing is written"),
        ("first_slot", COUNT, "Place among the partial sums of a stream where those of C begin"),
    ),
    Opcode.SOFTMAX: _layout(
        _BODY,
        ("source_base", ADDRESS, "First vector of the scores"),
        ("source_row_stride", COUNT, "Vectors from row to row of the scores"),
        ("target_base", ADDRESS, "First vector of the probabilities"),
        ("target_row_stride", COUNT, "Vectors from row to row of the probabilities"),
        ("rows", COUNT, "Rows"),
        ("blocks", COUNT, "Vectors of a row"),
        ("keys", COUNT, "Valid keys of each row; the others get probability 0"),
        ("constant", 21, "log2(e) / sqrt(head size) in the scale of the scores"),
        ("shift", 6, "Right shift of score times constant"),
        ("threshold", 7, "Entry of the threshold table"),
        *_OWN_ROWS,
        ("own_keys", 1, "Of the keys, those only that the sequence has; see SEQUENCE"),
    ),
    Opcode.LAYERNORM: _layout(
        _BODY,
        ("a_base", ADDRESS, "First vector of the first summand"),
        ("a_row_stride", COUNT, "Vectors from row to row of the first summand"),
        ("b_base", ADDRESS, "First vector of the second summand"),
        ("b_row_stride", COUNT, "Vectors from row to row of the second summand"),
        ("target_base", ADDRESS, "First vector of the result"),
        ("target_row_stride", COUNT, "Vectors from row to row of the result"),
        ("gamma_base", ADDRESS, "First vector of gamma in the weight buffer"),
        ("beta_base", ADDRESS, "First vector of beta in the weight buffer"),
        ("rows", COUNT, "Rows"),
        ("blocks", COUNT, "Vectors of a row"),
        ("columns", COUNT, "Elements of a row"),
        ("epsilon", 60, "eps * columns^2 / scale^2, at least 1"),
        ("reciprocal", 35, "round(2^reciprocal_shift / columns)"),
        ("reciprocal_shift", 6, "Exponent of the reciprocal"),
        ("beta_shift", 6, "Left shift that aligns beta with the product"),
        ("output_shift", 6, "Right shift from the product to the result, half up"),
        ("threshold", 7, "Entry of the threshold table"),
        *_OWN_ROWS,
    ),
    Opcode.THRESHOLD: _layout(
        _BODY,
        ("index", 7, "Entry of the threshold table"),
        ("value", 24, "Raw threshold; the largest magnitude and more prune all"),
        (
            "mode",
            2,
            "0: fixed, the value; 1: curve, at the target; 2: closed loop, at its place",
        ),
        ("target", 16, "Curve, closed loop: sparsity, in units of 2^-16"),
        ("scale", 16, "Curve, closed loop: factor from the curve to the threshold"),
        ("scale_shift", 5, "Right shift of curve times scale"),
        ("elements", 28, "Closed loop: valid elements of the matrix that the entry prunes"),
        ("gain", 16, "Closed loop: how far the position moves for each element pruned wrongly"),
        ("gain_shift", 6, "Closed loop: right shift of error times gain, less 1"),
    ),
    Opcode.END: (),
    Opcode.SEQUENCE: _layout(
        _BODY,
        (
            "group",
            COUNT,
            "Clusters that hold the sequence: those from group << span on",
        ),
        ("span", 4, "Clusters of every group, as a power of two"),
        ("rows", COUNT, "Rows that a cluster of the group owns, the last ones fewer or none"),
        ("length", COUNT, "Valid rows of the sequence, which are its keys; 0 owns nothing"),
    ),
}


def encode(opcode: Opcode, fields: Mapping[str, int]) -> bytes:
    """Command with the given header and body fields; a field not given is zero.

    Raises ValueError for a field that the opcode does not have and for a value that does not fit.
    """
    layout = {f.name: f for f in (*HEADER, *BODIES[opcode])}
    word = int(opcode)
    for name, value in fields.items():
        if name not in layout or name == "opcode":
            raise ValueError(f"{opcode.name} has no field {name}")
        place = layout[name]
        if not 0 <= value <= place.mask:
            raise ValueError(f"{opcode.name}.{name} must be from 0 to {place.mask}, not {value}")
        word |= value << place.offset
    return word.to_bytes(COMMAND_BYTES, "little")


def decode(command: bytes) -> tuple[Opcode, dict[str, int]]:
    """Inverse of ``encode``, all fields given. ValueError for what hardware calls illegal."""
    if len(command) != COMMAND_BYTES:
        raise ValueError(f"A command must be {COMMAND_BYTES} bytes, not {len(command)}")
    word = int.from_bytes(command, "little")
    code = word & HEADER[0].mask
    if code not in list(Opcode):
        raise ValueError(f"Opcode must be one of {min(Opcode)}..{max(Opcode)}, not {code}")
    opcode = Opcode(code)
    layout = (*HEADER, *BODIES[opcode])
    used = sum(f.mask << f.offset for f in layout)
    if word & ~used:
        bit = (word & ~used & -(word & ~used)).bit_length() - 1
        raise ValueError(f"{opcode.name} must have zeros outside its fields, not bit {bit}")
    return opcode, {f.name: word >> f.offset & f.mask for f in layout if f.name != "opcode"}
