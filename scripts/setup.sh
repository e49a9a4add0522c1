#!/bin/sh
# Makes .venv and installs lapel with pinned versions: scripts/setup.sh EXTRAS (cpu | gpu | cpu,dev | gpu,dev).
# Uses uv where it is on the PATH, else venv and pip, each with the settings that it has from its user: UV_TORCH_BACKEND
# says which of PyTorch's builds uv takes. Running it again completes or repairs what is there.
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

if command -v uv >/dev/null 2>&1; then
    install="uv pip install --quiet --python .venv/bin/python"
    uninstall="uv pip uninstall --quiet --python .venv/bin/python"
    backend=${UV_TORCH_BACKEND:-} less="UV_TORCH_BACKEND=cpu"
else
    install=".venv/bin/python -m pip install --quiet --disable-pip-version-check"
    uninstall=".venv/bin/python -m pip uninstall --quiet --yes"
    backend="" less="PyTorch's CPU builds, by pip's own settings"
fi
# As `du -sh .venv` says of cpu,dev; for CUDA are nvidia/ and triton/ below its site-packages. macOS's PyTorch has neither.
case $(uname -s),$extras,$backend in
Darwin,* | *,cpu*,cpu) size="3 GB" ;;
*,cpu*,auto) size="3 GB, or 7 where uv finds a GPU" ;;
*,cpu*,) size="7 GB, 4 of them for CUDA; less: $less" ;;
*) size="7 GB" ;;
esac
echo "setup: installing lapel[$extras] into .venv, in some minutes: $size"
# faiss-cpu and faiss-gpu are one module: whichever is not wanted has to go first.
case $extras in
gpu*) $uninstall faiss-cpu >/dev/null 2>&1 || true ;;
*) $uninstall faiss-gpu >/dev/null 2>&1 || true ;;
esac
told=$(mktemp)
trap 'rm -f "$told"' EXIT
if ! $install --constraint constraints.txt --editable ".[$extras]" 2>"$told"; then
    # uv tells the address ahead of a chain of causes; what else may fail takes more than a line to tell.
    address=$(sed -n 's/.*Failed to fetch: *//p' "$told" | head -n 1)
    if [ -n "$address" ]; then
        echo "setup: $address cannot be reached${backend:+ (UV_TORCH_BACKEND=$backend)}; nothing was installed" >&2
    else
        cat "$told" >&2
    fi
    exit 1
fi
cat "$told" >&2
