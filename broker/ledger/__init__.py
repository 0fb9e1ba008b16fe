"""The ledger: what happened to each message. See ledger.py."""

from broker.ledger.ledger import Ledger

__all__ = ["Ledger"]
