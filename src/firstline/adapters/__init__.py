"""Databases, files, clocks and other things of the world, behind the ports."""
