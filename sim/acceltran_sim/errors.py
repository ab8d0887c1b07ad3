"""What can be wrong with what a user gives."""

__all__ = ["InputError"]


class InputError(ValueError):
    """An input breaks a rule; the message is one line that names the value and the rule."""
