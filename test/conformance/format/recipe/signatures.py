"""JWS and DSSE."""

import hashlib

import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .kit import b64, b64url, case, refused

def signatures() -> None:
    ed = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"kit ed25519").digest())
    es = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"kit p-256").digest(), "big"), ec.SECP256R1())
    raw = ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    point = es.public_key().public_numbers()
    jwks = {
        "Ed25519": {"crv": "Ed25519", "kty": "OKP", "x": b64url(raw)},
        "ES256": {"crv": "P-256", "kty": "EC", "x": b64url(point.x.to_bytes(32, "big")), "y": b64url(point.y.to_bytes(32, "big"))},
    }
    kids = {alg: b64url(hashlib.sha256(rfc8785.dumps(jwk)).digest()) for alg, jwk in jwks.items()}
    for alg, jwk in jwks.items():
        case(f"signature/thumbprint-{alg}", "thumbprint", {"kid": kids[alg]}, jwk=jwk)

    def raw_signature(alg: str, data: bytes, der: bool = False) -> bytes:
        if alg == "Ed25519":
            return ed.sign(data)
        signed = es.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(signed)
        return signed if der else r.to_bytes(32, "big") + s.to_bytes(32, "big")

    payload, typ = rfc8785.dumps({"a": 1}), "graft-manifest+jws"
    encoded = b64url(payload)

    def signed(alg: str, header: dict | bytes | None = None, body: str = encoded) -> dict:
        text = header if isinstance(header, bytes) else rfc8785.dumps({"alg": alg, "kid": kids[alg], "typ": typ, **(header or {})})
        protected = b64url(text)
        return {"protected": protected, "signature": b64url(raw_signature(alg, f"{protected}.{body}".encode()))}

    def envelope(id: str, answer: dict, signatures: list, body: str = encoded, keys=("Ed25519", "ES256"), **more) -> None:
        given = {"envelope": {"payload": body, "signatures": signatures, **more}, "typ": typ, "keys": [jwks[k] for k in keys]}
        case(f"signature/{id}", "jws", answer, **given)

    one, two = signed("Ed25519"), signed("ES256")
    good = lambda *algs: {"payload": b64(payload), "kids": [kids[a] for a in algs]}
    bad, unknown = refused("ERR_SIGNATURE_INVALID"), refused("ERR_KEY_UNKNOWN")
    envelope("ed25519", good("Ed25519"), [one])
    envelope("es256", good("ES256"), [two])
    envelope("eddsa-is-ed25519", good("Ed25519"), [signed("Ed25519", {"alg": "EdDSA"})])
    envelope("two", good("Ed25519", "ES256"), [one, two])
    envelope("refuses-one-bad-of-two", bad, [one, {**two, "signature": one["signature"]}])
    envelope("refuses-an-unknown-signer", unknown, [one, two], keys=("Ed25519",))
    envelope("refuses-a-signer-twice", bad, [one, one])
    envelope("refuses-none", bad, [])
    envelope("refuses-nine", bad, [one] * 9)
    envelope("refuses-an-unprotected-header", bad, [{**one, "header": {"alg": "Ed25519"}}])
    envelope("refuses-another-payload", bad, [one], body=b64url(b"{}"))
    envelope("refuses-padded-base64url", bad, [signed("Ed25519", body=b64url(b"{}") + "=")], body=b64url(b"{}") + "=")
    envelope("refuses-another-member", bad, [one], extra=1)
    for id, header in {
        "alg-none": {"alg": "none"},
        "alg-of-another-key": {"alg": "ES256"},
        "alg-hs256": {"alg": "HS256"},
        "another-typ": {"typ": "graft-attestation+jws"},
        "jwk": {"jwk": jwks["Ed25519"]},
        "jku": {"jku": "https://example.com"},
        "crit-b64": {"crit": ["b64"], "b64": False},
    }.items():
        envelope(f"refuses-{id}", bad, [signed("Ed25519", header)])
    envelope("refuses-no-kid", bad, [signed("Ed25519", rfc8785.dumps({"alg": "Ed25519", "typ": typ}))])
    twice = f'{{"alg":"Ed25519","kid":"{kids["Ed25519"]}","typ":"x","typ":"{typ}"}}'.encode()
    envelope("refuses-a-name-twice", bad, [signed("Ed25519", twice)])

    type_ = "application/vnd.graft.adapter.manifest.v1+json"
    pae = b"DSSEv1 %d %b %d %b" % (len(type_), type_.encode(), len(payload), payload)
    for alg in jwks:
        sig = {"keyid": kids[alg], "sig": b64(raw_signature(alg, pae, der=True))}
        given = {"envelope": {"payload": b64(payload), "payloadType": type_, "signatures": [sig]}, "payloadType": type_, "keys": [jwks[alg]]}
        case(f"dsse/{alg}", "dsse", good(alg), **given)
        plain = {**sig, "sig": b64(raw_signature(alg, payload, der=True))}
        case(f"dsse/refuses-{alg}-over-the-payload-alone", "dsse", bad, **{**given, "envelope": {**given["envelope"], "signatures": [plain]}})
        case(f"dsse/refuses-{alg}-of-another-type", "dsse", bad, **{**given, "payloadType": "text/plain"})
    raw64 = {"keyid": kids["ES256"], "sig": b64(raw_signature("ES256", pae))}
    given = {"envelope": {"payload": b64(payload), "payloadType": type_, "signatures": [raw64]}, "payloadType": type_, "keys": [jwks["ES256"]]}
    case("dsse/refuses-ES256-that-is-not-der", "dsse", bad, **given)
