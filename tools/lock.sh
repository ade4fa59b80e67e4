#!/bin/sh
# Write the lock files: names, versions and hashes for Python 3.11 and newer, and no address.
set -eu
lock() {
    uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header "$@"
}
lock pyproject.toml -o requirements.lock
lock pyproject.toml --extra parquet --extra ray --extra telemetry --group dev -c requirements.lock -o requirements-dev.lock
# PyTorch is installed by itself: its builds differ by machine, and the training needs no particular one.
lock pyproject.toml --group train --override training/without-torch.txt -c requirements.lock -o requirements-train.lock
lock pyproject.toml --group fuzz -c requirements.lock -o requirements-fuzz.lock
lock --group build -c requirements-dev.lock -o requirements-build.lock
# What each extra brings to the image, beside what is in it anyway.
known=$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock)
for extra in minilm parquet ray telemetry; do
    # shellcheck disable=SC2086  # words
    lock pyproject.toml --extra "$extra" -c requirements-dev.lock $known -o "deploy/image/$extra.lock"
    sed -i '/^# The following packages were excluded/,$d' "deploy/image/$extra.lock"
done
# The gateway that firstline is measured beside has an environment of its own.
lock bench/litellm/requirements.in -o bench/litellm/requirements.lock
