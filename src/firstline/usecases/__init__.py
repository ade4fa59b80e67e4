"""Load, decide, save: what firstline does for its callers, independent of any protocol."""
