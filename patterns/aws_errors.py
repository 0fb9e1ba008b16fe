"""What AWS calls an error. The patterns do not import botocore: they ask what is raised for the response it carries."""

from __future__ import annotations

from typing import Any


def error_code(error: Exception) -> str | None:
    """The code of a botocore ClientError, None of any other error."""
    response: Any = getattr(error, "response", {})
    code: str | None = response.get("Error", {}).get("Code")
    return code
