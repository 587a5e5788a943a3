#!/usr/bin/env python3
"""A real S3 server on this machine: Ceph's radosgw over one monitor and one OSD on a file, without systemd.

    scripts/s3_server.py FOLDER [--port N] [--size GIB] [--while PID] [--user NAME ...]

prints one line of JSON, `{"endpoint": URL, "users": {NAME: [access key, secret key]}}`, when it answers, and serves
until it is interrupted, told to end, or the process PID is gone. FOLDER is made and holds everything; served again from
the same folder, the buckets are still there. Users own what they make and see nothing of each other's. The store keeps
versions and locks objects, as each bucket is told. Debian: apt-get install radosgw ceph-mon ceph-osd ceph-common
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

SECONDS = 120
CONFIG = """\
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{monitor}
mon_initial_members = a
keyring = {folder}/keyring
run_dir = {folder}
log_file = {folder}/$name.log
admin_socket = {folder}/$name.asok
mon_data = {folder}/mon
osd_data = {folder}/osd
rgw_data = {folder}
crash_dir = {folder}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_allow_insecure_global_id_reclaim = true
mon_warn_on_insecure_global_id_reclaim = false
# Settings of the cluster's own take a second each, four pools are eight of them.
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = bluestore
osd_max_object_size = 134217728
bluestore_block_size = {size}
# Nobody's data.
bluestore_fsck_on_mount = false
bdev_enable_discard = false
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_enable_ops_log = false
rgw_enable_usage_log = false
rgw_gc_obj_min_wait = 1
rgw_lc_debug_interval = 0
rgw_dynamic_resharding = false
rgw_s3_auth_use_sts = false
"""


def main() -> int:
    """Serve until somebody wants it to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--size", type=int, default=16, help="GiB, of a file with holes")
    parser.add_argument("--while", type=int, default=0, metavar="PID", dest="during")
    parser.add_argument("--user", action="append", default=[])
    given = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with served(given.folder.resolve(), given.port, given.size << 30, given.user or ["owner"]) as (found, alive):
            print(json.dumps(found), flush=True)
            while alive() and (not given.during or _lives(given.during)):
                time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    return 0


@contextmanager
def served(
    folder: Path, port: int, size: int, users: list[str]
) -> Iterator[tuple[dict[str, object], Callable[[], bool]]]:
    """The server, while in this context: what is printed of it, and whether all of it still runs."""
    config = folder / "ceph.conf"
    new = not config.exists()
    # A monitor lives at the address it was made with.
    monitor = _free_port() if new else int(config.read_text().split("mon_host = v2:127.0.0.1:")[1].split()[0])
    fsid = str(uuid.uuid4()) if new else config.read_text().split("fsid = ")[1].split()[0]
    port = port or _free_port()
    for name in ("mon", "osd"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # Debian 13 builds ceph with a relative one.
    classes = [f"osd_class_dir = {found}\n" for found in Path("/usr/lib").glob("*/rados-classes")]
    text = CONFIG.format(folder=folder, fsid=fsid, monitor=monitor, port=port, size=size)
    config.write_text("".join([text, *classes]))

    def ran(program: str, *arguments: str, own: bool = True) -> str:
        command = [program, *(("-c", str(config)) if own else ()), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    if new:
        keyring, monmap = str(folder / "keyring"), str(folder / "monmap")
        rights = [word for part in ("mon", "osd", "mgr") for word in ("--cap", part, "allow *")]
        for name in ("mon.", "client.admin", "osd.0"):
            make = () if (folder / "keyring").exists() else ("--create-keyring",)
            ran("ceph-authtool", keyring, *make, "--gen-key", "-n", name, *rights, own=False)
        address = f"[v2:127.0.0.1:{monitor}]"
        ran("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap, own=False)
        ran("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        ran("ceph-osd", "--mkfs", "-i", "0", "--no-mon-config", "--osd-uuid", str(uuid.uuid4()))
    with ExitStack() as stack:
        run = (("ceph-mon", "-i", "a"), ("ceph-osd", "-i", "0"), ("radosgw", "-n", "client.admin"))
        programs = [stack.enter_context(_program(*command, config=config)) for command in run]
        endpoint = f"http://127.0.0.1:{port}"
        _answers(endpoint, programs)
        keys = {user: [user, f"secret-of-{user}"] for user in users}
        known = json.loads(ran("radosgw-admin", "user", "list"))
        for user, (access, secret) in keys.items():
            if user not in known:
                named = ("--uid", user, "--display-name", user, "--access-key", access, "--secret-key", secret)
                ran("radosgw-admin", "user", "create", *named)
        yield {"endpoint": endpoint, "users": keys}, lambda: all(program.poll() is None for program in programs)


@contextmanager
def _program(name: str, *arguments: str, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (config.parent / f"{name}.out").open("ab") as output:
        command = [name, "-f", "-c", str(config), *arguments]
        # Out of reach of Ctrl-C, which is for this script: it ends them in order.
        program = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield program
    finally:
        program.terminate()
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def _answers(endpoint: str, programs: list[subprocess.Popen[bytes]]) -> None:
    for _ in range(SECONDS * 20):
        if dead := [program.args for program in programs if program.poll() is not None]:
            raise SystemExit(f"{dead[0]}: ended with {programs[-1].returncode}; see *.log and *.out in the folder")
        try:
            urllib.request.urlopen(endpoint, timeout=SECONDS).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{endpoint}: no answer after {SECONDS} seconds; see *.log and *.out in the folder")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
