"""Standard, fair and FIFO queues against the naive model, in memory and on disk.

Where it fails, Hypothesis prints the steps and a line that runs them again (`@reproduce_failure`).
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from engine.machine import (
    FairMachine,
    FairOnDisk,
    FifoMachine,
    FifoOnDisk,
    QueueMachine,
    StandardMachine,
    StandardOnDisk,
)

MACHINES = [StandardMachine, FairMachine, FifoMachine, StandardOnDisk, FairOnDisk, FifoOnDisk]


def run(machine: type[QueueMachine], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("machine", MACHINES)
def test_queues_do_as_the_model_says(machine: type[QueueMachine]) -> None:
    run(machine, examples=15 if machine.on_disk else 25, steps=40)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_queues_do_as_the_model_says_at_length(machine: type[QueueMachine]) -> None:
    run(machine, examples=500, steps=100)
