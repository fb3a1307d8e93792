"""The OCI manifest of an adapter and of a document about it."""

import rfc8785

from .adapters import adapter
from .base import IDENTITY
from .kit import b64, case, sha256
from .refusals import sample

IMAGE = "application/vnd.oci.image.manifest.v1+json"


def described(media_type: str, data: bytes) -> dict:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


def manifests() -> None:
    op, tensors = sample()
    manifest, weights = adapter([op], tensors, description="In one line.", license="Apache-2.0")
    text = rfc8785.dumps(manifest)
    title = "org.opencontainers.image.title"
    image = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": "application/vnd.graft.adapter.v1",
        "config": described("application/vnd.graft.adapter.manifest.v1+json", text),
        "layers": [{**described("application/vnd.safetensors", weights), "annotations": {title: "adapter.safetensors"}}],
        "annotations": {
            title: "@kit/adapter",
            "org.opencontainers.image.version": "1.0.0",
            "org.opencontainers.image.description": "In one line.",
            "org.opencontainers.image.licenses": "Apache-2.0",
            "graft.base.name": "kit",
            "graft.base.digest": sha256(rfc8785.dumps(IDENTITY)),
            "graft.base.structure": IDENTITY["structure"],
        },
    }
    data = rfc8785.dumps(image)
    case("oci/adapter", "oci", {"image": image, "digest": sha256(data)}, manifest=text.decode())
    document = b'{"payload":"","signatures":[]}'
    for name, type_ in [
        ("signature", "application/vnd.graft.signature.v1+json"),
        ("attestation", "application/vnd.graft.attestation.v1+json"),
        ("dsse", "application/vnd.dsse.envelope.v1+json"),
        ("oms", "application/vnd.dev.sigstore.bundle.v0.3+json"),
    ]:
        referrer = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "artifactType": type_,
            "config": described("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [described(type_, document)],
            "subject": described(IMAGE, data),
        }
        answer = {"image": referrer, "digest": sha256(rfc8785.dumps(referrer))}
        case(f"oci/{name}", "oci", answer, manifest=text.decode(), about=name, document=b64(document))
