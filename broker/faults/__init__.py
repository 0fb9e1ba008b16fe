"""Faults: a plan of rules that says where, how often and what goes wrong. See plan.py and kinds.py."""

from broker.faults.plan import Faults, Hit, Occasion, PlanError

__all__ = ["Faults", "Hit", "Occasion", "PlanError"]
