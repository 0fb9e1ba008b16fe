"""A file of a plan, TOML or JSON, as the values that are in it. Only the standard library: small clients import it."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any


class PlanFileError(ValueError):
    """A file that cannot be read; the text says which and why."""


def read_plan_file(path: str | PathLike[str]) -> dict[str, Any]:
    """TOML, or JSON if the name ends so. Moments are texts. Raises PlanFileError."""
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".json":
            document = json.loads(text)
        else:
            import tomllib

            # Once through JSON: TOML's moments become texts, as in JSON.
            document = json.loads(json.dumps(tomllib.loads(text), default=lambda moment: moment.isoformat()))
    except OSError as error:
        raise PlanFileError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:  # JSONDecodeError, TOMLDecodeError, UnicodeDecodeError
        raise PlanFileError(f"{path} is not {'JSON' if path.suffix.lower() == '.json' else 'TOML'}: {error}.") from None
    if not isinstance(document, dict):
        raise PlanFileError(f"{path} must hold an object.")
    return document
