"""A certificate authority for workloads, as istiod and SPIRE have one: short-lived certificates with a SPIFFE identity.

A SPIFFE identity is a URI in the certificate's subject alternative name and nothing else that counts
(https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md).
"""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from beyondlab.kit import check
from beyondlab.mesh.description import spiffe_id
from beyondlab.mesh.xds import Files


@dataclass(frozen=True)
class Identity:
    """A certificate chain and its key, PEM; ``serial`` tells one issue from the next."""

    uri: str
    certificate: str
    key: str
    serial: int
    expires: datetime.datetime


class Authority:
    """A root that signs for one hour at most by default. Keys are P-256, made anew for each certificate."""

    def __init__(self, name: str = "lab root") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._root = (
            self._builder(self._name, self._key.public_key(), hours=24)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = _pem(self._root)
        """What a verifier trusts: the root certificate, PEM."""

    def _builder(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, hours: float) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=hours))
        )

    def issue(self, service: str, *, hours: float = 1.0) -> Identity:
        """A certificate for a service's SPIFFE identity. Raises ValueError for a lifetime that is not positive."""
        check.positive("hours", hours, "hours")
        key = ec.generate_private_key(ec.SECP256R1())
        uri = spiffe_id(service)
        made = (
            self._builder(x509.Name([]), key.public_key(), hours)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Identity(uri, _pem(made), private.decode(), made.serial_number, made.not_valid_after_utc)

    def deliver(self, service: str, files: Files) -> Identity:
        """Issue for ``service`` and put certificate and trust bundle into its sidecar's folder (SDS)."""
        identity = self.issue(service)
        files.publish("trust", SECRET, [{"name": "trust", "validation_context": {"trusted_ca": _inline(self.bundle)}}])
        pair = {"certificate_chain": _inline(identity.certificate), "private_key": _inline(identity.key)}
        files.publish("identity", SECRET, [{"name": "identity", "tls_certificate": pair}])
        return identity

    def client_context(self, identity: Identity | None, folder: Path) -> ssl.SSLContext:
        """A TLS client that trusts this root and shows ``identity``; None: a caller without a certificate.

        SPIFFE has no host names, so none is checked; ``folder`` holds the files that Python's ssl wants.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.bundle)
        if identity is not None:
            file = folder / f"{identity.serial}.pem"
            file.touch(mode=0o600)
            file.write_text(identity.certificate + identity.key)
            context.load_cert_chain(file)
        return context


SECRET = "extensions.transport_sockets.tls.v3.Secret"


def _inline(text: str) -> dict[str, str]:
    return {"inline_string": text}


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip
