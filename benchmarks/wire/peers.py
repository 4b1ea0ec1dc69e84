"""nginx and HAProxy, set up to pass requests through as fast as they can: one worker, logs off, connections kept.

No load here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load.recorder import server_cpu_s
from benchmarks.servers import HOST, Server, free_ports
from benchmarks.wire.tools import path_of

NGINX = """\
{user}
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log warn;
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    client_body_buffer_size 4m;
    proxy_buffers 64 64k;
    proxy_buffer_size 64k;
    keepalive_requests 1000000000;
    http2_max_concurrent_streams 1024;
    {servers}
}}
"""

NGINX_REST = """
    upstream up{number} {{ server {host}:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
    server {{
        listen {host}:{port};
        location / {{ proxy_pass http://up{number}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
"""

NGINX_GRPC = """
    upstream up{number} {{ server {host}:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
    server {{
        listen {host}:{port} http2;
        location / {{ grpc_pass grpc://up{number}; }}
    }}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    http-reuse always
"""

HAPROXY_DOOR = """
frontend {name}
    bind {host}:{port}{protocol}
    default_backend to-{name}
backend to-{name}
    server upstream {host}:{upstream}{protocol}
"""


class Peer(Server):
    """A server that is not Python."""

    def start(self, arguments: Sequence[str]) -> None:
        """Run a command."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def nginx(upstreams: dict[str, tuple[str, int]], folder: Path) -> Peer:
    """Start nginx with a door for each upstream.

    Args:
        upstreams: name of the door to protocol (``rest``, ``grpc``) and port behind it.
        folder: for its files.
    """
    peer = Peer("nginx", folder)
    peer.ports = dict(zip(upstreams, free_ports(len(upstreams)), strict=True))
    doors = [
        {"rest": NGINX_REST, "grpc": NGINX_GRPC}[protocol].format(
            number=number, host=HOST, port=peer.ports[name], upstream=port
        )
        for number, (name, (protocol, port)) in enumerate(upstreams.items())
    ]
    user = "user root;" if os.geteuid() == 0 else ""  # else the worker could not read the folder
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, user=user, servers="".join(doors)))
    peer.start([path_of("nginx"), "-c", str(config), "-p", str(folder), "-e", str(folder / "nginx-errors.log")])
    return peer


def haproxy(upstreams: dict[str, tuple[str, int]], folder: Path) -> Peer:
    """Start HAProxy likewise."""
    peer = Peer("haproxy", folder)
    peer.ports = dict(zip(upstreams, free_ports(len(upstreams)), strict=True))
    doors = [
        HAPROXY_DOOR.format(
            name=name,
            host=HOST,
            port=peer.ports[name],
            upstream=port,
            protocol=" proto h2" if protocol == "grpc" else "",
        )
        for name, (protocol, port) in upstreams.items()
    ]
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY + "".join(doors))
    peer.start([path_of("haproxy"), "-db", "-f", str(config)])
    return peer


def tree_cpu_s(pid: int) -> float:
    """User and system time of a process and the processes it has, in seconds (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return server_cpu_s(pid) + sum(tree_cpu_s(int(child)) for child in children)
