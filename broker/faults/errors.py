"""What is said of a plan that cannot be, and what a seed is."""

from __future__ import annotations

Seed = int | str


class PlanError(ValueError):
    """A plan or rule that cannot be; the text is a sentence that says why."""
