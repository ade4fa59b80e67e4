"""Grafana's dashboards, written by code: `python -m dashboards` writes deploy/grafana/dashboards.

A dashboard is a list of rows, a row a list of panels, and a panel a title, a sentence or two for whoever is woken up,
a unit and its queries. How that looks in Grafana's JSON is `rendering`'s business. tests/e2e/test_dashboards.py
runs every query against a Prometheus that has watched a firstline under load, and wants an answer from each part of it.
"""
