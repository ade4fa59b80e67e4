#!/usr/bin/env bash
# Build the container image with buildah and say how large it is. Needs root, and a network for the packages.
#
#   [sudo] BASE=IMAGE BUILDER=IMAGE EXTRAS=parquet,telemetry IMAGE=NAME tools/image.sh
#
# Without BASE it is Python's image from Docker Hub; where that cannot be reached, a Debian base is made with debootstrap
# and kept as an image beside it; remove that one to have it made anew.
set -euo pipefail
cd "$(dirname "$0")/.."
image=${IMAGE:-localhost/firstline}
extras=${EXTRAS:-}
logs=${TMPDIR:-/tmp}/firstline-base.log
suite=${SUITE:-bookworm}
mirror=${MIRROR:-http://deb.debian.org/debian}
security=${SECURITY_MIRROR:-http://deb.debian.org/debian-security}

work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

die() {
    echo "tools/image.sh: $*" >&2
    exit 2
}

[ "$(id -u)" = 0 ] || die "building with --isolation chroot needs root; with Docker or Podman see docs/guides/container.md."
command -v buildah >/dev/null || die "buildah is not installed."
for extra in ${extras//,/ }; do
    [ -f "deploy/image/$extra.lock" ] || die "EXTRAS: '$extra' is none of minilm, parquet, ray, telemetry."
done

hub_answers() {
    python3 -c 'import socket; socket.create_connection(("registry-1.docker.io", 443), 5).close()' 2>/dev/null
}

# A folder that became an image, without what only a person at a terminal reads.
as_image() { # FOLDER NAME
    local container
    rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/usr/share/{locale,man,info,lintian}/*
    rm -f "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/var/cache/debconf/*-old
    # glibc's tables of character sets, which Python has itself, and bytecode, which the image compiles as far as it is used.
    rm -rf "$1"/usr/lib/*/gconv "$1"/usr/share/zoneinfo/{right,posix}
    find "$1"/usr/lib/python3* -depth -name __pycache__ -exec rm -rf {} +
    find "$1/usr/share/doc" -type f ! -name copyright -delete
    container=$(buildah from scratch)
    buildah add -q "$container" "$1" / >/dev/null
    buildah commit -q "$container" "$2" >/dev/null
    buildah rm "$container" >/dev/null
}

in_debian() { # FOLDER APT-GET'S ARGUMENTS
    local folder=$1
    shift
    DEBIAN_FRONTEND=noninteractive chroot "$folder" apt-get -q -y "$@"
}

debian_bases() {
    command -v debootstrap >/dev/null || die "there is no BASE, Docker Hub cannot be reached, and debootstrap is not installed."
    if ! buildah inspect --type image "$BASE" >/dev/null 2>&1 || ! buildah inspect --type image "$BUILDER" >/dev/null 2>&1; then
        echo "Docker Hub cannot be reached; making a Debian base ($suite)." >&2
        work=$(mktemp -d)
        folder=$work/base
        debootstrap --variant=minbase --include=python3,ca-certificates "$suite" "$folder" "$mirror" >"$logs" 2>&1 ||
            die "debootstrap failed; its output is in $logs."
        echo "deb $security $suite-security main" >>"$folder/etc/apt/sources.list"
        { in_debian "$folder" update && in_debian "$folder" upgrade; } >>"$logs" 2>&1 ||
            die "Debian's security updates cannot be installed; the output is in $logs."
        cp -a "$folder" "$folder.builder"
        as_image "$folder" "$BASE"
        in_debian "$folder.builder" install --no-install-recommends python3-venv binutils >>"$logs" 2>&1 ||
            die "python3-venv and binutils cannot be installed; the output is in $logs."
        as_image "$folder.builder" "$BUILDER"
        rm -rf "$work"
    fi
}

arguments=()
if [ -z "${BASE:-}" ] && ! hub_answers; then
    BASE=localhost/firstline-base:$suite BUILDER=localhost/firstline-builder:$suite
    debian_bases
fi
[ -z "${BASE:-}" ] || arguments+=(--build-arg "BASE=$BASE" --build-arg "BUILDER=${BUILDER:-$BASE}")
# How pip reaches its index here, and whom it trusts; neither becomes part of the image.
[ ! -f /etc/pip.conf ] || arguments+=(--secret "id=pip.conf,src=/etc/pip.conf")
authorities=/etc/ssl/certs/ca-certificates.crt
[ ! -f "$authorities" ] || arguments+=(--volume "$authorities:$authorities:ro")

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/firstline/__init__.py)
revision=$(git rev-parse HEAD 2>/dev/null || true)
buildah bud --isolation chroot --layers --format docker \
    --ignorefile deploy/image/Containerfile.dockerignore -f deploy/image/Containerfile \
    "${arguments[@]}" --build-arg "EXTRAS=$extras" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    -t "$image:$version" -t "$image:latest" . >&2

# The compressed size is the sum of the layers as a registry would keep them.
work=$(mktemp -d)
buildah push -q --format oci "$image:latest" "oci:$work/image"
python3 - "$work/image" "$image:$version" <<'PY'
import json, sys
from pathlib import Path

folder, name = Path(sys.argv[1]), sys.argv[2]
blob = lambda entry: folder / "blobs" / entry["digest"].replace(":", "/")
manifest = json.loads(blob(json.loads((folder / "index.json").read_text())["manifests"][0]).read_text())
user = json.loads(blob(manifest["config"]).read_text())["config"].get("User")
size = sum(layer["size"] for layer in manifest["layers"])
layers = " + ".join(f"{layer['size'] / 1e6:.1f}" for layer in manifest["layers"])
print(json.dumps({"image": name, "compressed_mb": round(size / 1e6, 1), "layers_mb": layers, "user": user}))
PY
