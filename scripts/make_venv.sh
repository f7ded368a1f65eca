#!/usr/bin/env bash
# Makes the virtual environment, or brings it up to date:  make_venv.sh PYTHON FOLDER QT-EXTRA
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 venv=$2 qt=$3

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$python is $("$python" --version 2>&1): Python 3.11 or newer is needed (make PYTHON=python3.12 ...)." >&2
    exit 1
fi
if [ ! -x "$venv/bin/pip" ]; then
    # Debian keeps ensurepip, which venv needs, in a package of its own.
    if ! "$python" -c 'import ensurepip, venv' 2> /dev/null; then
        scripts/debian_packages.sh python
    fi
    "$python" -m venv "$venv"
fi

# The build backend goes in first and pinned, so that building needs no second download.
"$venv/bin/python" -m pip install --quiet --constraint constraints.txt hatchling editables
echo "Installing the package and its tools into $venv (the first time this takes minutes) ..."
"$venv/bin/python" -m pip install --quiet --no-build-isolation --constraint constraints.txt \
    --editable '.[dev]' "napari[$qt]"
