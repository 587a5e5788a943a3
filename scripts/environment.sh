# Sourced by the scripts beside it. Sets $root, the checkout; `prepare EXTRA` then sets $python, an interpreter of
# an environment that has this checkout and its EXTRA dependencies installed. Speaks on standard error only.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1

fail() {
    echo "$(basename -- "$0"): $*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in python3 python python3.14 python3.13 python3.12 python3.11; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer on PATH; found $(python3 --version 2>/dev/null || echo none)"
}

interpreter_of() {
    for candidate in "$1/bin/python" "$1/Scripts/python.exe"; do
        if [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
}

prepare() {
    extra=$1
    environment=${VIRTUAL_ENV:-$root/.venv}
    python=$(interpreter_of "$environment")
    if [ -z "$python" ]; then
        found=$(find_python) || exit 1
        echo "making a virtual environment in $environment" >&2
        "$found" -m venv "$environment" >&2 ||
            fail "no virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv"
        python=$(interpreter_of "$environment")
    fi
    is_new_enough "$python" || fail "$environment has $("$python" --version), Python 3.11 or newer is needed"

    stamp=$environment/gitvault${extra:+-$extra}.stamp
    state="$root $(cksum <"$root/pyproject.toml")"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$state" ]; then
        echo "installing gitvault${extra:+ ($extra)} and what it needs, once" >&2
        "$python" -m pip install --quiet --disable-pip-version-check --editable "$root${extra:+[$extra]}" >&2 ||
            fail "installation failed; when the message above is about the network, run again with one"
        echo "$state" >"$stamp"
    fi
}
