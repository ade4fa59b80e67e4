"""Protocols translated: HTTP and the command line."""
