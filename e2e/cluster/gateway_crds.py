#!/usr/bin/env python3
"""Writes the Gateway API's CustomResourceDefinitions from the JSON schemas in an npm package: gateway_crds.py PACKAGE BUNDLE_VERSION."""
import json
import pathlib
import sys

GROUP = "gateway.networking.k8s.io"
VERSIONS = ("v1", "v1beta1", "v1alpha2")
# kind: (plural, short name, scope)
KINDS = {
    "GatewayClass": ("gatewayclasses", "gc", "Cluster"),
    "Gateway": ("gateways", "gtw", "Namespaced"),
    "HTTPRoute": ("httproutes", None, "Namespaced"),
    "GRPCRoute": ("grpcroutes", None, "Namespaced"),
    "TCPRoute": ("tcproutes", None, "Namespaced"),
    "TLSRoute": ("tlsroutes", None, "Namespaced"),
    "UDPRoute": ("udproutes", None, "Namespaced"),
    "ReferenceGrant": ("referencegrants", "refgrant", "Namespaced"),
    "BackendTLSPolicy": ("backendtlspolicies", "btlspolicy", "Namespaced"),
}


def literal(path):
    """The package's modules hold each schema as one JSON literal after 'const schema = '."""
    text = path.read_text()
    return json.JSONDecoder().raw_decode(text, text.index("const schema = ") + len("const schema = "))[0]


def structural(node):
    """Undoes what the package did to the upstream schema: references, nullable everywhere, and empty defaults turned into null."""
    if isinstance(node, list):
        return [structural(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {}
    for key, value in node.items():
        if key in ("$ref", "$id", "$schema", "nullable"):
            continue
        if key == "properties":
            result[key] = {name: structural(schema) for name, schema in value.items()}
        else:
            result[key] = structural(value)
    choices = result.get("oneOf", [])
    if len(choices) == 2 and any(choice.get("type") == "null" for choice in choices):
        del result["oneOf"]
        result.update(next(choice for choice in choices if choice.get("type") != "null"))
    if "default" in result and result["default"] is None:
        result["default"] = ""
    return result


def mend_supported_features(schema):
    """A GatewayClass lists features as objects since v1.1; Traefik's status would be refused without this."""
    status = schema["properties"].get("status", {}).get("properties", {})
    if "supportedFeatures" in status:
        feature = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
        status["supportedFeatures"] = {"type": "array", "maxItems": 64, "items": feature}


def version(path, name, storage):
    schema = structural(literal(path))
    schema["properties"].update(apiVersion={"type": "string"}, kind={"type": "string"}, metadata={"type": "object"})
    schema.pop("additionalProperties", None)
    mend_supported_features(schema)
    required = [field for field in schema.pop("required", []) if field == "spec"]
    if required:
        schema["required"] = required
    result = {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}}
    if "status" in schema["properties"]:
        result["subresources"] = {"status": {}}
    return result


def definition(package, kind, bundle):
    plural, short, scope = KINDS[kind]
    versions = []
    for name in VERSIONS:
        path = package / GROUP / name / f"{kind}.js"
        if path.exists():
            versions.append(version(path, name, storage=not versions))
    if versions[0]["name"] != "v1":
        # Traefik 3.7 does not start before it can list every kind as v1; the bundle's alpha schema stands in.
        versions[0]["storage"] = False
        versions.insert(0, {**versions[0], "name": "v1", "storage": True})
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List", "categories": ["gateway-api"]}
    if short:
        names["shortNames"] = [short]
    annotations = {
        "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/2466",
        f"{GROUP}/bundle-version": bundle,
        f"{GROUP}/channel": "experimental",
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "annotations": annotations},
        "spec": {"group": GROUP, "scope": scope, "names": names, "versions": versions},
    }


def main():
    package, bundle = pathlib.Path(sys.argv[1]), sys.argv[2]
    items = [definition(package, kind, bundle) for kind in KINDS]
    json.dump({"apiVersion": "v1", "kind": "List", "items": items}, sys.stdout)


main()
