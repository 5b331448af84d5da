#!/bin/sh
# Installs sshshim for you alone, at ~/.local/bin/sshshim. It needs no root.
#
#     sh install.sh [--version VERSION] [--uninstall] [--help]
#
# SSHSHIM_RELEASES may name another place that has releases as GitHub has them.

set -eu

# A release puts its repository here.
repository=@REPOSITORY@

usage='Usage: sh install.sh [--version VERSION] [--uninstall]

Installs the newest sshshim, or VERSION, at ~/.local/bin/sshshim, or removes it.'

say() { printf '%s\n' "$*"; }
fail() {
  printf 'install: %s\n' "$*" >&2
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# Prints the end of the name of this system's archive.
platform() {
  system=$(uname -s)
  machine=$(uname -m)
  case $machine in
    x86_64 | amd64) arch=x86_64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) fail "there is no sshshim for a $machine processor. With Deno it may run from its source." ;;
  esac
  case $system in
    Linux)
      # Alpine's libc, for instance, cannot run it.
      if has ldd && ldd --version 2>&1 | grep -qi musl; then
        fail "sshshim needs glibc, and this system has musl."
      fi
      say "linux-$arch.tar.gz"
      ;;
    Darwin)
      # A shell under Rosetta sees the wrong processor.
      if [ "$(sysctl -n sysctl.proc_translated 2>/dev/null)" = 1 ]; then arch=aarch64; fi
      say "macos-$arch.tar.gz"
      ;;
    *) fail "there is no sshshim for $system here. For Windows take install.ps1." ;;
  esac
}

# download URL FILE
download() {
  if has curl; then
    case $1 in
      https:*) set -- "$@" --proto =https --tlsv1.2 ;;
    esac
    url=$1 file=$2
    shift 2
    curl -fsSL --retry 2 "$@" -o "$file" -- "$url" || fail "cannot download $url."
  elif has wget; then
    wget -q -O "$2" -- "$1" || fail "cannot download $1."
  else
    fail "neither curl nor wget is here. Install one of them."
  fi
}

sha256() {
  if has sha256sum; then
    set -- "$(sha256sum "$1")"
  elif has shasum; then
    set -- "$(shasum -a 256 "$1")"
  else
    fail "neither sha256sum nor shasum is here to check the download with."
  fi
  say "${1%% *}"
}

install_program() {
  version=$1
  platform=$(platform)
  releases=${SSHSHIM_RELEASES:-}
  if [ -z "$releases" ]; then
    case $repository in
      @*) fail "this copy belongs to no release. Set SSHSHIM_RELEASES to where releases are." ;;
    esac
    releases=https://github.com/$repository/releases
  fi

  work=$(mktemp -d)
  new=
  trap 'rm -rf "$work" ${new:+"$new"}' EXIT
  trap 'exit 1' HUP INT TERM

  if [ -z "$version" ]; then
    download "$releases/latest/download/SHA256SUMS" "$work/SHA256SUMS"
    version=$(sed -n "s/^[0-9a-f]\{64\}  sshshim-\(.*\)-$platform\$/\1/p" "$work/SHA256SUMS")
    [ -n "$version" ] || fail "the newest release has no archive for $platform."
  else
    download "$releases/download/$version/SHA256SUMS" "$work/SHA256SUMS"
  fi
  name=sshshim-$version-$platform
  expected=$(sed -n "s/^\([0-9a-f]\{64\}\)  $name\$/\1/p" "$work/SHA256SUMS")
  [ -n "$expected" ] || fail "release $version has no archive $name."
  download "$releases/download/$version/$name" "$work/$name"
  actual=$(sha256 "$work/$name")
  if [ "$actual" != "$expected" ]; then
    fail "$name is damaged, or not what was released: its SHA-256 is $actual, not $expected." \
      "Nothing was installed. Try again."
  fi
  tar -xzf "$work/$name" -C "$work" || fail "cannot unpack $name in $work. Is the disk full?"

  mkdir -p "$folder" || fail "cannot make the folder $folder."
  # Whatever goes wrong until the last step, an older sshshim stays as it is.
  new=$(mktemp "$folder/.sshshim.XXXXXX") || fail "cannot write in $folder."
  cp "$work/${name%.tar.gz}/sshshim" "$new" || fail "cannot write in $folder. Is the disk full?"
  chmod 755 "$new"
  "$new" --version >/dev/null || fail "the program does not run on this system."
  mv -f "$new" "$program"
  new=

  say "Installed $("$program" --version) at $program."
  case :$PATH: in
    *:"$folder":*) ;;
    *)
      say "That folder is not in your PATH. Add this line to your shell's startup file:"
      say "  export PATH=\"\$HOME/.local/bin:\$PATH\""
      ;;
  esac
}

uninstall() {
  [ -e "$program" ] || fail "there is no $program."
  rm "$program" || fail "cannot remove $program."
  say "Removed $program. The local port's host keys are left in" \
    "${XDG_STATE_HOME:-~/.local/state}/sshshim (on macOS ~/Library/Application Support/sshshim)."
}

main() {
  version='' action=install
  while [ $# -gt 0 ]; do
    case $1 in
      --version)
        version=${2:-}
        case $version in
          '' | *[!0-9A-Za-z.-]*) fail "--version wants a version, such as 0.1.0." ;;
        esac
        shift
        ;;
      --uninstall) action=uninstall ;;
      --help) action=help ;;
      *) fail "there is no option $1. Try --help." ;;
    esac
    shift
  done
  if [ "$action" = help ]; then
    say "$usage"
    return
  fi
  [ -n "${HOME:-}" ] || fail "HOME is not set."
  folder=$HOME/.local/bin
  program=$folder/sshshim
  case $action in
    install) install_program "$version" ;;
    uninstall) uninstall ;;
  esac
}

# Last, so that half of this file does nothing.
main "$@"
