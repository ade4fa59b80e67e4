"""The chaos run: servers, workers, PostgreSQL and Redis die under load; afterwards everything is counted."""
