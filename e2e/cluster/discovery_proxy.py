#!/usr/bin/env python3
"""Lets Traefik 3.7 run on Kubernetes 1.20: a loopback proxy that serves discovery.k8s.io/v1 out of the v1beta1 that the API server has.

Every other request goes through unchanged.  It speaks TLS, because Kubernetes clients send no token over plain HTTP.
Usage: discovery_proxy.py PORT API_SERVER_URL CA_FILE CERTIFICATE_FILE KEY_FILE
"""
import http.client
import http.server
import json
import socket
import ssl
import sys
import urllib.parse

NEW, OLD = "discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"
HOP_BY_HOP = {"connection", "content-length", "date", "host", "keep-alive", "transfer-encoding"}


def modern_endpoint(endpoint):
    """v1 has fields where v1beta1 had topology labels, and readers of v1 expect `serving` beside `ready`."""
    topology = endpoint.pop("topology", None) or {}
    if "kubernetes.io/hostname" in topology:
        endpoint.setdefault("nodeName", topology["kubernetes.io/hostname"])
    if "topology.kubernetes.io/zone" in topology:
        endpoint.setdefault("zone", topology["topology.kubernetes.io/zone"])
    conditions = endpoint.setdefault("conditions", {})
    if "ready" in conditions:
        conditions.setdefault("serving", conditions["ready"])


def modern(thing):
    """Turns a slice, a list of them, a watch event or a resource list into its v1 form."""
    if thing.get("apiVersion") == OLD:
        thing["apiVersion"] = NEW
    if thing.get("groupVersion") == OLD:
        thing["groupVersion"] = NEW
    for inner in [thing.get("object"), *(thing.get("items") or [])]:
        if isinstance(inner, dict):
            modern(inner)
    for endpoint in thing.get("endpoints") or []:
        modern_endpoint(endpoint)
    return thing


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def log_error(self, form, *arguments):
        print(self.command, self.path, form % arguments, file=sys.stderr, flush=True)

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (OSError, ssl.SSLError):  # the client went away
            self.close_connection = True

    def forward(self):
        path, _, query = self.path.partition("?")
        translate = path == f"/apis/{NEW}" or path.startswith(f"/apis/{NEW}/")
        if translate and self.command != "GET":
            self.send_error(405, "this proxy only reads discovery.k8s.io/v1")
            return
        if translate:
            path = path.replace(NEW, OLD, 1)
        upstream = self.ask(path + ("?" + query if query else ""), translate)
        if upstream is None:
            return
        try:
            self.answer(upstream.getresponse(), translate, "watch=" in query)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # mid-answer: the client sees a cut stream, as from the API server itself
        finally:
            upstream.close()

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = forward

    def ask(self, path, translate):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP | {"accept-encoding"}}
        if translate:
            headers["Accept"] = "application/json"
        upstream = http.client.HTTPSConnection(self.server.api.hostname, self.server.api.port, context=self.server.upstream_tls)
        try:
            upstream.connect()
            upstream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            upstream.request(self.command, path, body=body or None, headers=headers)
            return upstream
        except (OSError, http.client.HTTPException) as error:
            upstream.close()
            self.send_error(502, f"the API server does not answer: {error}")
            return None

    def answer(self, response, translate, watching):
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        parts = self.translated(response, watching) if translate else iter(lambda: response.read1(65536), b"")
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    @staticmethod
    def translated(response, watching):
        """A watch is a line for each event, passed on at once; everything else is one document."""
        for document in response if watching else [response.read()]:
            yield json.dumps(modern(json.loads(document))).encode() + b"\n"


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64


def main():
    port, api, ca, certificate, key = sys.argv[1:]
    server = Server(("127.0.0.1", int(port)), Handler)
    server.api = urllib.parse.urlparse(api)
    server.upstream_tls = ssl.create_default_context(cafile=ca)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


main()
