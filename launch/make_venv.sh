#!/usr/bin/env bash
# Creates the virtual environment for the Makefile: launch/make_venv.sh PYTHON FOLDER
set -euo pipefail
python=$1 folder=$2

if ! "$python" -c '' 2>/dev/null && command -v pyenv >/dev/null; then
    # pyenv puts a shim for every Python on the PATH; it only runs if that version is selected.
    PYENV_VERSION=$(pyenv versions --bare | grep -E "^${python#python}(\.|$)" | tail -n 1 || true)
    export PYENV_VERSION
fi
if ! "$python" -c '' 2>/dev/null; then
    echo "fakeimg: $python was not found; install Python 3.11 or later, or choose another one: make PYTHON=python3.12" >&2
    exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "fakeimg: $python is $("$python" -V 2>&1), which is too old; fakeimg needs Python 3.11 or later:" \
        "make PYTHON=python3.12" >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then # Debian and Ubuntu have it in a package of its own
    echo "fakeimg: $python has no venv with pip; install it: apt install python3-venv" >&2
    exit 2
fi
echo "fakeimg: setting up $folder (once, about a minute)"
"$python" -m venv "$folder"
export PIP_DISABLE_PIP_VERSION_CHECK=1
"$folder/bin/python" -m pip install --quiet -c constraints.txt 'pip>=25.1'  # the first that knows --group
"$folder/bin/python" -m pip install --quiet -c constraints.txt -e . --group dev
touch "$folder/.ready"
