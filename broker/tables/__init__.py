"""Tables for leases and checkpoints: as much of DynamoDB as the Kinesis Client Library needs, and not a database."""

from broker.tables.service import Tables
from broker.tables.table import Index, Table

__all__ = ["Index", "Table", "Tables"]
