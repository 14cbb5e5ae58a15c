# Sourced by perf/run.sh and tests/run.sh from the root of the repository: packages that a build needs, and the build.
# Installs only what is missing, and only on systems with apt-get; elsewhere it names what has to be there.

setup_needs="cmake ninja-build gcc libc6-dev pkg-config libsodium-dev libhwloc-dev libyaml-dev libcmocka-dev"

setup_fail() {
  echo "$*" >&2
  exit 2
}

# Runs a command as root: directly or with sudo.
setup_as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    setup_fail "not root and no sudo; please run as root: $*"
  fi
}

setup_packages() {
  command -v dpkg-query >/dev/null || {
    command -v cmake >/dev/null || setup_fail "please install: $setup_needs (Debian's names)"
    return 0
  }
  missing=
  for package in $setup_needs; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  echo "installing:$missing"
  setup_as_root apt-get -q update
  # shellcheck disable=SC2086
  setup_as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install $missing
}

# setup_build PRESET [TARGET]: configure and build; quiet when there is nothing to do.
setup_build() {
  setup_log=$(mktemp)
  cmake --preset "$1" >"$setup_log" 2>&1 || {
    cat "$setup_log" >&2
    rm -f "$setup_log"
    setup_fail "configuring preset $1 failed"
  }
  rm -f "$setup_log"
  cmake --build --preset "$1" --parallel "$(nproc)" --target "${2-all}"
}
