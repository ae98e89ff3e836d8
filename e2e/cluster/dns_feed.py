#!/usr/bin/env python3
"""Keeps dnsmasq's host file equal to the cluster's Services: dns_feed.py API_SERVER_URL CA_FILE TOKEN_FILE HOSTS_FILE DNSMASQ_PID_FILE.

A Service answers with its cluster address, a headless one with the addresses of its ready endpoints.
"""
import http.client
import json
import os
import signal
import ssl
import sys
import threading
import time
import urllib.parse


class Feed:
    def __init__(self, api, ca, token, hosts, pid_file):
        self.api, self.hosts, self.pid_file = urllib.parse.urlparse(api), hosts, pid_file
        self.tls = ssl.create_default_context(cafile=ca)
        with open(token) as file:
            self.headers = {"Authorization": "Bearer " + file.read().strip()}
        self.objects = {"services": {}, "endpoints": {}}
        self.synced = set()
        self.changed = threading.Event()

    def get(self, path, timeout):
        connection = http.client.HTTPSConnection(self.api.hostname, self.api.port, context=self.tls, timeout=timeout)
        connection.request("GET", path, headers=self.headers)
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(f"{path}: status {response.status}")
        return response

    def follow(self, resource):
        """Lists, then watches; whatever goes wrong, starts over."""
        while True:
            try:
                listed = json.load(self.get(f"/api/v1/{resource}", 10))
                self.objects[resource] = {self.key(item): item for item in listed["items"]}
                self.synced.add(resource)
                self.changed.set()
                version = listed["metadata"]["resourceVersion"]
                for line in self.get(f"/api/v1/{resource}?watch=true&timeoutSeconds=300&resourceVersion={version}", 330):
                    self.apply(resource, json.loads(line))
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                print(resource, repr(error), flush=True)
                time.sleep(0.5)

    def apply(self, resource, event):
        if event["type"] == "ERROR":
            raise ValueError(event["object"])
        if event["type"] == "DELETED":
            self.objects[resource].pop(self.key(event["object"]), None)
        else:
            self.objects[resource][self.key(event["object"])] = event["object"]
        self.changed.set()

    @staticmethod
    def key(item):
        return item["metadata"]["namespace"], item["metadata"]["name"]

    def lines(self):
        for (namespace, name), service in list(self.objects["services"].items()):
            address = service["spec"].get("clusterIP")
            addresses = [address] if address and address != "None" else self.ready(namespace, name)
            for address in addresses:
                yield f"{address} {name}.{namespace}.svc.cluster.local\n"

    def ready(self, namespace, name):
        subsets = self.objects["endpoints"].get((namespace, name), {}).get("subsets") or []
        return [address["ip"] for subset in subsets for address in subset.get("addresses") or []]

    def write(self):
        content = "".join(sorted(self.lines()))
        with open(self.hosts) as file:
            if file.read() == content:
                return
        with open(self.hosts, "w") as file:
            file.write(content)
        with open(self.pid_file) as file:
            os.kill(int(file.read().split()[0]), signal.SIGHUP)

    def run(self):
        for resource in self.objects:
            threading.Thread(target=self.follow, args=[resource], daemon=True).start()
        while True:
            self.changed.wait()
            self.changed.clear()
            if len(self.synced) == len(self.objects):
                try:
                    self.write()
                except OSError as error:
                    print("write", repr(error), flush=True)
                    self.changed.set()
            time.sleep(0.1)


Feed(*sys.argv[1:]).run()
