"""Figures that tests measure and nobody asserts to the digit; they are printed after the tests."""

from __future__ import annotations

FIGURES: list[str] = []
