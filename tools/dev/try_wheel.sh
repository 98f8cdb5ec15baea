#!/usr/bin/env bash
# Install a wheel in a clean environment and run the demo from an empty folder.
#
#     bash tools/dev/try_wheel.sh dist/mmtagclip-0.2.0-py3-none-any.whl [PYTHON]
#
# The dependencies are those of PYTHON's environment, which the new one looks at through a .pth
# file, so that torch is not installed a second time. Nothing of the repository is on its path.
set -euo pipefail
wheel=$(realpath "$1")
python=${2:-python}
python=$(command -v "$python")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"$python" -m venv "$place/env"
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
own=$("$place/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$packages" > "$own/dependencies.pth"
"$place/env/bin/python" -m pip install --quiet --no-deps --no-index "$wheel"

mkdir "$place/empty"
cd "$place/empty"
unset PYTHONPATH
"$place/env/bin/python" -c "
import mmtagclip
assert mmtagclip.__file__.startswith('$own'), mmtagclip.__file__"
"$place/env/bin/mmtagclip" models demo
"$place/env/bin/mmtagclip" demo
test "$(find mmtagclip_demo -name '*.png' | wc -l)" = 12
echo "$(basename "$wheel"): installed, and the demo ran"
