"""Values written as text, on the command line and in the names of methods and metrics."""

import json
from typing import Any


def plain_value(text: str) -> Any:  # noqa: ANN401 - whatever the option takes
    """Read a number, true, false, null or list as in JSON, anything else as a string."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)
