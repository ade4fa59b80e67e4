#!/bin/sh
# Make a virtual environment from a lock file and install firstline into it, with uv where it is, else with pip.
# Usage: tools/setup.sh VENV LOCK [PACKAGE]; PACKAGE is installed before the lock's, which then bring no others.
set -eu
venv=$1
lock=$2
first=${3:-}
nodeps=${first:+--no-deps}
python=${PYTHON:-python3}

"$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"firstline needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.12 ...")
PY

if command -v uv >/dev/null 2>&1; then
    [ -x "$venv/bin/python" ] || uv venv -q --python "$python" "$venv"
    [ -z "$first" ] || "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
    [ -z "$first" ] || "$venv/bin/python" -m pip install -q --disable-pip-version-check "$first"
    uv pip install -q --python "$venv/bin/python" $nodeps --require-hashes -r "$lock"
    uv pip install -q --python "$venv/bin/python" --require-hashes -r requirements-build.lock
    uv pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e .
else
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
    [ -z "$first" ] || "$venv/bin/python" -m pip install -q --disable-pip-version-check "$first"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check $nodeps --require-hashes -r "$lock"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements-build.lock
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
