"""The fixtures of the engine's tests, and a store on a small disk."""

from __future__ import annotations

from engine.conftest import engine, new_engine, on_disk

__all__ = ["engine", "new_engine", "on_disk"]
