"""The subcommands of `sidebus`, a module each: `options(parser)` declares, `run(options)` does it and returns the exit
code.

Exit codes: 0 done; 1 done, and the answer is no (a verdict with defects, a plan that `check` refuses); 2 not done, with
one sentence on stderr that says why. What is slow to import is imported by `run`.
"""


def seed(text: str) -> int | str:
    """A whole number where it is one."""
    return int(text) if text.isascii() and text.isdecimal() else text


class CommandError(Exception):
    """It could not be done; the text is a sentence that says why, or what to give."""
