"""When something is to happen again: schedule expressions, for rules and for EventBridge Scheduler."""

from .expressions import Cron, InvalidScheduleExpression, Rate, parse

__all__ = ["Cron", "InvalidScheduleExpression", "Rate", "parse"]
