"""Text form of programs.

A line is an opcode and ``name=value`` for each field that is not zero. ``after=semaphore:count``,
with commas between several, stands for the waits, those of which end in ``*`` are for all clusters,
in ``r`` for the rows of a product only and in ``f`` for those that finish sums, and
``signal=semaphore`` for the semaphore to count; ``#`` begins a comment.
"""

from collections.abc import Iterable

from acceltran.arch.commands import BODIES, COMMAND_BYTES, HEADER, WAITS, Opcode
from acceltran_sim.errors import InputError
from acceltran_sim.program.command import Command, Stage, Wait

__all__ = ["assemble", "decode_program", "disassemble", "encode_program", "format_command"]

SUFFIXES = {Stage.START: "", Stage.ROWS: "r", Stage.FINAL: "f"}


def format_command(command: Command) -> str:
    """One line of text that ``assemble`` reads back."""
    fields = {name: value for name, value in command.fields.items() if value}
    words = [command.opcode.name]
    waits = command.waits
    canonical = {
        f"wait{n}_{part}": value
        for n, wait in enumerate(waits)
        for part, value in (
            ("enable", 1),
            ("semaphore", wait.semaphore),
            ("count", wait.count),
            ("everywhere", int(wait.everywhere)),
            ("rows", int(wait.stage == Stage.ROWS)),
            ("final", int(wait.stage == Stage.FINAL)),
        )
        if value
    }
    names = [name for name in fields if name.startswith("wait")]
    if waits and canonical == {name: fields[name] for name in names}:
        words.append("after=" + ",".join(map(_format_wait, waits)))
        fields = {name: value for name, value in fields.items() if name not in names}
    if command.signal is not None:
        words.append(f"signal={command.signal}")
        fields = {k: v for k, v in fields.items() if k not in ("signal", "signal_enable")}
    elif "signal" in fields:
        words.append("signal_enable=0")
    order = [field.name for field in (*HEADER, *BODIES[command.opcode])]
    for name in sorted(fields, key=order.index):
        value = fields[name]
        words.append(f"{name}={value:#x}" if name == "dram_address" else f"{name}={value}")
    return " ".join(words)


def _format_wait(wait: Wait) -> str:
    return f"{wait.semaphore}:{wait.count}{'*' * wait.everywhere}{SUFFIXES[wait.stage]}"


def disassemble(commands: Iterable[Command]) -> str:
    """Text of a program, one line per command."""
    return "".join(f"{format_command(command)}\n" for command in commands)


def assemble(text: str) -> list[Command]:
    """Commands of a text; InputError names the line that breaks a rule."""
    commands = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if words:
            try:
                commands.append(_parse(words))
            except ValueError as error:
                raise InputError(f"Line {number} of the program: {error}") from None
    return commands


def _parse(words: list[str]) -> Command:
    name, *settings = words
    if name not in Opcode.__members__:
        raise ValueError(f"opcode must be one of {', '.join(Opcode.__members__)}, not {name}")
    fields: dict[str, int] = {}

    def put(key: str, value: int) -> None:
        if key in fields:
            raise ValueError(f"{key} must be given once")
        fields[key] = value

    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign:
            raise ValueError(f"a field must be name=value, not {setting}")
        if key == "after":
            pairs = text.split(",")
            if len(pairs) > WAITS:
                raise ValueError(f"after must list at most {WAITS} waits, not {len(pairs)}")
            for n, pair in enumerate(pairs):
                counted = pair[:-1] if pair.endswith(("r", "f")) else pair
                semaphore, _, count = counted.removesuffix("*").partition(":")
                put(f"wait{n}_enable", 1)
                put(f"wait{n}_semaphore", _integer(key, semaphore))
                put(f"wait{n}_count", _integer(key, count))
                put(f"wait{n}_everywhere", int(counted.endswith("*")))
                put(f"wait{n}_rows", int(pair.endswith("r")))
                put(f"wait{n}_final", int(pair.endswith("f")))
        else:
            put(key, _integer(key, text))
    if "signal" in fields:
        fields.setdefault("signal_enable", 1)
    command = Command(
        opcode=Opcode[name], fields={key: value for key, value in fields.items() if value}
    )
    command.encode()
    return command


def _integer(name: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"{name} must be an integer, not {text!r}") from None


def encode_program(commands: Iterable[Command]) -> bytes:
    """Program as it lies in memory."""
    return b"".join(command.encode() for command in commands)


def decode_program(content: bytes) -> list[Command]:
    """Commands of a program in memory; InputError names the command that is illegal."""
    if len(content) % COMMAND_BYTES:
        raise InputError(
            f"A program must be a multiple of {COMMAND_BYTES} bytes, not {len(content)}"
        )
    commands = []
    for start in range(0, len(content), COMMAND_BYTES):
        try:
            commands.append(Command.decode(content[start : start + COMMAND_BYTES]))
        except ValueError as error:
            raise InputError(f"Command {start // COMMAND_BYTES} of the program: {error}") from None
    return commands
