#!/usr/bin/env bash
# Tests the plugin with another Qt, or with the oldest napari that is supported:
#   test_elsewhere.sh VENV pyside6|napari07 [PYTEST-ARGUMENT ...]
# The environment .venv-VARIANT holds only what differs; everything else it takes from VENV, so it is quickly made.
set -euo pipefail
cd "$(dirname "$0")/.."
base=$(realpath --no-symlinks "$1") variant=$2
shift 2

case $variant in
    pyside6)
        packages=(pyside6-essentials==6.12.0) expected="PySide6 6.12"
        export QT_API=pyside6 PYTEST_QT_API=pyside6
        ;;
    napari07) packages=(napari==0.7.0) expected="napari 0.7.0" ;;
    *)
        echo "expected 'pyside6' or 'napari07', got '$variant'" >&2
        exit 2
        ;;
esac

venv=.venv-$variant
python=$venv/bin/python
if [ ! -e "$venv/.ready" ]; then
    "$base/bin/python" -m venv --clear "$venv"
    shared=$("$base/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    own=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "import site; site.addsitedir('$shared')" > "$own/shared.pth" # last on the path: what is installed here wins
    "$python" -m pip install --quiet "${packages[@]}"
    touch "$venv/.ready"
fi

export PATH="$PATH:$base/bin" # the commands that the package installs
found=$("$python" -c 'import napari, qtpy; print(f"napari {napari.__version__}, {qtpy.API_NAME} {qtpy.QT_VERSION}")')
echo "== the plugin with $found"
case $found in
    *"$expected"*) ;;
    *)
        echo "expected $expected: remove $venv and try again" >&2
        exit 1
        ;;
esac

# A process for each file: PySide6 gives back None more often than it takes it, and Python 3.11 dies of that in the end.
failed=()
for file in tests/napari_perceive_ir/test_*.py; do
    code=0
    scripts/with_screen.sh "$python" -m pytest --quiet "$file" "$@" || code=$?
    case $code in
        0 | 5) ;; # 5: every test of the file is left out
        *) failed+=("$file") ;;
    esac
done
if ((${#failed[@]})); then
    echo "failed with $found: ${failed[*]}" >&2
    exit 1
fi
