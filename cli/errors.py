"""What a command says when it cannot do what it was asked to."""


class CliError(Exception):
    """Shown as one clear line, without a traceback; the exit code is 1. `advice` says what to do."""

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
