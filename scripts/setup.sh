#!/bin/sh
# Makes .venv and installs lapel with pinned versions: scripts/setup.sh EXTRAS (cpu | gpu | cpu,dev | gpu,dev).
# Uses uv where it is on the PATH, else venv and pip. Running it again completes or repairs what is there.
set -eu
extras=${1:?give the extras, for instance cpu,dev}
cd "$(dirname "$0")/.."

supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'

find_python() {
    for candidate in "${PYTHON:-}" python3.12 python3.13 python3.11 python3 python; do
        if [ -n "$candidate" ] && "$candidate" -c "$supported" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

if ! .venv/bin/python -c "$supported" 2>/dev/null; then
    python=$(find_python)
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --clear --python "${python:->=3.11,<3.14}" .venv
    elif [ -z "$python" ]; then
        echo "setup: no Python 3.11 to 3.13 on the PATH; install one, or name it: make PYTHON=/path/to/python" >&2
        exit 1
    elif ! "$python" -m venv --clear .venv; then
        echo "setup: $python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi

echo "setup: installing lapel[$extras] and its pinned versions into .venv (several minutes and 6 GB the first time)"
if command -v uv >/dev/null 2>&1; then
    install="uv pip install --quiet --python .venv/bin/python"
    uninstall="uv pip uninstall --quiet --python .venv/bin/python"
else
    install=".venv/bin/python -m pip install --quiet --disable-pip-version-check"
    uninstall=".venv/bin/python -m pip uninstall --quiet --yes"
fi
# faiss-cpu and faiss-gpu are one module: whichever is not wanted has to go first.
case $extras in
gpu*) $uninstall faiss-cpu >/dev/null 2>&1 || true ;;
*) $uninstall faiss-gpu >/dev/null 2>&1 || true ;;
esac
$install --constraint constraints.txt --editable ".[$extras]"
