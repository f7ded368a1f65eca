#!/usr/bin/env bash
# Installs the Debian packages still missing for a purpose, or prints the one command that does:
#   debian_packages.sh screen    what Qt, OpenGL and a virtual screen need
#   debian_packages.sh python    what `python3 -m venv` needs
set -euo pipefail

case ${1:-} in
    screen)
        wanted=(xvfb libegl1 libgl1 libgl1-mesa-dri libopengl0 libglib2.0-0 libfontconfig1 libdbus-1-3
            libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
            libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1 fonts-dejavu-core)
        ;;
    python) wanted=(python3-venv) ;;
    *)
        echo "expected 'screen' or 'python', got '${1:-}'" >&2
        exit 2
        ;;
esac

if ! command -v apt-get > /dev/null; then
    [ "$1" = screen ] && exit 0 # not Debian: Qt brings or finds what it needs
    echo "This Python has no ensurepip: install the venv module of your system, then try again." >&2
    exit 1
fi

installed() { # a package, or its namesake from after the change to 64-bit time
    { dpkg-query --show --showformat='${db:Status-Status}\n' "$1" "$1t64" 2> /dev/null || true; } | grep -qx installed
}
missing=()
for package in "${wanted[@]}"; do
    installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
    if ! sudo -n true 2> /dev/null; then
        echo "Debian packages are missing. Install them with this command, then try again:" >&2
        echo "    sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
fi
echo "Installing Debian packages: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes -qq --no-install-recommends "${missing[@]}" > /dev/null
