"""The record that a conversion leaves beside its result."""

from __future__ import annotations

__all__ = ["CONVERSION_FILE"]

CONVERSION_FILE = "conversion.json"
"""What was converted, from where, and what was left out."""
