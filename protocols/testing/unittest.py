"""The broker for users of unittest: a mixin, for TestCase and IsolatedAsyncioTestCase alike.

    class OrderTest(SidebusMixin, unittest.TestCase):
        def test_it(self) -> None:
            sqs = self.sidebus.client("sqs")

Each class has a broker, each test an account of its own on it. A test that fails says in a note how to run it again and
what became of its messages.
"""

from __future__ import annotations

import inspect
import os
import unittest
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

from protocols.testing.report import account_of_failure
from protocols.testing.sidebus import REGION, Plan, Sidebus, isolated
from protocols.testing.thread import BrokerThread

if TYPE_CHECKING:
    _Base = unittest.TestCase
else:
    _Base = object  # the class that it is mixed into is a TestCase


class SidebusMixin(_Base):
    """To stand before the TestCase. The options are class attributes; they mean what those of the mark do."""

    sidebus_limits: ClassVar[str] = "relaxed"
    sidebus_region: ClassVar[str] = REGION
    sidebus_seed: ClassVar[int | str | None] = None  # None: SIDEBUS_SEED of the environment, else the test's name
    sidebus_plan: ClassVar[Plan | None] = None
    sidebus_ledger: ClassVar[bool] = True

    sidebus: Sidebus
    _broker: ClassVar[BrokerThread]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls._broker = cls.enterClassContext(BrokerThread(limits=cls.sidebus_limits))

    def setUp(self) -> None:
        super().setUp()
        seed = self.sidebus_seed
        name = f"{os.environ.get('SIDEBUS_SEED', '')}/{self.id()}"
        self.sidebus = self.enterContext(
            isolated(
                self._broker,
                name,
                seed=name if seed is None else seed,
                region=self.sidebus_region,
                plan=self.sidebus_plan,
                ledger=self.sidebus_ledger,
            )
        )

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        name = self.id().rpartition(".")[2]
        test = getattr(self, name, None)
        if test is not None:
            setattr(self, name, self._with_note(test))
        return super().run(result)

    def _with_note(self, test: Callable[..., Any]) -> Callable[..., Any]:
        """The same test, whose failure tells of the broker."""
        if inspect.iscoroutinefunction(test):

            @wraps(test)
            async def told(*arguments: Any) -> Any:
                try:
                    return await test(*arguments)
                except Exception as error:
                    self._tell(error)
                    raise

            return told

        @wraps(test)
        def tell(*arguments: Any) -> Any:
            try:
                return test(*arguments)
            except Exception as error:
                self._tell(error)
                raise

        return tell

    def _tell(self, error: Exception) -> None:
        if not isinstance(error, unittest.SkipTest):
            error.add_note("sidebus: " + account_of_failure(self.sidebus))
