"""Triage for customer messages: category, priority, decision and why, in milliseconds."""

__version__ = "0.1.0"
