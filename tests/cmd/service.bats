#!/usr/bin/env bats
# cmd/service: systemd units, a line of cron, a wrapper for libvirt. They are run
# as they stand, but for the places of the program and of the disks.

load ../helpers
load common

service=$QIMG_SRC/cmd/service

setup() {
  mkdir -p bin vm backup
  ln -s "$QIMG" bin/qimg
  PATH=$PWD/bin:$PATH
  for d in vm/system.qcow2 vm/data.qcow2; do
    qimg create -q -f qcow2 "$d" 1M
    qimg bitmap add -q --drive "$d" nightly
  done
}

# here FILE: a copy of it, for this folder.
here() {
  sed "s:/srv/:$PWD/:g; s:/usr/local/bin:$PWD/bin:g" "$service/$1" >"$1"
}

# count [REPO]: how many points there are.
count() {
  qimg backup list --output json "${1-backup/vm}" | jq '.points | length'
}

# --------------------------------------------------------------- systemd

@test "systemd takes the units" {
  command -v systemd-analyze >/dev/null || skip "there is no systemd"
  here qimg-backup@.service
  here qimg-backup@.timer
  run_apart systemd-analyze verify --man=no "$PWD/qimg-backup@vm.service" \
    "$PWD/qimg-backup@vm.timer"
  echo "$output$stderr"
  [ "$status" = 0 ]
  # It only warns of what it does not know.
  [ -z "$output$stderr" ]
}

# Words of $NAME are split, with their quotes; ${NAME} is one word.
exec_starts() {
  local line name
  # shellcheck source=/dev/null
  . ./vm.conf
  while IFS= read -r line; do
    for name in DRIVES KEEP VERIFY OPTIONS; do
      line=${line//"\$$name"/"${!name}"}
    done
    code=0
    eval "$line" || code=$?
    echo "exit code $code: $line"
    # What systemd goes on after.
    [ $code = 0 ] || grep -x "SuccessExitStatus=$code" qimg-backup@.service
  done < <(sed -n 's/^ExecStart=//p' qimg-backup@.service)
}

@test "what the unit runs, with the configuration that is shown" {
  here vm.conf
  here qimg-backup@.service
  exec_starts
  qimg backup list backup/vm | grep ', 3% of data$'
  [ "$(count)" = 1 ]
  write vm/data.qcow2 'write -P 1 0 64k'
  exec_starts
  run_qimg backup list --output json backup/vm
  json '.points | length == 2 and .[1].type == "incremental"
    and [.[1].drives[] | [.name, .dirty]] == [["system", 0], ["data", 65536]]'
  # A name with a blank, as the file has it.
  mv vm/data.qcow2 'vm/my data.qcow2'
  cat >vm.conf <<'END'
DRIVES='--drive "vm/my data.qcow2"'
BITMAP=nightly
REPOSITORY=backup/data
KEEP="--keep-last 1"
VERIFY=
OPTIONS=
END
  exec_starts
  exec_starts
  [ "$(count backup/data)" = 1 ]
}

# ------------------------------------------------------------------ cron

# night CODE: what cron runs.
night() {
  expect_code "$1" env - "PATH=$PATH" "$(grep '^REPOSITORY=' qimg.cron)" sh -c \
    "$(sed -n 's/^30 1 \* \* \* root //p' qimg.cron)"
}

@test "the line of cron" {
  here qimg.cron
  # It ends a command of cron.
  run -1 grep '^[^#].*%' qimg.cron
  night 0
  says 'backup 000001-' 'removed 0 points'
  [[ $stderr == *"not incremental"* ]]
  write vm/system.qcow2 'write -P 1 0 64k'
  night 0
  # Both are of one day.
  says 'backup 000002-' 'removed 1 point'
  [ -z "$stderr" ]
  [ "$(count)" = 1 ]
  # Where there is no new point, no old one goes.
  rm vm/data.qcow2
  night 0
  [[ $output == "verified 1 point: "* ]]
  [[ $stderr == "qimg: "* ]]
  [ "$(count)" = 1 ]
}

# --------------------------------------------------------------- libvirt

# fake_virsh [SHUTDOWN]: a guest whose state is in ./guest, and its disks.
fake_virsh() {
  echo "${1-running}" >guest
  cat >disks <<END
 Type    Device   Target   Source
----------------------------------------------
 file    disk     vda      $PWD/vm/system.qcow2
 file    disk     vdb      $PWD/vm/my data.qcow2
 file    cdrom    sda      -
 file    cdrom    sdb      $PWD/install.iso
 network disk     vdc      pool/image

END
  mv vm/data.qcow2 'vm/my data.qcow2'
  cat >bin/virsh <<'END'
#!/bin/sh
echo "$*" >>calls
case $1 in
domblklist) cat disks ;;
domstate) cat guest ;;
shutdown) ! grep -q hangs guest || exit 0; echo 'shut off' >guest ;;
start) [ ! -e broken ] && echo running >guest ;;
esac
END
  chmod +x bin/virsh
}

