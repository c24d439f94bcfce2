"""This is the type of whatever is written as a JSON object: answers of verbs, records, reports."""

from typing import Any

Json = dict[str, Any]
