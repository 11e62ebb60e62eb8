#!/usr/bin/env bash
# Do what a new user does: clone into an empty directory, with an empty HOME, and run the README's commands as they stand there.
#
#   hack/fresh_clone.sh [--binaries DIR] [--twice] [--keep] [--list] [COMMAND...]
#
#   --binaries DIR  a directory with the control plane's programs (`make binaries` says where yours are, with
#                   `.venv/bin/python -m hack.controlplane binaries`), to save the minutes that building takes;
#                   without it they are built, as for a new user
#   --twice         run every command a second time
#   --keep          leave the directory there
#   --list          say the commands and run none
#   COMMAND         a command line; default: those of the README's block `<!-- fresh-clone -->`, with ONCE=1 for `make run`
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
binaries='' rounds=1 keep='' list='' commands=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --binaries) binaries=$(cd "$2" && pwd); shift 2 ;;
    --twice) rounds=2; shift ;;
    --keep) keep=1; shift ;;
    --list) list=1; shift ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) commands+=("$1"); shift ;;
  esac
done
if [[ ${#commands[@]} -eq 0 ]]; then
  mapfile -t commands < <(sed -n '/<!-- fresh-clone -->/,/^$/{/^make /{s/ *#.*//;s/^make run$/make run ONCE=1/;p}}' "$source/README.md")
fi
[[ ${#commands[@]} -gt 0 ]] || { echo "error: no commands found in README.md" >&2; exit 1; }
if [[ -n $list ]]; then printf '%s\n' "${commands[@]}"; exit; fi

place=$(mktemp -d)
finish() {
  status=$?
  if [[ -n $keep ]]; then echo "==> kept in $place"; else chmod -R u+w "$place" && rm -rf "$place"; fi
  exit $status
}
trap finish EXIT
mkdir "$place/home"
git clone --quiet "$source" "$place/clone"
echo "==> $(git -C "$place/clone" log -1 --format='%h %s') in $place/clone"

# The user's own settings of caches and of this project must not help.
run() {
  env -u XDG_CACHE_HOME -u GOPATH -u GOMODCACHE -u GOCACHE -u GOFLAGS -u VIRTUAL_ENV -u PYTHONPATH -u MAKEFLAGS -u MFLAGS -u MAKELEVEL \
    -u CONTROLPLANE_DIRECTORY -u CONTROLPLANE_DOWNLOAD ${binaries:+KUBEBUILDER_ASSETS="$binaries"} HOME="$place/home" \
    bash -c "cd '$place/clone' && $1"
}
for ((round = 1; round <= rounds; round++)); do
  for command in "${commands[@]}"; do
    echo "==> $command"
    start=$SECONDS
    run "$command" || { echo "==> FAILED after $((SECONDS - start)) s: $command" >&2; exit 1; }
    echo "==> passed after $((SECONDS - start)) s: $command"
  done
done
if dirt=$(git -C "$place/clone" status --porcelain) && [[ -n $dirt ]]; then
  echo "==> FAILED: the commands left changes in the tree:" >&2
  echo "$dirt" >&2
  exit 1
fi
echo "==> all passed"
