"""The engine: queues, topics, buses, streams. No HTTP, no wire format, no clock, no randomness of its own."""

__version__ = "0.1.0"
