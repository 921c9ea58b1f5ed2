#!/bin/sh
# Make the virtual environment $1 with everything in it, and see to the system packages that pip cannot bring.
# As root on Debian or Ubuntu they are installed; otherwise this says which ones are missing, and how to get them.
set -eu

venv=$1
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

find_python() {
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    say "error: Python 3.11 or newer is needed, and none was found (set PYTHON to name one)"
    exit 2
}

# One line per missing package: the Debian package and what fails without it.
missing_packages() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "python3-venv"
    ldconfig -p 2>/dev/null | grep -q 'libcurl\.so\.4 ' || echo "libcurl4"
    ls /usr/share/tesseract-ocr/*/tessdata/eng.traineddata >/dev/null 2>&1 || echo "tesseract-ocr-eng"
    ls /usr/share/tesseract-ocr/*/tessdata/osd.traineddata >/dev/null 2>&1 || echo "tesseract-ocr-osd"
    command -v tesseract >/dev/null 2>&1 || echo "tesseract-ocr"
    # for tests alone, of wrong clocks and of the systemd unit, which are skipped without: named only where they will be
    # installed
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || echo "libfaketime"
        command -v systemd-analyze >/dev/null 2>&1 || echo "systemd"
    fi
}

python=$(find_python)
missing=$(missing_packages | tr '\n' ' ')
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing system packages: $missing"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # shellcheck disable=SC2086 - a list of names
        apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        say "error: these system packages are missing: $missing"
        say "install them with: sudo apt-get install $missing"
        exit 2
    fi
fi

if ! [ -x "$venv/bin/pip" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
say "installing Python packages into $venv (once; this takes a minute)"
"$venv/bin/pip" install --quiet --disable-pip-version-check --editable '.[dev]'
touch "$venv/.ready"
