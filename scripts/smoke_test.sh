#!/usr/bin/env bash
# Builds the wheel and tries it in an empty environment, away from the sources:
#   smoke_test.sh PYTHON PYTHON-WITH-BUILD
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 builder=$(realpath --no-symlinks "$2") sources=$PWD
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT

echo "== wheel, built from the source distribution"
"$builder" -m build --no-isolation --outdir "$away/dist" . > "$away/build.log" || { cat "$away/build.log"; exit 1; }
wheel=$(ls "$away"/dist/*.whl)
ls -l "$away/dist"

echo "== empty environment"
"$python" -m venv "$away/venv"
"$away/venv/bin/python" -m pip install --quiet --constraint "$sources/constraints.txt" "$wheel"
export PATH="$away/venv/bin:$PATH"
cd "$away"

echo "== import, with neither torch nor Qt"
python - <<'PYTHON'
import sys

import napari_perceive_ir
import perceive_ir
import perceive_ir_training

heavy = sorted({"torch", "open_clip", "timm", "napari", "qtpy"} & set(sys.modules))
assert not heavy, f"importing the package imported {heavy}"
assert "site-packages" in perceive_ir.__file__, perceive_ir.__file__
PYTHON

echo "== command line"
perceive-ir --help > /dev/null
perceive-ir train --help > /dev/null
perceive-ir doctor --json | python -m json.tool > /dev/null

echo "== a small picture"
python - <<'PYTHON'
import numpy as np
from PIL import Image

rows, columns = np.mgrid[:96, :128]
clean = np.stack([rows * 2, columns * 1.5, 128 + 60 * np.sin(columns / 9)], axis=-1)
noisy = clean + np.random.default_rng(1).normal(0, 25, clean.shape)
Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save("noisy.png")
PYTHON
perceive-ir assess noisy.png
perceive-ir restore noisy.png -o restored.png
python - <<'PYTHON'
import numpy as np
from PIL import Image

noisy, restored = (np.asarray(Image.open(name)) for name in ("noisy.png", "restored.png"))
assert restored.shape == noisy.shape and restored.dtype == noisy.dtype, (restored.shape, restored.dtype)
PYTHON

echo "== manifest"
npe2 validate napari-perceive-ir
echo "The wheel works in an empty environment."
