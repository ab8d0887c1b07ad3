"""What each command of an encoder's program is for."""

from collections.abc import Iterable, Mapping

from acceltran.arch.commands import Opcode, OperandSource
from acceltran_sim.program.command import Command
from acceltran_sim.program.footprint import WEIGHT

__all__ = ["OPERATIONS", "operations"]

OPERATIONS = (
    *("load", "query", "key", "value", "scores", "softmax", "context", "attention_output"),
    *("attention_norm", "intermediate", "output", "output_norm", "store"),
)
"""Operations of an encoder, in the order of a layer."""


def operations(commands: Iterable[Command], weights: Mapping[int, str]) -> list[str]:
    """Operation of each command; that of a command that no queue works on is its opcode.

    Products and layer norms with weights are named as their weights are.

    Parameters
    ----------
    commands : iterable of Command
        A program, in order.
    weights : mapping from int to str
        Names of weights by their addresses in DRAM.
    """
    # What was loaded to the weight buffer, the latest last: first vector, end, name.
    loaded: list[tuple[int, int, str]] = []

    def resident(vector: int) -> str:
        return next(name for first, end, name in reversed(loaded) if first <= vector < end)

    names = []
    for command in commands:
        match command.opcode:
            case Opcode.LOAD:
                if command["buffer"] == WEIGHT:
                    first, end = command["base"], command["base"] + command["vectors"]
                    loaded = [old for old in loaded if old[1] <= first or end <= old[0]]
                    loaded.append((first, end, weights[command["dram_address"]]))
                names.append("load")
            case Opcode.MATMUL:
                if command["b_source"] == OperandSource.WEIGHT:
                    names.append(resident(command["b_base"]))
                else:
                    transposed = command["b_source"] == OperandSource.ACTIVATION_TRANSPOSED
                    names.append("scores" if transposed else "context")
            case Opcode.LAYERNORM:
                names.append(resident(command["gamma_base"]))
            case opcode:
                names.append(opcode.name.lower())
    return names
