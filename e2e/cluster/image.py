#!/usr/bin/env python3
"""Packs files into a one-layer OCI image archive that containerd imports: no registry and no Docker engine is needed."""
import argparse
import gzip
import hashlib
import io
import json
import os
import tarfile


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, help="the archive to write")
    parser.add_argument("--reference", required=True, help="the image's full name, such as docker.io/local/app:1")
    parser.add_argument("--entrypoint", required=True, action="append", help="program, then its fixed arguments, one option each")
    parser.add_argument("--user", default="", help="UID or UID:GID that the program runs as; root if not given")
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE in the program's environment")
    parser.add_argument("files", nargs="+", metavar="DESTINATION=SOURCE", help="a file to copy; DESTINATION=@TARGET makes a link")
    return parser.parse_args()


class Layer:
    """A reproducible tar: fixed times and owners, parent directories made as needed."""

    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w")
        self.directories = set()
        self.directory("tmp", 0o1777)

    def entry(self, name, kind, mode, size=0, target="", data=None):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size, info.linkname, info.mtime = kind, mode, size, target, 0
        self.tar.addfile(info, data)

    def directory(self, name, mode=0o755):
        if name and name not in self.directories:
            self.directory(os.path.dirname(name))
            self.directories.add(name)
            self.entry(name, tarfile.DIRTYPE, mode)

    def add(self, destination, source):
        name = destination.lstrip("/")
        self.directory(os.path.dirname(name))
        if source.startswith("@"):
            self.entry(name, tarfile.SYMTYPE, 0o777, target=source[1:])
            return
        with open(source, "rb") as file:
            content = file.read()
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        self.entry(name, tarfile.REGTYPE, mode, len(content), data=io.BytesIO(content))

    def content(self):
        self.tar.close()
        return self.buffer.getvalue()


class Archive:
    """The OCI image layout: content-addressed blobs, an index that names the manifest."""

    def __init__(self):
        self.blobs = {}

    def put(self, media_type, content, **extra):
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(content), **extra}

    def write(self, path, manifest):
        index = {"schemaVersion": 2, "manifests": [manifest]}
        with tarfile.open(path, "w") as tar:
            self.member(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
            self.member(tar, "index.json", json.dumps(index).encode())
            for digest, content in self.blobs.items():
                self.member(tar, f"blobs/sha256/{digest}", content)

    @staticmethod
    def member(tar, name, content):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def main():
    options = arguments()
    layer = Layer()
    for file in options.files:
        layer.add(*file.split("=", 1))
    content = layer.content()
    platform = {"architecture": "amd64", "os": "linux"}
    config = {
        **platform,
        "config": {"Entrypoint": options.entrypoint, "User": options.user, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", *options.env]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
        "history": [{"created_by": "image.py"}],
    }
    archive = Archive()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": archive.put("config.v1+json", json.dumps(config).encode()),
        "layers": [archive.put("layer.v1.tar+gzip", gzip.compress(content, 1, mtime=0))],
    }
    names = {"io.containerd.image.name": options.reference, "org.opencontainers.image.ref.name": options.reference.rsplit(":", 1)[1]}
    archive.write(options.output, archive.put("manifest.v1+json", json.dumps(manifest).encode(), annotations=names, platform=platform))


main()
