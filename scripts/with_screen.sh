#!/usr/bin/env bash
# Runs a command on a virtual screen, where there is the program for it (else on the real one):
#   with_screen.sh COMMAND ...
set -euo pipefail
if command -v xvfb-run > /dev/null; then
    unset WAYLAND_DISPLAY # Qt would prefer it to the virtual screen
    exec xvfb-run -a -s "-screen 0 1280x1024x24" "$@"
fi
exec "$@"
