"""How a command can fail other than by bad input."""

from acceltran.arch.registers import ErrorCause

__all__ = ["InternalError", "MachineError"]


class InternalError(RuntimeError):
    """A bug of ours; the message is one sentence."""


class MachineError(RuntimeError):
    """The machine stopped with an error.

    Parameters
    ----------
    cause : ErrorCause
        What ERROR_CAUSE says.
    command : int
        What ERROR_COMMAND says.
    text : str
        The command as text.
    """

    def __init__(self, cause: ErrorCause, command: int, text: str):
        super().__init__(f"The machine stopped with {cause.name} at command {command}: {text}")
        self.cause = cause
        self.command = command
