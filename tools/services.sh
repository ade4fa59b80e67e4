#!/bin/sh
# For CI, whose tests need them: start PostgreSQL and Redis where they are installed and do not answer, and install
# Prometheus and Alertmanager, which tests start themselves, where this is root on Debian and they are missing.
set -eu
answers() { python3 -c "import socket; socket.create_connection(('127.0.0.1', $1), 1).close()" 2>/dev/null; }

here() { command -v prometheus >/dev/null && command -v promtool >/dev/null && command -v prometheus-alertmanager >/dev/null; }

if ! here && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -qq -y --no-install-recommends prometheus prometheus-alertmanager >/dev/null ||
        echo "Prometheus could not be installed; the tests that need it will say so." >&2
fi
if ! answers 6379 && command -v redis-server >/dev/null; then
    redis-server --daemonize yes --bind 127.0.0.1 --port 6379 --save "" --appendonly no >/dev/null
fi
if ! answers 5432 && command -v pg_ctlcluster >/dev/null; then
    pg_lsclusters --no-header | while read -r version name _; do
        pg_ctlcluster --skip-systemctl-redirect "$version" "$name" start || true
    done
fi
waited=0
until { answers 6379 && answers 5432; } || [ "$waited" -ge 20 ]; do
    sleep 1
    waited=$((waited + 1))
done
