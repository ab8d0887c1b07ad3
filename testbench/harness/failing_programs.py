"""Programs that fail, in every way there is, and what the machine says to each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from acceltran.arch.commands import COMMAND_BYTES, Opcode, OperandSource
from acceltran.arch.presets import TINY
from acceltran.arch.registers import ErrorCause
from acceltran_sim.program.command import Command
from testbench.harness.axi_memory import DECERR, OKAY, SLVERR
from testbench.harness.small_job import SmallJob, command, matmul

__all__ = ["CASES", "CONFIG", "PRODUCT", "Case", "changed"]

CONFIG = TINY.replace(
    array={"lanes": 2},
    datapath={"frac_bits": 8, "partial_sums": 8, "tile_rows": 64},
    buffers={"activation_kib": 16, "weight_kib": 16, "mask_kib": 4},
    memory={"axi_data_bits": 64},
    limits={"inner": 128, "sequence": 64, "hidden": 64},
)
ACTIVATIONS, WEIGHTS = CONFIG.activation_vectors, CONFIG.weight_vectors
(
    THRESHOLD,
    LOAD,
    LOAD_WEIGHTS,
    LOAD_VECTORS,
    PRODUCT,
    SOFTMAX,
    NORM,
    SECOND,
    STORE,
    STORE_2,
    END,
) = range(11)
"""Commands of the small job."""


@dataclass
class Case:
    """A program that fails, and how."""

    commands: Sequence[Command | bytes]
    cause: ErrorCause
    command: int
    respond: Callable[[int], int] = lambda address: OKAY
    silent_at: int | None = None
    """Memory moves no more from the burst at this address on."""
    registers: dict[str, int] = field(default_factory=dict)


def changed(job: SmallJob, index: int, **fields: int) -> list[Command | bytes]:
    """The small job with one command changed."""
    commands: list[Command | bytes] = list(job.commands)
    old = job.commands[index]
    commands[index] = Command(opcode=old.opcode, fields={**old.fields, **fields})
    return commands


def replaced(job: SmallJob, index: int, content: bytes) -> list[Command | bytes]:
    commands: list[Command | bytes] = list(job.commands)
    commands[index] = content
    return commands


def change(cause: ErrorCause, index: int, **fields: int) -> Callable[[SmallJob], Case]:
    return lambda job: Case(changed(job, index, **fields), cause, index)


def bus_error(
    cause: ErrorCause, index: int, response: int, place: Callable[[SmallJob], int]
) -> Callable[[SmallJob], Case]:
    """One beat of memory answers with an error."""

    def case(job: SmallJob) -> Case:
        wrong = place(job)
        return Case(
            job.commands, cause, index, respond=lambda at: response if at == wrong else OKAY
        )

    return case


def silence(index: int, place: Callable[[SmallJob], int]) -> Callable[[SmallJob], Case]:
    return lambda job: Case(
        job.commands, ErrorCause.WATCHDOG, index, silent_at=place(job), registers={"WATCHDOG": 900}
    )


def endless_wait(index: int) -> Callable[[SmallJob], Case]:
    never = {"wait3_enable": 1, "wait3_semaphore": 9, "wait3_count": 1}
    return lambda job: Case(
        changed(job, index, **never), ErrorCause.WATCHDOG, index, registers={"WATCHDOG": 900}
    )


def region(index: int, field_of: Callable[[SmallJob], int]) -> Callable[[SmallJob], Case]:
    return lambda job: Case(
        changed(job, index, dram_address=field_of(job)), ErrorCause.DRAM_REGION, index
    )


def stray_bit(job: SmallJob) -> Case:
    word = int.from_bytes(job.commands[SOFTMAX].encode(), "little") | 1 << 1000
    content = word.to_bytes(COMMAND_BYTES, "little")
    return Case(replaced(job, SOFTMAX, content), ErrorCause.ILLEGAL_COMMAND, SOFTMAX)


def behind_good_ones(cause: ErrorCause, **fields: Any) -> Callable[[SmallJob], Case]:
    """Tiles of a bad product are loaded, and its rows read, while good ones are at work."""

    def case(job: SmallJob) -> Case:
        commands = changed(job, PRODUCT, rows=64, c_base=200)
        for _ in range(2):
            commands.insert(PRODUCT, commands[PRODUCT])
        commands.insert(PRODUCT + 3, matmul(**{"b_rows": 32, "c_base": 400, **fields}))
        return Case(commands, cause, PRODUCT + 3)

    return case


K_OUTERMOST = {f"order{n}": loop for n, loop in enumerate((3, 0, 1, 2))}
ILLEGAL, BUFFER = ErrorCause.ILLEGAL_COMMAND, ErrorCause.BUFFER_ADDRESS
BUS_ERRORS: dict[str, tuple[ErrorCause, int, Callable[[SmallJob], int]]] = {
    "command": (ErrorCause.AXI_READ, NORM, lambda job: job.program + NORM * COMMAND_BYTES + 64),
    "load": (ErrorCause.AXI_READ, LOAD_WEIGHTS, lambda job: job.weights + 800),
    "store": (ErrorCause.AXI_WRITE, STORE, lambda job: job.outputs[0] + 64),
    "last_store": (ErrorCause.AXI_WRITE, STORE_2, lambda job: job.outputs[1]),
}
CASES: dict[str, Callable[[SmallJob], Case]] = {
    "unknown_opcode": lambda job: Case(
        replaced(job, SOFTMAX, bytes([max(Opcode) + 1]) + bytes(COMMAND_BYTES - 1)),
        ILLEGAL,
        SOFTMAX,
    ),
    "blank_memory": lambda job: Case(replaced(job, STORE, bytes(COMMAND_BYTES)), ILLEGAL, STORE),
    "stray_bit": stray_bit,
    "order_is_no_permutation": change(ILLEGAL, PRODUCT, order0=2),
    "no_rows": change(ILLEGAL, NORM, rows=0),
    "store_of_weights": change(ILLEGAL, STORE, buffer=1),
    "too_many_partial_sums": change(ILLEGAL, PRODUCT, **K_OUTERMOST, rows=9),
    "too_many_partial_sums_of_the_next_product": behind_good_ones(ILLEGAL, **K_OUTERMOST, rows=9),
    "no_END": lambda job: Case(job.commands[:END], ILLEGAL, END),
    "no_commands": lambda job: Case([], ILLEGAL, 0),
    "load_beyond_activations": change(BUFFER, LOAD, base=ACTIVATIONS - 7),
    "load_beyond_weights": change(BUFFER, LOAD_WEIGHTS, base=WEIGHTS - 63),
    "load_far_beyond_weights": change(BUFFER, LOAD_VECTORS, base=(1 << 24) - 100),
    "store_beyond": change(BUFFER, STORE, base=ACTIVATIONS - 7),
    "rows_beyond": change(BUFFER, PRODUCT, a_base=ACTIVATIONS - 7),
    "second_operand_beyond_weights": change(BUFFER, PRODUCT, b_base=WEIGHTS - 63),
    "second_operand_beyond_activations": change(BUFFER, SECOND, b_base=ACTIVATIONS - 7),
    "transposed_operand_beyond": change(
        BUFFER,
        SECOND,
        b_base=ACTIVATIONS - 7,
        b_source=OperandSource.ACTIVATION_TRANSPOSED,
    ),
    "bias_beyond": change(BUFFER, PRODUCT, bias_base=WEIGHTS - 1),
    "result_beyond": change(BUFFER, PRODUCT, c_base=ACTIVATIONS - 7),
    "next_product_beyond": behind_good_ones(BUFFER, b_base=WEIGHTS - 63),
    "bias_of_the_next_product_beyond": behind_good_ones(
        BUFFER, bias_enable=1, bias_base=WEIGHTS - 1
    ),
    "rows_of_the_next_product_beyond": behind_good_ones(BUFFER, a_base=ACTIVATIONS - 7),
    "result_of_the_next_product_beyond": behind_good_ones(BUFFER, c_base=ACTIVATIONS - 7),
    "scores_beyond": change(BUFFER, SOFTMAX, source_base=ACTIVATIONS - 7),
    "probabilities_beyond": change(BUFFER, SOFTMAX, target_base=ACTIVATIONS - 7),
    "first_summand_beyond": change(BUFFER, NORM, a_base=ACTIVATIONS - 7),
    "second_summand_beyond": change(BUFFER, NORM, b_base=ACTIVATIONS - 7),
    "norm_beyond": change(BUFFER, NORM, target_base=ACTIVATIONS - 7),
    "gamma_beyond": change(BUFFER, NORM, gamma_base=WEIGHTS - 1),
    "beta_beyond": change(BUFFER, NORM, beta_base=WEIGHTS - 1),
    "last_write_before_END_beyond": lambda job: Case(
        [
            *job.commands[: PRODUCT + 1],
            Command(
                opcode=Opcode.SOFTMAX,
                fields={
                    **job.commands[SOFTMAX].fields,
                    "signal_enable": 0,
                    "target_base": ACTIVATIONS - 7,
                },
            ),
            command(Opcode.END),
        ],
        BUFFER,
        SOFTMAX,
    ),
    "load_below_the_region": region(LOAD, lambda job: job.region[0] - 8),
    "load_across_the_end_of_the_region": region(LOAD, lambda job: job.region[1] + 1 - 8),
    "load_at_the_end_of_memory": region(LOAD, lambda job: (1 << 64) - 8),
    "misaligned_load": region(LOAD, lambda job: job.a + 4),
    "store_below_the_region": region(STORE, lambda job: job.region[0] - 8),
    "store_across_the_end_of_the_region": region(STORE, lambda job: job.region[1] + 1 - 8),
    "misaligned_store": region(STORE, lambda job: job.outputs[0] + 1),
    "program_outside": lambda job: Case(
        job.commands, ErrorCause.DRAM_REGION, 0, registers={"REGION_LAST": job.program + 1000}
    ),
    "misaligned_program": lambda job: Case(
        job.commands, ErrorCause.DRAM_REGION, 0, registers={"PROGRAM": job.program + 4}
    ),
    **{
        f"{name}_of_{kind}": bus_error(cause, index, response, place)
        for kind, (cause, index, place) in BUS_ERRORS.items()
        for name, response in (("SLVERR", SLVERR), ("DECERR", DECERR))
    },
    "store_waits_for_ever": endless_wait(STORE),
    "product_waits_for_ever": endless_wait(PRODUCT),
    "threshold_waits_for_ever": endless_wait(THRESHOLD),
    "END_waits_for_ever": endless_wait(END),
    "silence_at_the_program": silence(0, lambda job: job.program),
    "silence_at_a_load": silence(LOAD_WEIGHTS, lambda job: job.weights),
    "silence_at_a_store": silence(STORE, lambda job: job.outputs[0]),
}
