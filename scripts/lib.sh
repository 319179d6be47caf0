# shellcheck shell=bash
# What scripts/serve and scripts/test share: their own set-up, in the checkout. Sourced, not run.
#
# Everything that takes longer than a moment is a `step`: one line when it begins, a sign of
# life while it lasts, one line with its duration when it ends, and the end of its log when
# it fails.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
LOG="$ROOT/build/setup.log"
NAME="$(basename "$0")"

say() { printf '%s: %s\n' "$NAME" "$*"; }
fail() {
    printf '%s: %s\n' "$NAME" "$*" >&2
    exit 1
}

# step WHAT COMMAND… runs the command with its output in the log.
step() {
    local what="$1" began=$SECONDS pid status=0 seconds shown=-1 next_sign=10
    shift
    mkdir -p "$(dirname "$LOG")"
    printf '== %s: %s\n' "$what" "$*" >"$LOG"
    "$@" >>"$LOG" 2>&1 </dev/null &
    pid=$!
    # shellcheck disable=SC2064  # this pid, not the one of a later step
    trap "kill $pid 2>/dev/null; exit 130" INT TERM
    [ -t 1 ] || say "$what …"
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        seconds=$((SECONDS - began))
        if [ -t 1 ] && [ "$seconds" -gt "$shown" ]; then
            shown=$seconds
            printf '\r\033[K%s: %s … %d s' "$NAME" "$what" "$seconds"
        elif [ ! -t 1 ] && [ "$seconds" -ge "$next_sign" ]; then
            next_sign=$((seconds + 10))
            say "$what … $seconds s: $(tail -n 1 "$LOG" | cut -c 1-60)"
        fi
    done
    wait "$pid" || status=$?
    trap - INT TERM
    [ -t 1 ] && printf '\r\033[K'
    if [ "$status" -ne 0 ]; then
        say "$what failed after $((SECONDS - began)) s; the end of $LOG:" >&2
        tail -n 25 "$LOG" | sed 's/^/    /' >&2
        return "$status"
    fi
    say "$what: done in $((SECONDS - began)) s"
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# install_system_packages WHY PACKAGE… by apt-get when we may, otherwise says the command.
# Never stops the script: what needs them says so itself.
install_system_packages() {
    local why="$1"
    shift
    if ! command -v apt-get >/dev/null; then
        say "$why: please install what your distribution calls $*"
    elif ! is_root; then
        say "$why: please run  sudo apt-get install $*"
    elif ! { step "reading Debian's package lists" apt-get update &&
        step "installing $* ($why)" env DEBIAN_FRONTEND=noninteractive \
            apt-get install --yes --no-install-recommends "$@"; }; then
        say "$why: apt-get could not install $*; going on without"
    fi
}

# find_python sets PYTHON to a Python 3.11, 3.12 or 3.13 (or to the one $PYTHON names).
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        # Run, not only found: pyenv has commands for versions that are not there.
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
            2>/dev/null; then
            PYTHON="$(command -v "$candidate")"
            return
        fi
        [ "$candidate" != "${PYTHON:-}" ] ||
            fail "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13"
    done
    fail "needs Python 3.11, 3.12 or 3.13 and found none. Install one (Debian 12 and later," \
        "Ubuntu 24.04 and later: apt-get install python3 python3-venv; elsewhere" \
        "https://www.python.org/downloads/), or name one with PYTHON=/path/to/python3"
}

# Debian keeps what makes virtual environments in a package of its own.
require_venv_module() {
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null && return
    local package
    package="python$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    install_system_packages "$PYTHON cannot make virtual environments" "$package"
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$PYTHON cannot make virtual environments: it has no ensurepip (package $package)"
}

make_venv() {
    # A virtual environment knows its own path and its Python's; both may have gone.
    if "$VENV/bin/python" -c 'import pip' 2>/dev/null &&
        [ "$(cat "$VENV/.path" 2>/dev/null)" = "$VENV" ]; then
        return
    fi
    find_python
    require_venv_module
    step "making $VENV with $("$PYTHON" --version)" "$PYTHON" -m venv --clear "$VENV" || exit 1
    printf '%s\n' "$VENV" >"$VENV/.path"
}

# pip_install WHAT ARGUMENT… in the environment, every version pinned.
pip_install() {
    local what="$1"
    shift
    # A default of `pip install --user` cannot work in a virtual environment.
    step "$what" env PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
        "$VENV/bin/python" -m pip install --progress-bar off -c constraints.txt "$@"
}

install_project() {
    # The build tools go into the environment too: pip would take them unpinned otherwise.
    pip_install "installing the build tools" hatchling editables &&
        pip_install "installing voice-agent[$1] and what it needs" --no-build-isolation -e ".[$1]"
}

fingerprint() {
    { cat pyproject.toml constraints.txt && "$VENV/bin/python" --version && echo "$*"; } |
        sha256sum
}

# set_up NAME EXTRAS [COMMAND…] makes the environment and installs the project with extras,
# after COMMAND if there is one; done in no time when nothing has changed since.
set_up() {
    local stamp="$VENV/.installed-$1" extras="$2" from="$PWD"
    shift 2
    cd "$ROOT" || exit
    # Of two scripts at once the second waits; what they lock is the checkout's own folder.
    exec 9<"$ROOT"
    if command -v flock >/dev/null && ! flock --nonblock 9; then
        say "waiting for another script that is setting up $VENV"
        flock 9
    fi
    make_venv
    if [ "$(cat "$stamp" 2>/dev/null)" != "$(fingerprint "$extras" "$@")" ]; then
        rm -f "$stamp"
        if [ $# -gt 0 ]; then "$@"; fi
        install_project "$extras" ||
            fail "could not install what it needs. Is there a network? pip is set up with:" \
                "$("$VENV/bin/python" -m pip config list 2>/dev/null | tr '\n' ' ')"
        fingerprint "$extras" "$@" >"$stamp"
    fi
    exec 9<&-
    cd "$from" || exit
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

# install_torch where there is no GPU: with one, pip's own choice is right.
#
# On an index like PyPI torch is a CUDA build of several GB. Its makers' own index has a CPU
# build; it is taken when it answers, else whatever the user's pip finds: a mirror may have
# just that, and its user knows what it holds.
install_torch() {
    if has_gpu; then return; fi
    local index="${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}" version
    version="$(sed -n 's/^torch==//p' constraints.txt)"
    if "$VENV/bin/python" -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$version')" \
        2>/dev/null; then
        return
    fi
    if timeout 10 "$VENV/bin/python" -c \
        'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' \
        "$index/torch/" 2>/dev/null; then
        # Without dependencies: those come from the user's index, at our pinned versions.
        pip_install "installing torch $version for the CPU from $index" \
            --no-deps --index-url "$index" "torch==$version" && return
    fi
    say "no CPU build of torch to be had from $index; taking torch $version as your pip finds" \
        "it, which may be the CUDA build of several GB (TORCH_INDEX_URL names another index)"
}
