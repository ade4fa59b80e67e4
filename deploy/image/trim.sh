#!/bin/sh
# Remove from an environment what its packages bring and a server never reads. Usage: deploy/image/trim.sh ENVIRONMENT
set -eu
cd "$1"/lib/python3*/site-packages

# Tests, and what is for compilers, type checkers and package managers of other systems.
find . -type d \( -name tests -o -name test -o -name __pycache__ \) -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.a' -o -name '*.c' \
    -o -name '*.h' -o -name '*.cpp' -o -name '*.hpp' -o -name '*.f' -o -name '*.f90' -o -name '*.pyf' \
    -o -name '*_tests.*.so' \) -delete

# Where telephone numbers were issued, who makes network cards and who runs telephone networks: we ask for none of them.
rm -rf phonenumbers/geodata phonenumbers/carrierdata
rm -f stdnum/oui.dat stdnum/imsi.dat

# Symbols that nothing links to. The libraries beside a wheel (*.libs) have none worth it.
if command -v strip >/dev/null; then
    find . -name '*.so' -not -path './*.libs/*' -exec strip --strip-unneeded {} +
fi