# wrapper CODE ARG...
wrapper() {
  expect_code "$1" "$service/backup-guest" "${@:2}"
}

@test "a guest is shut down, backed up with all disks, and started" {
  fake_virsh
  wrapper 3 vm nightly backup/vm --quiet
  [ "$(<guest)" = running ]
  [ "$(sed 's/ .*//' calls | uniq | xargs)" = \
    "domblklist domstate shutdown domstate start" ]
  write vm/system.qcow2 'write -P 1 0 64k'
  wrapper 0 vm nightly backup/vm
  says "'system', 'my data': incremental, 64 KiB dirty"
  [ "$(<guest)" = running ]
  # One that is off stays off.
  echo "shut off" >guest
  wrapper 0 vm nightly backup/vm
  [ "$(<guest)" = "shut off" ]
  [ "$(count)" = 3 ]
}

@test "a guest is started, too, where its backup fails" {
  fake_virsh
  rm 'vm/my data.qcow2'
  wrapper 1 vm nightly backup/vm
  [[ $stderr == "qimg: "*"my data.qcow2"* ]]
  [ "$(<guest)" = running ]
  [ ! -e backup/vm ]
  qimg create -q -f qcow2 'vm/my data.qcow2' 1M
  wrapper 6 vm nightly backup/vm
  [ "$(<guest)" = running ]
  # A backup was taken, and the guest is down.
  qimg bitmap add -q --drive 'vm/my data.qcow2' nightly
  wrapper 3 vm nightly backup/vm
  touch broken
  wrapper 1 vm nightly backup/vm
  [[ $stderr == *"guest 'vm' could not be started"* ]]
}

@test "a guest that does not shut down, or has no disks, is left alone" {
  fake_virsh "running, hangs"
  SHUTDOWN_SECONDS=0 wrapper 1 vm nightly backup/vm
  [[ $stderr == *"does not shut down; there is no backup"*"see to it" ]]
  [ ! -e backup/vm ]
  [[ $(<calls) != *start* ]]
  rm calls
  sed -i '/ disk /d' disks
  wrapper 1 vm nightly backup/vm
  [[ $stderr == *"has no disks"* ]]
  [[ $(<calls) != *shutdown* ]]
  wrapper 2 vm nightly
}

# So does systemd stop it.
@test "interrupted: nothing is left of the backup, and the guest is started" {
  local pid code=0 n before
  grep -qx KillSignal=SIGTERM "$service/qimg-backup@.service"
  fake_virsh
  mkimage vm/system.qcow2 64M 1
  qimg bitmap add -q --drive vm/system.qcow2 nightly
  before=$(state vm)
  "$service/backup-guest" vm nightly backup/vm -c -m 1 2>err 3>&- &
  pid=$!
  for ((n = 0; n < 1000; n++)); do
    if compgen -G 'backup/vm/points/.partial-*' >/dev/null; then break; fi
    sleep 0.01
  done
  [ "$(<guest)" = "shut off" ]
  kill -TERM "$pid"
  wait "$pid" || code=$?
  cat err
  [ "$code" = 130 ]
  [ "$(<err)" = "qimg: interrupted" ]
  [ "$(<guest)" = running ]
  [ "$before" = "$(state vm)" ]
  [ ! -e backup/vm ]
  # Also before the wrapper knows whom to tell.
  sed 's/^child=\$!/kill -s TERM $$; &/' "$service/backup-guest" >early
  expect_code 130 sh early vm nightly backup/vm --rate 8M
  [ -z "$(ls backup/vm/points 2>/dev/null)" ]
  [ "$(<guest)" = running ]
}

@test "README.md shows what is installed" {
  local line
  while IFS= read -r line; do
    [[ ! $line =~ ^(30|[A-Z]+=) ]] || grep -qxF -- "$line" "$service"/*.c*
  done < <(sed -n '/^## Every night/,/^## What/p' "$QIMG_SRC/README.md")
}
