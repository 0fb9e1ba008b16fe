"""What is wrong with a pattern, said once for each dialect. No HTTP status here: the edge adds code and prefix."""


class InvalidPattern(ValueError):
    """`reason` is AWS's own wording, in most cases the very text of aws/event-ruler with its line and column."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidEventPattern(InvalidPattern):
    """EventBridge: `InvalidEventPatternException`, message "Event pattern is not valid. Reason: …"."""

    def __str__(self) -> str:
        return f"Event pattern is not valid. Reason: {self.reason}"


class InvalidFilterPolicy(InvalidPattern):
    """SNS: `InvalidParameter`, message "Invalid parameter: FilterPolicy: …"."""

    def __str__(self) -> str:
        return f"Invalid parameter: FilterPolicy: {self.reason}"
